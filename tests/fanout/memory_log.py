"""A log in lists, with the interface and the promises of the real ones; the suites run on it first.

Cursors survive readers, as they do on disk. ``partitions`` spreads vendor events by key, as Kafka does;
internal topics have one partition each.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from gateway.errors import JournalUnavailable, Poison, Transient
from gateway.log import (
    ALL_NEW,
    Appended,
    Batch,
    Begins,
    Entry,
    LogKind,
    OnAssigned,
    OnRevoked,
    Placed,
    Record,
    Start,
)

_INTERNAL = ("retry.", "dlq.", "replay", "fanout.", "attempts")


class MemoryLog:
    kind: LogKind = "journal"

    def __init__(self, *, partitions: int = 1, now: Callable[[], float] = time.time) -> None:
        self.partitions = partitions
        self.now = now
        self.records: dict[str, list[Record]] = {}
        self.committed: dict[tuple[str, str], int] = {}
        #: Of those that browse.
        self.readers: list[MemoryReader] = []
        #: Of those that joined.
        self.shared: list[MemoryAssigned] = []
        self.cursors = MemoryCursors(self)
        #: Appends and fetches that are still to fail.
        self.failing_appends = 0
        self.failing_fetches = 0
        #: Commits are taken and not kept.
        self.is_forgetting = False
        #: Appends and closing readers wait for an answer that does not come.
        self.is_silent = False
        #: Larger records are refused for good, as a broker does; by topic.
        self.max_bytes: dict[str, int] = {}
        self.appends = 0

    async def append(self, entries: Sequence[Entry]) -> Appended:
        self.appends += 1
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failing_appends:
            self.failing_appends -= 1
            raise JournalUnavailable("the disk says no")
        for entry in entries:
            if _size(entry) > self.max_bytes.get(entry.topic, 2**31):
                raise Poison(f"{entry.topic}: {_size(entry)} bytes are more than the log takes")
            partition = self.partition(entry.topic, entry.key)
            records = self.records.setdefault(partition, [])
            records.append(Record(partition, len(records), self.now(), *entry))
        for reader in [*self.readers, *self.shared]:
            reader.news.set()
        return ALL_NEW

    async def browse(
        self,
        name: str,
        topics: Collection[str],
        *,
        start: Start = "latest",
        positions: Mapping[str, int] | None = None,
    ) -> MemoryReader:
        reader = MemoryReader(self, topics, start, positions)
        self.readers.append(reader)
        return reader

    async def join(
        self, group: str, topics: Collection[str], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> MemoryAssigned:
        """All partitions at once: there are no other members."""
        reader = MemoryAssigned(self, group, topics, on_assigned, on_revoked)
        self.shared.append(reader)
        await reader.assign(self.partitions_of(topics))
        return reader

    def partitions_of(self, topics: Collection[str]) -> set[str]:
        """Return those that can hold records of these topics, whether there are any or not."""
        internal = {topic for topic in topics if topic.startswith(_INTERNAL)}
        events = {f"events-{number}" for number in range(self.partitions)} if set(topics) - internal else set()
        return internal | events

    async def unfinished(self, group_of: Callable[[str], str | None]) -> Mapping[str, int]:
        groups = {topic: group_of(topic) for topic in self.records if topic.startswith(_INTERNAL)}
        return {
            topic: len(self.records[topic]) - self.committed.get((group, topic), 0)
            for topic, group in groups.items()
            if group is not None
        }

    def partition(self, topic: str, key: str) -> str:
        if topic.startswith(_INTERNAL):
            return topic
        return f"events-{zlib.crc32(key.encode()) % self.partitions}"

    def topic(self, topic: str) -> list[Record]:
        return [record for records in self.records.values() for record in records if record.topic == topic]


class MemoryCursors:
    """Positions of cursors, with those of groups."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.loaded: dict[str, set[str]] = {}

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        found = {}
        for partition in self.log.partitions_of(topics) & set(partitions):
            key = (cursor, partition)
            if key not in self.log.committed:
                self.log.committed[key] = _first(self.log.records.get(partition, []), start)
            self.loaded.setdefault(cursor, set()).add(partition)
            found[partition] = Placed(self.log.committed[key])
        return found

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        if partition in self.loaded.get(cursor, ()) and not self.log.is_forgetting:
            key = (cursor, partition)
            self.log.committed[key] = max(offset, self.log.committed[key])

    def committed(self, cursor: str) -> Mapping[str, int]:
        return {name: self.log.committed[cursor, name] for name in self.loaded.get(cursor, ())}

    async def flush(self) -> None:
        if self.log.is_silent:
            await asyncio.Event().wait()

    def release(self, partitions: Collection[str]) -> None:
        for loaded in self.loaded.values():
            loaded -= set(partitions)

    def forget(self, cursor: str) -> None:
        self.loaded.pop(cursor, None)


class MemoryAssigned:
    """The reading of a process: :class:`gateway.log.AssignedReader`."""

    def __init__(
        self, log: MemoryLog, group: str, topics: Collection[str], on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> None:
        self.log = log
        self.group = group
        self.topics = set(topics)
        self.on_assigned = on_assigned
        self.on_revoked = on_revoked
        self.news = asyncio.Event()
        self.paused: set[str] = set()
        self.at: dict[str, int] = {}
        self.new: set[str] = set()

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        self.news.clear()
        if self.log.failing_fetches:
            self.log.failing_fetches -= 1
            raise Transient("the log is away")
        if self.new:
            new, self.new = self.new, set()
            await self.assign(new)
        found = self.next(max_records)
        if not found and wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not found and not self.new:
                        await self.news.wait()
                        self.news.clear()
                        found = self.next(max_records)
        return found

    def next(self, max_records: int) -> Batch:
        return _batch(
            self.log, {name: at for name, at in self.at.items() if name not in self.paused}, self.at, max_records
        )

    def subscribe(self, topics: Collection[str]) -> None:
        new = self.log.partitions_of(topics) - self.log.partitions_of(self.topics)
        self.topics |= set(topics)
        self.new |= new
        self.news.set()

    async def assign(self, partitions: Collection[str]) -> None:
        self.at.update(await self.on_assigned(partitions))
        self.news.set()

    async def rebalance(self, partitions: Collection[str]) -> None:
        """Take partitions away and give them back at the committed offset, as after another process left."""
        for partition in partitions:
            self.at.pop(partition, None)
        await self.on_revoked(partitions)
        await self.assign(partitions)

    def pause(self, partitions: Collection[str]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Collection[str]) -> None:
        self.paused -= set(partitions)
        self.news.set()

    def is_certain(self) -> bool:
        return True

    async def ends(self) -> Mapping[str, int]:
        return {name: len(self.log.records.get(name, [])) for name in self.at}

    def incarnations(self) -> Mapping[str, str]:
        return _incarnations(self.log, self.topics)

    async def close(self) -> None:
        if self.log.is_silent:
            await asyncio.Event().wait()
        if self in self.log.shared:
            self.log.shared.remove(self)


class MemoryReader:
    """A reading position that is nobody's: :class:`gateway.log.LogReader`."""

    def __init__(
        self, log: MemoryLog, topics: Collection[str], start: Start, positions: Mapping[str, int] | None
    ) -> None:
        self.log = log
        self.topics = set(topics)
        self.news = asyncio.Event()
        self.paused: set[str] = set()
        self.only = None if positions is None else frozenset(positions)
        self.at = dict(positions or {})
        for partition in self._partitions():
            self.at.setdefault(partition, _first(log.records[partition], start))

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        self.news.clear()
        if self.log.failing_fetches:
            self.log.failing_fetches -= 1
            raise Transient("the log is away")
        found = self._next(max_records)
        if not found and wait_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not found:
                        await self.news.wait()
                        self.news.clear()
                        found = self._next(max_records)
        return found

    def pause(self, partitions: Collection[str]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Collection[str]) -> None:
        self.paused -= set(partitions)
        self.news.set()

    async def seek(self, partition: str, offset: int) -> None:
        self.at[partition] = offset
        self.news.set()

    async def seek_to_time(self, unix_s: float) -> None:
        for partition in self._partitions():
            records = self.log.records[partition]
            self.at[partition] = next((r.offset for r in records if r.appended_at >= unix_s), len(records))
        self.news.set()

    async def ends(self) -> Mapping[str, int]:
        return {partition: len(self.log.records[partition]) for partition in self._partitions()}

    async def positions(self) -> Mapping[str, int]:
        return {partition: self._position(partition) for partition in self._partitions()}

    def incarnations(self) -> Mapping[str, str]:
        return _incarnations(self.log, self.topics)

    async def close(self) -> None:
        if self.log.is_silent:
            await asyncio.Event().wait()
        if self in self.log.readers:
            self.log.readers.remove(self)

    def _partitions(self) -> list[str]:
        if self.only is not None:
            return sorted(self.only & self.log.records.keys())
        return [name for name, records in self.log.records.items() if any(r.topic in self.topics for r in records)]

    def _position(self, partition: str) -> int:
        return self.at.setdefault(partition, 0)

    def _next(self, max_records: int) -> Batch:
        at = {name: self._position(name) for name in self._partitions() if name not in self.paused}
        return _batch(self.log, at, self.at, max_records, self.topics)


def _batch(
    log: MemoryLog,
    wanted: Mapping[str, int],
    positions: dict[str, int],
    max_records: int,
    topics: Collection[str] | None = None,
) -> Batch:
    """Return what comes next, and move the positions behind it."""
    found: list[Record] = []
    ends = {}
    for partition, first in wanted.items():
        records = log.records.get(partition, [])
        at = first
        while at < len(records) and len(found) < max_records:
            if topics is None or records[at].topic in topics:
                found.append(records[at])
            at += 1
        positions[partition] = at
        if at > first:
            ends[partition] = at
    return Batch(found, (), ends)


def _first(records: Sequence[Record], start: Start | Begins) -> int:
    if isinstance(start, str):
        return 0 if start == "earliest" else len(records)
    since = min(begin.since for begin in start.values())
    return next((record.offset for record in records if record.appended_at >= since), len(records))


def _incarnations(log: MemoryLog, topics: Collection[str]) -> Mapping[str, str]:
    """Of the topics that are there, as a reader of Kafka has them."""
    known = {record.topic for records in log.records.values() for record in records}
    return dict.fromkeys(set(topics) & known, "memory/1")


def _size(entry: Entry) -> int:
    return len(entry.value) + sum(len(name) + len(value) for name, value in entry.headers)
