"""A log in lists for the tests of shared readings: several processes, partitions that move, crashes, holes.

``Shelf`` is what is durable, and belongs to nobody; a ``ListLog`` is what one process has of it. Nothing here waits for
time: a fetch returns at once, or when something was put there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from gateway.errors import Transient
from gateway.log import (
    ALL_NEW,
    Appended,
    Batch,
    Begins,
    Entry,
    Gap,
    LogKind,
    LogReader,
    OnAssigned,
    OnRevoked,
    Placed,
    Record,
    Start,
)
from tests.waiting import turn


class Shelf:
    """Partitions, each with the topics that it can hold, and the durable positions."""

    def __init__(self, partitions: Mapping[str, frozenset[str]]) -> None:
        self.topics = dict(partitions)
        self.records: dict[str, list[Record]] = {name: [] for name in partitions}
        self.floors = dict.fromkeys(partitions, 0)
        self.damaged: dict[str, set[int]] = {name: set() for name in partitions}
        self.positions: dict[tuple[str, str], int] = {}
        self.logs: list[ListLog] = []

    def put(self, partition: str, topics: Sequence[str]) -> None:
        """Append a record of each topic."""
        records = self.records[partition]
        for topic in topics:
            number = len(records)
            records.append(Record(partition, number, 0.0, topic, f"key-{number % 3}", f"{number:032x}", b"{}"))
        for log in self.logs:
            log.wake()

    def holding(self, topics: Collection[str], partitions: Collection[str]) -> list[str]:
        """Those of the partitions that can hold these topics."""
        return sorted(name for name in partitions if not self.topics[name].isdisjoint(topics))

    def read(self, partition: str, position: int, limit: int) -> tuple[list[Record], list[Gap], int]:
        """Records and gaps from an offset on, and the offset behind them."""
        gaps: list[Gap] = []
        if position < (floor := self.floors[partition]):
            gaps.append(Gap(partition, position, floor - 1, "expired"))
            position = floor
        found: list[Record] = []
        for record in self.records[partition][position:]:
            is_damaged = record.offset in self.damaged[partition]
            if len(found) >= limit or (is_damaged and found):
                break
            position = record.offset + 1
            if is_damaged:
                gaps.append(Gap(partition, record.offset, record.offset, "damaged"))
            else:
                found.append(record)
        return found, gaps, position


class ListLog:
    """Implements :class:`gateway.log.EventLog`, but for readers with a name."""

    kind: LogKind = "journal"

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        shelf.logs.append(self)
        self.cursors = ListCursors(shelf)
        #: Partitions that this process has.
        self.mine: set[str] = set()
        self.joined: ListAssigned | None = None
        #: Readings that are open beside the shared one.
        self.browsing: set[ListBrowser] = set()
        self.most_browsing = 0
        #: Fetches that are still to fail.
        self.failing = 0
        #: Records handed out, by reader's name.
        self.read: Counter[str] = Counter()

    def wake(self) -> None:
        if self.joined is not None:
            self.joined.news.set()

    async def append(self, entries: Sequence[Entry]) -> Appended:
        for entry in entries:
            (partition, *_) = self.shelf.holding([entry.topic], self.shelf.topics)
            self.shelf.put(partition, [entry.topic])
        return ALL_NEW

    async def browse(
        self,
        name: str,
        topics: Collection[str],
        *,
        start: Start = "latest",
        positions: Mapping[str, int] | None = None,
    ) -> LogReader:
        assert positions is not None, "only catch-ups browse here"
        reader = ListBrowser(self, name, topics, positions)
        self.browsing.add(reader)
        self.most_browsing = max(self.most_browsing, len(self.browsing))
        return reader

    async def reader(
        self,
        group: str,
        topics: Collection[str],
        *,
        start: Start | Begins = "latest",
        on_revoked: OnRevoked | None = None,
    ) -> LogReader:
        raise NotImplementedError

    async def join(
        self, group: str, topics: Collection[str], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> ListAssigned:
        reader = ListAssigned(self, group, topics, on_assigned, on_revoked)
        await reader.assign(self.shelf.holding(topics, self.mine))
        self.joined = reader
        return reader

    async def give(self, partitions: Collection[str]) -> None:
        """The process gets partitions."""
        self.mine |= set(partitions)
        if self.joined is not None:
            await self.joined.assign(self.shelf.holding(self.joined.topics, partitions))

    async def take_away(self, partitions: Collection[str]) -> None:
        """Another process gets partitions of this one."""
        self.mine -= set(partitions)
        if self.joined is not None:
            await self.joined.revoke(partitions)


class ListCursors:
    """Implements :class:`gateway.log.CursorStore`; what is not flushed goes with the process."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.loaded: dict[str, dict[str, int]] = {}

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        await turn()
        found: dict[str, Placed] = {}
        for name in self.shelf.holding(topics, partitions):
            floor, head = self.shelf.floors[name], len(self.shelf.records[name])
            position = self.shelf.positions.setdefault((cursor, name), head if start == "latest" else floor)
            position = self.loaded.setdefault(cursor, {}).setdefault(name, position)
            gap = Gap(name, position, floor - 1, "expired") if position < floor else None
            found[name] = Placed(max(position, floor), gap)
        return found

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        loaded = self.loaded.get(cursor, {})
        if partition in loaded:
            loaded[partition] = max(loaded[partition], offset)

    def committed(self, cursor: str) -> Mapping[str, int]:
        return self.loaded.get(cursor, {})

    async def flush(self) -> None:
        for cursor, positions in self.loaded.items():
            for name, offset in positions.items():
                self.shelf.positions[cursor, name] = max(offset, self.shelf.positions.get((cursor, name), 0))

    def release(self, partitions: Collection[str]) -> None:
        for positions in self.loaded.values():
            for name in partitions:
                positions.pop(name, None)

    def forget(self, cursor: str) -> None:
        for name, offset in self.loaded.pop(cursor, {}).items():
            self.shelf.positions[cursor, name] = max(offset, self.shelf.positions.get((cursor, name), 0))


class ListAssigned:
    """Implements :class:`gateway.log.AssignedReader`."""

    def __init__(
        self, log: ListLog, group: str, topics: Collection[str], on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> None:
        self.log = log
        self.group = group
        self.topics = set(topics)
        self.at: dict[str, int] = {}
        self.paused: set[str] = set()
        self.news = asyncio.Event()
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._arriving: set[str] = set()
        self._assigning: set[str] = set()

    async def assign(self, partitions: Collection[str]) -> None:
        """Partitions have come."""
        new = {name for name in partitions if name not in self.at and name not in self._assigning}
        if new:
            self._assigning |= new
            offsets = await self._on_assigned(new)
            self._assigning -= new
            self.at.update({name: at for name, at in offsets.items() if name in self.log.mine})
            self.news.set()

    async def revoke(self, partitions: Collection[str]) -> None:
        """Partitions are going."""
        gone = [name for name in partitions if name in self.at]
        for name in gone:
            del self.at[name]
        if gone:
            await self._on_revoked(gone)

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        while True:
            await turn()
            self.news.clear()
            if self.log.failing:
                self.log.failing -= 1
                raise Transient("the log is away")
            arriving, self._arriving = self._arriving, set()
            await self.assign(arriving)
            found = self._next(max_records)
            if found or found.gaps or wait_s <= 0:
                self.log.read[self.group] += len(found)
                return found
            await self.news.wait()

    def _next(self, limit: int) -> Batch:
        found = Batch(gaps=[], ends={})
        gaps: list[Gap] = []
        for name in sorted(self.at):
            if name not in self.paused and len(found) < limit:
                records, missing, end = self.log.shelf.read(name, self.at[name], limit - len(found))
                found += records
                gaps += missing
                self.at[name] = end
        found.gaps, found.ends = gaps, dict(self.at)
        return found

    def subscribe(self, topics: Collection[str]) -> None:
        self.topics |= set(topics)
        self._arriving |= set(self.log.shelf.holding(self.topics, self.log.mine)) - self.at.keys()
        self.news.set()

    def pause(self, partitions: Collection[str]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Collection[str]) -> None:
        self.paused -= set(partitions)
        self.news.set()

    def is_certain(self) -> bool:
        return True

    async def ends(self) -> Mapping[str, int]:
        return {name: len(self.log.shelf.records[name]) for name in self.at}

    def incarnations(self) -> Mapping[str, str]:
        return {}

    async def close(self) -> None:
        self.at.clear()
        if self.log.joined is self:
            self.log.joined = None


class ListBrowser:
    """As much of a :class:`gateway.log.LogReader` as a catch-up needs."""

    def __init__(self, log: ListLog, name: str, topics: Collection[str], positions: Mapping[str, int]) -> None:
        self.log = log
        self.name = name
        self.topics = frozenset(topics)
        self.at = dict(positions)

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        await turn()
        if self.log.failing:
            self.log.failing -= 1
            raise Transient("the log is away")
        found: list[Record] = []
        gaps: list[Gap] = []
        for name in sorted(self.at):
            records, missing, end = self.log.shelf.read(name, self.at[name], max_records - len(found))
            found += [record for record in records if record.topic in self.topics]
            gaps += missing
            self.at[name] = end
            if len(found) >= max_records:
                break
        self.log.read[self.name] += len(found)
        return Batch(found, gaps, dict(self.at))

    async def close(self) -> None:
        self.log.browsing.discard(self)

    def commit(self, partition: str, offset: int) -> None:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError

    def pause(self, partitions: Collection[str]) -> None:
        raise NotImplementedError

    def resume(self, partitions: Collection[str]) -> None:
        raise NotImplementedError

    async def seek(self, partition: str, offset: int) -> None:
        raise NotImplementedError

    async def seek_to_time(self, unix_s: float) -> None:
        raise NotImplementedError

    async def lag(self) -> Mapping[str, int]:
        raise NotImplementedError

    async def ends(self) -> Mapping[str, int]:
        raise NotImplementedError

    async def positions(self) -> Mapping[str, int]:
        raise NotImplementedError

    def incarnations(self) -> Mapping[str, str]:
        raise NotImplementedError
