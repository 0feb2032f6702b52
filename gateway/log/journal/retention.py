"""What goes when the journal is old or full: whole segments, oldest first, as in Kafka.

What a protected cursor has not passed never goes (events that Kafka has not acknowledged): when nothing else is
left to free, the journal is full and says so. Nor do, while such events hold the room, the dead letters of the
protected reader: they are events that Kafka has not acknowledged, too, and would be all that is left to free. They
count by their age alone then. A subscriber's cursor protects nothing: a subscriber that was dead for longer than the
journal keeps must not stop the others or the platform; what it missed is counted (:mod:`.unread`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.store import Store

#: One step frees at most so many segments, so that the commits that wait behind it wait some milliseconds. Ten
#: times more is felt in the answers' p99; ten times less cannot keep pace with large commits.
_STEP: Final = 256


@dataclass(frozen=True, slots=True)
class Retention:
    """The policy.

    Args:
        max_bytes: bound on the used bytes of the file.
        max_age_s: segments older than this go.
        protected: group whose cursor holds back trimming of the events stream; None: nothing does.
        publish_grace_records: with ``protected`` set, acknowledged records beyond the newest so many go early.
    """

    max_bytes: int
    max_age_s: float
    protected: str | None = None
    publish_grace_records: int | None = None


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What went.

    Args:
        stream: its name.
        first: the first offset that is gone.
        below: the first offset that is left.
        segments: heads of what went.
    """

    stream: str
    first: int
    below: int
    segments: Sequence[SegmentInfo]


class Enforcer:
    """Applies a policy to a store.

    Args:
        events_stream: name of the stream that a protected cursor holds back.
        on_trimmed: called whenever something went, whatever becomes of the commit it went for.
    """

    def __init__(
        self, store: Store, policy: Retention, events_stream: str, on_trimmed: Callable[[Trimmed], None]
    ) -> None:
        self._store = store
        self._policy = policy
        self._events = events_stream
        self._dead_letters = f"dlq.{policy.protected}" if policy.protected else None
        self._on_trimmed = on_trimmed
        self._unmeasured = 0
        self._margin = 0
        self.acknowledged = 0  # durable position of the protected cursor
        self.used_bytes = store.used_bytes()

    @property
    def max_bytes(self) -> int:
        """The bound on the used bytes."""
        return self._policy.max_bytes

    def passed(self, positions: Mapping[tuple[str, str], int]) -> None:
        """Positions by (group, stream) have become durable: what the protected one passed may go."""
        position = positions.get((self._policy.protected or "", self._events))
        if position is not None:
            self.acknowledged = position

    def make_room(self, size: int, streams: Collection[str] = ()) -> bool:
        """Free what ``size`` more bytes need. Returns whether there is room now.

        Measures only when what was written since the last look could matter.

        A dead letter of the protected reader is let in past the limit, with what shares its commit: only then can that
        reader pass an event that nobody takes, and what it passes is what frees room. The events that are here bound
        how many these can be.
        """
        self._unmeasured += size
        if self._dead_letters in streams:
            return True
        if self._unmeasured < self._margin:
            return True
        limit = self._policy.max_bytes
        self._margin = 0
        while (used := self._measure()) + size > limit:
            if not self._free_oldest():
                return used + size <= limit or self._is_empty()
        self._margin = min(1024 * 1024, (limit - used) // 4)
        self._unmeasured = size
        return True

    def by_age(self, now: float) -> bool:
        """Drop what is too old, and what was published and need not be kept; one step of it for each stream.

        Returns whether there may be more to drop.
        """
        is_more = False
        self._measure()
        for name, stream in list(self._store.streams.items()):
            below = self._old_below(name, now - self._policy.max_age_s)
            if name == self._events and self._policy.publish_grace_records is not None:
                early = self.acknowledged - self._policy.publish_grace_records
                below = max(below, self._step_end(name, early, stream.head))
            is_more |= self._trim(name, below)
        return is_more

    def _measure(self) -> int:
        self.used_bytes = self._store.used_bytes()
        self._unmeasured = 0
        return self.used_bytes

    def _is_empty(self) -> bool:
        """A single commit larger than the whole limit is stored all the same when nothing else is there."""
        return all(stream.floor == stream.head for stream in self._store.streams.values())

    def _free_oldest(self) -> bool:
        """Trim one step from the stream whose oldest segment is the oldest of all; False when nothing may go."""
        candidates = self._free_to_go()
        if not candidates:
            return False
        name = min(candidates, key=candidates.__getitem__)
        before = self._store.streams[name].floor
        # An eighth at the most: a file near its limit keeps most of what it has.
        freed = max(1, (self._store.streams[name].head - before) // 8)
        return self._trim(name, self._step_end(name, self._limit(name), freed))

    def _free_to_go(self) -> dict[str, float]:
        """The streams whose oldest segment may go for want of room, with its time."""
        free: dict[str, float] = {}
        is_held = False
        for name, stream in self._store.streams.items():
            oldest = self._store.oldest(name) if stream.floor < stream.head else None
            if oldest is not None and self._limit(name) >= oldest.end:
                free[name] = oldest.appended_at
            elif oldest is not None:
                is_held = True
        if is_held and self._dead_letters is not None:
            free.pop(self._dead_letters, None)
        return free

    def _limit(self, name: str) -> int:
        """Trimming of a stream stops here."""
        head = self._store.streams[name].head
        return min(head, self.acknowledged) if self._policy.protected and name == self._events else head

    def _old_below(self, name: str, before: float) -> int:
        stream = self._store.streams[name]
        below = stream.floor
        for number, info in enumerate(self._store.infos(name, stream.floor, stream.head)):
            if info.appended_at >= before or number >= _STEP:
                break
            below = info.end
        return below

    def _step_end(self, name: str, limit: int, most_records: int) -> int:
        """End of at most one step of whole segments below ``limit``, and of about ``most_records``."""
        stream = self._store.streams[name]
        below = stream.floor
        for number, info in enumerate(self._store.infos(name, stream.floor, max(limit, stream.floor))):
            if info.end > limit or number >= _STEP or below - stream.floor >= most_records:
                break
            below = info.end
        return below

    def _trim(self, name: str, below: int) -> bool:
        """Drop whole segments below an offset; returns whether any went."""
        below = min(below, self._limit(name))
        first = self._store.streams[name].floor
        if below <= first:
            return False
        segments = list(self._store.infos(name, first, below))
        floor = self._store.trim(name, below)
        if floor <= first:
            return False
        self._on_trimmed(Trimmed(name, first, floor, [info for info in segments if info.base < floor]))
        return True
