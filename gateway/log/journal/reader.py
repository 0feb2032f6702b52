"""Reading positions in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.errors import NotNow, Transient
from gateway.log import Batch, Gap, OnAssigned, Record
from gateway.log.journal.scan import Scan, Streams
from gateway.log.journal.streams import stream_of


class Source(Streams, Protocol):
    """The part of the journal that readers use; see :class:`.journal.Journal`."""

    def listen(self, reader: JournalReader, stream: str) -> None:
        """Wake a reader when a stream grows.

        Args:
            reader: its :meth:`JournalReader.wake` is called.
            stream: name of the stream.
        """

    def forget(self, reader: JournalReader) -> None:
        """Forget a reader that was closed."""

    async def offset_at(self, stream: str, unix_s: float) -> int:
        """Return the offset of the first record appended at or after a time.

        Args:
            stream: its name.
            unix_s: Unix seconds.
        """


@dataclass(slots=True)
class _Line:
    """One stream of a reader."""

    scan: Scan
    is_paused: bool = False


class _Found(NamedTuple):
    """Records and gaps of one stream that are to be handed out, and the offset behind them."""

    line: _Line
    records: Sequence[Record]
    gaps: Sequence[Gap]
    end: int


class JournalReader:
    """Implements :class:`gateway.log.LogReader` on streams of the journal.

    Args:
        journal: to read.
        positions: the offset at which reading begins, by stream.
        topics: records of other topics are skipped; None reads all.
    """

    def __init__(self, journal: Source, positions: Mapping[str, int], topics: frozenset[str] | None = None) -> None:
        self.topics = topics
        self._journal = journal
        self._lines: dict[str, _Line] = {}
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._is_woken = False
        for stream, position in positions.items():
            self.begin(stream, position)

    def begin(self, stream: str, position: int) -> None:
        """Start reading a stream.

        Args:
            stream: its name.
            position: offset of the first record to read.
        """
        self._lines[stream] = _Line(Scan(self._journal, stream, position))
        self._journal.listen(self, stream)
        self.wake()

    @property
    def streams(self) -> Set[str]:
        """Names of the streams that it reads."""
        return self._lines.keys()

    @property
    def position(self) -> int:
        """Offset of the next record to read; only for a reader of one stream."""
        (line,) = self._lines.values()
        return line.scan.position

    def wake(self) -> None:
        """Make a waiting fetch look again: a stream has grown. Never blocks."""
        self._is_woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """See :meth:`gateway.log.LogReader.fetch`."""
        now = asyncio.get_running_loop().time
        deadline = now() + wait_s
        while True:
            if not self._journal.is_open:
                raise Transient("the journal is closed")
            self._is_woken = False
            try:
                found = await self._look(max_records)
            except NotNow as exc:
                raise Transient(str(exc)) from exc
            if found or found.gaps or (left_s := deadline - now()) <= 0:
                return found
            # A wake during the look is not missed.
            if not self._is_woken and not await self._woken(left_s):
                return found

    async def _woken(self, seconds: float) -> bool:
        """Wait until a stream grows; return False if none did in time."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._waiter
        except TimeoutError:
            return False
        return True

    async def _look(self, limit: int) -> Batch:
        """Look into each stream in turn until ``limit`` wanted records are found, or all heads are reached.

        Positions move only after all streams were read: a caller that is cancelled loses nothing.
        """
        records: list[Record] = []
        gaps: list[Gap] = []
        found: list[_Found] = []
        try:
            for line in list(self._lines.values()):
                if not line.is_paused and limit > 0 and (one := await self._look_into(line, limit)):
                    found.append(one)
                    limit -= len(one.records)
                    records += one.records
                    gaps += one.gaps
        except (Transient, NotNow):
            if not found:
                raise
        for line, _, _, end in found:
            line.scan.position = end
            if len(self._lines) > 1:  # the next look begins with the others
                self._lines[line.scan.stream] = self._lines.pop(line.scan.stream)
        return Batch(records, gaps, {stream: line.scan.position for stream, line in self._lines.items()})

    async def _look_into(self, line: _Line, limit: int) -> _Found | None:
        """Return the next wanted records of a stream and the gaps before them; None if its head is reached."""
        gaps: list[Gap] = []
        position = line.scan.position
        while position < self._journal.head(line.scan.stream):
            part = await line.scan.look(position, limit)
            position = part.end
            if part.gap is not None:
                gaps.append(part.gap)
            elif wanted := self._wanted(part.records):
                return _Found(line, wanted, gaps, position)
            elif not gaps:
                line.scan.position = position
        return _Found(line, (), gaps, position) if gaps else None

    def _wanted(self, records: Sequence[Record]) -> Sequence[Record]:
        return records if self.topics is None else [record for record in records if record.topic in self.topics]

    def pause(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.pause`."""
        for stream in partitions:
            if stream in self._lines:
                self._lines[stream].is_paused = True

    def resume(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.resume`."""
        for stream in partitions:
            if stream in self._lines:
                self._lines[stream].is_paused = False
        self.wake()

    async def seek(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.seek`. The offset is limited to the range of kept records."""
        line = self._lines[partition]
        floor, head = self._journal.floor(partition), self._journal.head(partition)
        line.scan = Scan(self._journal, partition, min(max(offset, floor), head))
        self.wake()

    async def seek_to_time(self, unix_s: float) -> None:
        """See :meth:`gateway.log.LogReader.seek_to_time`."""
        for stream in list(self._lines):
            await self.seek(stream, await self._journal.offset_at(stream, unix_s))

    async def ends(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.ends`."""
        return {stream: self._journal.head(stream) for stream in self._lines}

    async def positions(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.positions`."""
        return {stream: line.scan.position for stream, line in self._lines.items()}

    def incarnations(self) -> Mapping[str, str]:
        """See :meth:`gateway.log.LogReader.incarnations`. A stream of the journal is never created a second time."""
        return {}

    async def close(self) -> None:
        """See :meth:`gateway.log.LogReader.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._journal.forget(self)


class JoinedReader(JournalReader):
    """Implements :class:`gateway.log.AssignedReader`: this process has all streams, and none is ever revoked."""

    def __init__(self, journal: Source, on_assigned: OnAssigned) -> None:
        super().__init__(journal, {})
        self._on_assigned = on_assigned
        self._arriving: set[str] = set()

    def subscribe(self, topics: Collection[str]) -> None:
        """See :meth:`gateway.log.AssignedReader.subscribe`."""
        self._arriving |= {stream_of(topic) for topic in topics} - self.streams
        if self._arriving:
            self.wake()

    def is_certain(self) -> bool:
        """See :meth:`gateway.log.AssignedReader.is_certain`."""
        return True

    async def assign(self) -> None:
        """Ask the owner where reading begins in new streams, and start reading them."""
        while self._arriving:
            arriving = set(self._arriving)
            for stream, offset in (await self._on_assigned(arriving)).items():
                self.begin(stream, offset)
            self._arriving -= arriving

    async def _look(self, limit: int) -> Batch:
        await self.assign()
        return await super()._look(limit)
