"""Retention: removes whole segments, oldest first, by age and when the journal is full, as Kafka does.

Records that a protected cursor has not passed are never removed (events that Kafka has not acknowledged): if no other
records are left, the journal is full, and appends fail with an error that states it. While such events use the room,
the dead letters of the protected reader are not removed for room either: Kafka has not acknowledged these events
either, and they would be the only records left to remove. Only their age counts then. A subscriber's cursor protects
nothing: a subscriber that was down for longer than the retention must not stop the others or the platform; the records
that it missed are counted (:mod:`.expiry`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.storage import Store

#: Of these the last record of a key counts, whatever its age: they are kept for :data:`KEPT_S`, and never make room.
#: Their writers write records again that are older than a part of that time.
KEPT: Final = frozenset({"fanout.subscribers"})
#: A gateway that is switched on once a year has its subscribers. Ten times more would keep each change ever made.
KEPT_S: Final = 365 * 86400.0
#: One step removes at most so many segments, so that waiting commits wait only some milliseconds. Ten times more is
#: visible in the p99 of answers; ten times less cannot keep pace with large commits.
_STEP: Final = 256


@dataclass(frozen=True, slots=True)
class Retention:
    """The policy.

    Args:
        max_bytes: limit of the used bytes of the file.
        max_age_s: segments older than so many seconds are removed.
        protected: group whose cursor limits trimming of the events stream; None if none does.
        publish_grace_records: with ``protected`` set, acknowledged records except the newest so many are removed early.
        ages: shorter ages of single streams, in seconds.
    """

    max_bytes: int
    max_age_s: float
    protected: str | None = None
    publish_grace_records: int | None = None
    ages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Removed records.

    Args:
        stream: its name.
        first: the first removed offset.
        below: the first offset that is left.
        segments: heads of the removed segments.
    """

    stream: str
    first: int
    below: int
    segments: Sequence[SegmentInfo]


class Enforcer:
    """Applies a policy to a store.

    Args:
        store: the writing connection.
        policy: limits.
        events_stream: name of the stream whose trimming a protected cursor limits.
        on_trimmed: called after each removal, also if the commit that needed the room fails later.
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
        """Limit of the used bytes."""
        return self._policy.max_bytes

    def passed(self, positions: Mapping[tuple[str, str], int]) -> None:
        """Note durable positions by (group, stream): records that the protected one has passed may be removed."""
        position = positions.get((self._policy.protected or "", self._events))
        if position is not None:
            self.acknowledged = position

    def make_room(self, size: int, streams: Collection[str] = ()) -> bool:
        """Free room for ``size`` more bytes; return whether there is room now.

        The file is measured only if the bytes written since the last measurement could matter.

        A dead letter of the protected reader is accepted above the limit, with everything that shares its commit: only
        then can that reader pass an event that no broker accepts, and passing events is what frees room. The events in
        the journal limit the number of these dead letters.

        Args:
            size: bytes of records.
            streams: names of the streams that get records.
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
        """Remove records that are too old, or published and no longer needed; one step for each stream.

        Return whether there may be more to remove.
        """
        is_more = False
        self._measure()
        for name, stream in list(self._store.streams.items()):
            below = self._step_end(name, stream.head, before=now - self._kept_s(name))
            if name == self._events and self._policy.publish_grace_records is not None:
                early = self.acknowledged - self._policy.publish_grace_records
                below = max(below, self._step_end(name, early))
            is_more |= self._trim(name, below)
        return is_more

    def _kept_s(self, name: str) -> float:
        """Return for how long the records of a stream are kept, in seconds."""
        if name in KEPT:
            return max(KEPT_S, self._policy.max_age_s)
        return min(self._policy.max_age_s, self._policy.ages.get(name, self._policy.max_age_s))

    def _measure(self) -> int:
        self.used_bytes = self._store.used_bytes()
        self._unmeasured = 0
        return self.used_bytes

    def _is_empty(self) -> bool:
        """Return whether there are no records: then a single commit above the limit is stored anyway."""
        return all(stream.floor == stream.head for stream in self._store.streams.values())

    def _free_oldest(self) -> bool:
        """Trim one step of the stream with the oldest segment; return False if nothing may be removed."""
        candidates = self._free_to_go()
        if not candidates:
            return False
        name = min(candidates, key=candidates.__getitem__)
        before = self._store.streams[name].floor
        # At most an eighth: a file near its limit keeps most of its records.
        freed = max(1, (self._store.streams[name].head - before) // 8)
        return self._trim(name, self._step_end(name, self._limit(name), most_records=freed))

    def _free_to_go(self) -> dict[str, float]:
        """Return the streams whose oldest segment may be removed to free room, each with its time."""
        free: dict[str, float] = {}
        is_held = False
        for name, stream in self._store.streams.items():
            if name in KEPT:
                continue
            oldest = self._store.oldest(name) if stream.floor < stream.head else None
            if oldest is not None and self._limit(name) >= oldest.end:
                free[name] = oldest.appended_at
            elif oldest is not None:
                is_held = True
        if is_held and self._dead_letters is not None:
            free.pop(self._dead_letters, None)
        return free

    def _limit(self, name: str) -> int:
        """Return the offset at which trimming of a stream stops."""
        head = self._store.streams[name].head
        return min(head, self.acknowledged) if self._policy.protected and name == self._events else head

    def _step_end(self, name: str, limit: int, *, before: float | None = None, most_records: float = math.inf) -> int:
        """Return the end of at most one step of whole segments.

        Args:
            name: name of the stream.
            limit: segments below this offset.
            before: segments stored before this time, Unix seconds; None for any.
            most_records: of about so many records.
        """
        floor = below = self._store.streams[name].floor
        for info in islice(self._store.infos(name, floor, max(limit, floor)), _STEP):
            is_young = before is not None and info.appended_at >= before
            if info.end > limit or is_young or below - floor >= most_records:
                break
            below = info.end
        return below

    def _trim(self, name: str, below: int) -> bool:
        """Remove whole segments below an offset; return whether any was removed."""
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
