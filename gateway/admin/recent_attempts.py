"""The newest attempts, in memory: with Kafka no index has them, and a topic is too long to read for each list."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from gateway.fanout.attempts import Attempt

#: Attempts kept: some 20 MB. Ten times more would be a tenth of the memory of a small machine.
KEPT: Final = 50_000


class RecentAttempts:
    """Keeps attempts by event, the newest events."""

    def __init__(self, kept: int = KEPT) -> None:
        #: Every attempt on an event that was stored after this time is known, Unix seconds.
        self.since = float("inf")
        self._kept = kept
        self._count = 0
        self._by_event: OrderedDict[str, list[Attempt]] = OrderedDict()

    def begin(self, since: float) -> None:
        """Announce that attempts from this time on will be added; Unix seconds."""
        if self.since == float("inf"):
            self.since = since

    def add(self, attempt: Attempt) -> None:
        """Keep one; the events whose first attempt is the oldest go."""
        self._by_event.setdefault(attempt.event_id, []).append(attempt)
        self._count += 1
        while self._count > self._kept:
            _, gone = self._by_event.popitem(last=False)
            self._count -= len(gone)
            self.since = max(self.since, gone[-1].at)

    def of(self, event_id: str) -> Sequence[Attempt]:
        """Return those on an event, in the order in which they came."""
        return self._by_event.get(event_id, ())
