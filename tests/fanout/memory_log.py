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
from gateway.log import ALL_NEW, Appended, Begins, Entry, OnRevoked, Record, Start

_INTERNAL = ("retry.", "dlq.", "replay", "fanout.", "attempts")


class MemoryLog:
    def __init__(self, *, partitions: int = 1, now: Callable[[], float] = time.time) -> None:
        self.partitions = partitions
        self.now = now
        self.records: dict[str, list[Record]] = {}
        self.committed: dict[tuple[str, str], int] = {}
        self.readers: list[MemoryReader] = []
        #: Appends and fetches that are still to fail.
        self.failing_appends = 0
        self.failing_fetches = 0
        #: Appends and closing readers wait for an answer that does not come.
        self.is_silent = False
        #: Larger records are refused for good, as a broker does; by topic.
        self.max_bytes: dict[str, int] = {}
        self.appends = 0
        self._browsing = 0

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
        for reader in self.readers:
            reader.news.set()
        return ALL_NEW

    async def reader(
        self,
        group: str,
        topics: Collection[str],
        *,
        start: Start | Begins = "latest",
        on_revoked: OnRevoked | None = None,
    ) -> MemoryReader:
        reader = MemoryReader(self, group, topics, start, on_revoked)
        self.readers.append(reader)
        return reader

    async def browse(self, name: str, topics: Collection[str], *, start: Start = "latest") -> MemoryReader:
        """As a group that nobody else has and nobody will have again."""
        self._browsing += 1
        return await self.reader(f"{name}#{self._browsing}", topics, start=start)

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


class MemoryReader:
    def __init__(
        self, log: MemoryLog, group: str, topics: Collection[str], start: Start | Begins, on_revoked: OnRevoked | None
    ) -> None:
        self.log = log
        self.group = group
        self.topics = set(topics)
        self.start = start
        self.on_revoked = on_revoked
        self.news = asyncio.Event()
        self.paused: set[str] = set()
        self.at: dict[str, int] = {}
        self.fetching = asyncio.Event()
        self.commits: list[tuple[str, int]] = []
        for partition in self._partitions():
            self._position(partition)

    async def fetch(self, *, max_records: int, wait_s: float) -> Sequence[Record]:
        self.news.clear()
        if self.log.failing_fetches:
            self.log.failing_fetches -= 1
            raise Transient("the log is away")
        found = self._next(max_records)
        if not found and wait_s > 0:
            self.fetching.set()
            try:
                async with asyncio.timeout(wait_s):
                    while not found:
                        await self.news.wait()
                        self.news.clear()
                        found = self._next(max_records)
            except TimeoutError:
                pass
        return found

    def commit(self, partition: str, offset: int) -> None:
        self.commits.append((partition, offset))
        key = (self.group, partition)
        self.log.committed[key] = max(offset, self.log.committed.get(key, 0))

    async def flush(self) -> None:
        pass

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

    async def lag(self) -> Mapping[str, int]:
        return {
            partition: len(self.log.records[partition]) - self.log.committed.get((self.group, partition), 0)
            for partition in self._partitions()
        }

    async def ends(self) -> Mapping[str, int]:
        return {partition: len(self.log.records[partition]) for partition in self._partitions()}

    async def positions(self) -> Mapping[str, int]:
        return {partition: self._position(partition) for partition in self._partitions()}

    def incarnations(self) -> Mapping[str, str]:
        """Of the topics that are there, as a reader of Kafka has them."""
        known = {record.topic for records in self.log.records.values() for record in records}
        return dict.fromkeys(self.topics & known, "memory/1")

    async def close(self) -> None:
        if self.log.is_silent:
            await asyncio.Event().wait()
        if self in self.log.readers:
            self.log.readers.remove(self)

    async def rebalance(self, partitions: Collection[str], *, is_cut_short: bool = False) -> None:
        """Take partitions away and give them back at the committed offset, as after another process left.

        ``is_cut_short``: the group waits no longer for what is in flight, and cancels the settling.
        """
        if self.on_revoked is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.0 if is_cut_short else None):
                    await self.on_revoked(partitions)
        for partition in partitions:
            self.at.pop(partition, None)
        self.news.set()

    def _partitions(self) -> list[str]:
        return [name for name, records in self.log.records.items() if any(r.topic in self.topics for r in records)]

    def _position(self, partition: str) -> int:
        if partition not in self.at:
            key = (self.group, partition)
            records = self.log.records[partition]
            if key not in self.log.committed and not isinstance(self.start, str):
                since = min(begin.since for begin in self.start.values())
                self.log.committed[key] = next((r.offset for r in records if r.appended_at >= since), len(records))
            elif key not in self.log.committed and self.start == "latest" and self not in self.log.readers:
                self.log.committed[key] = len(records)
            self.at[partition] = self.log.committed.get(key, 0)
        return self.at[partition]

    def _next(self, max_records: int) -> list[Record]:
        found: list[Record] = []
        for partition in self._partitions():
            if partition in self.paused:
                continue
            records = self.log.records[partition]
            at = self._position(partition)
            while at < len(records) and len(found) < max_records:
                if records[at].topic in self.topics:
                    found.append(records[at])
                at += 1
            self.at[partition] = at
        return found


def _size(entry: Entry) -> int:
    return len(entry.value) + sum(len(name) + len(value) for name, value in entry.headers)
