"""An event on its way to one subscriber: the record, and what became of it so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.parking import Trail
from gateway.fanout.schedule import Place
from gateway.log import Entry, Record

if TYPE_CHECKING:
    from gateway.fanout.lane import Lane, Position

_FRESH: Final = Trail()


class Job:
    """One outstanding event. State, not a value: one is made for every event, on the hot path.

    Args:
        record: as read; its bytes go out unchanged.
        lane: where it came from and reports back to.
        position: its partition's bookkeeping.
        trail: attempts made before it was parked.
        due: monotonic seconds before which it is not attempted.
    """

    __slots__ = ("attempts", "due", "entry", "is_replay", "lane", "place", "position", "record", "trail")

    def __init__(
        self,
        record: Record,
        lane: Lane,
        position: Position,
        *,
        trail: Trail = _FRESH,
        due: float = 0.0,
        is_replay: bool = False,
    ) -> None:
        self.record = record
        self.lane = lane
        self.position = position
        self.trail = trail
        #: Attempts that count against the bound; those made while the breaker probed do not.
        self.attempts = trail.attempts
        self.due = due
        self.is_replay = is_replay
        self.place = Place.GONE
        #: What is to be appended to a retry tier or the dead letters before this one is done.
        self.entry: Entry | None = None

    def note(self, at: float, result: AttemptResult, *, counts: bool) -> None:
        """Keep what one failed attempt told."""
        self.attempts += counts
        self.trail = self.trail.add(at, result, self.attempts)
