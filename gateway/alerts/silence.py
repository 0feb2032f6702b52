"""How long a callback may be silent, learned from its own history. Pure.

The longest pause of each of the last seven days (UTC) is kept. A callback is silent for longer than usual when its
pause exceeds a multiple of the longest of these, and a minimum. For a day after its first call this is not known. A
pause of an outage counts as the limit that it exceeded and no longer: the alert after it comes at twice the limit, and
not at twice the outage. Time in which the gateway did not run is no pause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

DAY_S: Final = 86_400.0
_DAYS: Final = 7


@dataclass(slots=True)
class Rhythm:
    """One callback.

    Args:
        first_at: Unix seconds of its first call.
        last_at: Unix seconds of its last call, or of the start of the gateway if that is later.
        longest: the longest pause of each day, in seconds, by days since 1970.
    """

    first_at: float
    last_at: float
    longest: dict[int, float] = field(default_factory=dict)

    def limit_s(self, now: float, factor: float, least_s: float) -> float | None:
        """Return the pause that is longer than usual, in seconds; None if that is not known yet.

        Args:
            factor: multiple of the longest pause.
            least_s: the limit is at least this, in seconds.
        """
        if now - self.first_at < DAY_S:
            return None
        return max(least_s, factor * max(self.longest.values(), default=0.0))

    def called(self, now: float) -> None:
        """Note a call of the callback."""
        pause_s, today = max(0.0, now - self.last_at), int(now // DAY_S)
        usual_s = max(self.longest.values(), default=pause_s)
        if now - self.first_at >= DAY_S:
            pause_s = min(pause_s, max(2 * usual_s, 900.0))
        self.longest = {day: one for day, one in self.longest.items() if day > today - _DAYS}
        self.longest[today] = max(pause_s, self.longest.get(today, 0.0))
        self.last_at = now


class Rhythms:
    """All callbacks.

    Args:
        kept: what :meth:`document` returned before a restart; anything else is ignored.
        now: Unix seconds.
    """

    def __init__(self, kept: object, now: float) -> None:
        self._counts: dict[str, float] = {}
        self.by_name: dict[str, Rhythm] = {}
        for name, one in kept.items() if isinstance(kept, Mapping) else ():
            try:
                longest = {int(day): float(pause_s) for day, pause_s in one["longest"].items()}
                self.by_name[str(name)] = Rhythm(min(float(one["first_at"]), now), now, longest)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue

    def see(self, counts: Mapping[str, float], now: float) -> None:
        """Compare the number of calls of each callback since the start with what it was.

        Args:
            now: Unix seconds.
        """
        for name, count in counts.items():
            if count > self._counts.get(name, 0.0):
                self.by_name.setdefault(name, Rhythm(now, now)).called(now)
        self._counts = dict(counts)

    def document(self) -> dict[str, Any]:
        """Return what is to be kept over a restart, as JSON has it."""
        return {name: {"first_at": one.first_at, "longest": one.longest} for name, one in self.by_name.items()}
