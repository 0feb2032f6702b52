"""Reading a journal: its streams as a process knows them, and readers with their positions in them.

The newest records of a stream are in memory, shared by all of its readers. Readers that keep up do not use the disk; a
reader that fell behind reads from the file until it is back in the range of the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import JournalUnavailable, NotNow, Transient
from gateway.log import Batch, Gap, OnAssigned, Record, Start
from gateway.log.journal.batch_format import Commit, StreamCache, stream_of
from gateway.log.journal.connection import FileConnection
from gateway.log.journal.following import Writer
from gateway.log.journal.rows import Segment

#: Bytes read from the file at a time by a reader that fell behind.
_READ_BYTES: Final = 1024 * 1024


class Streams:
    """Bounds of all streams as the writer reports them, records of the streams that are read, and a connection.

    Args:
        folder: folder of the file.
        writer: reports the changes.
    """

    def __init__(self, folder: Path, writer: Writer) -> None:
        self.writer = writer
        #: Whether the journal is open for reading.
        self.is_open = False
        self.file = FileConnection(folder)
        self._bounds: dict[str, tuple[int, int]] = {}
        self._caches: dict[str, StreamCache] = {}
        self._listeners: dict[str, set[Callable[[], None]]] = {}

    # -- bounds -------------------------------------------------------------------------------------------------

    def head(self, stream: str) -> int:
        """Return the offset that the next record gets."""
        return self._bounds.get(stream, (0, 0))[1]

    def floor(self, stream: str) -> int:
        """Return the offset of the first record kept, as reported by the writer; the file may be ahead of it."""
        return self._bounds.get(stream, (0, 0))[0]

    def beginning(self, stream: str, start: Start) -> int:
        """Return the head for "latest", the floor for "earliest"."""
        return self.head(stream) if start == "latest" else self.floor(stream)

    def streams(self) -> list[str]:
        """Return the names of all streams."""
        return list(self._bounds)

    async def sync(self) -> None:
        """Return when all changes that the writer made before this call are known: :meth:`floor` is that of the file.

        Raises:
            JournalUnavailable: the journal is closed, or its writer is unavailable.
        """
        self._check_open()
        await self.writer.sync()

    def _check_open(self) -> None:
        if not self.is_open:
            raise JournalUnavailable("the journal is closed: the gateway is stopping")

    # -- newest records -----------------------------------------------------------------------------------------

    def listen(self, stream: str, wake: Callable[[], None]) -> None:
        """Keep the newest records of a stream in memory.

        Args:
            stream: its name.
            wake: called when it grows.
        """
        self._listeners.setdefault(stream, set()).add(wake)
        self._caches.setdefault(stream, StreamCache(self.head(stream)))

    def forget(self, streams: Collection[str], wake: Callable[[], None]) -> None:
        """End what :meth:`listen` began, for several streams."""
        for stream in streams:
            others = self._listeners[stream]
            others.discard(wake)
            if not others:
                del self._listeners[stream], self._caches[stream]

    def cache(self, stream: str) -> StreamCache | None:
        """Return the newest records in memory; None if no reader reads this stream."""
        return self._caches.get(stream)

    def stored(self, commit: Commit) -> None:
        """Note records that have become durable, and show them to readers."""
        stream, base, count, _, _ = commit
        self._bounds[stream] = (self.floor(stream), base + count)
        cache = self._caches.get(stream)
        if cache is not None:
            cache.extend(commit)
        self._wake(stream)

    def _wake(self, stream: str) -> None:
        for wake in self._listeners.get(stream, ()):
            wake()

    def _wake_all(self) -> None:
        for stream in list(self._listeners):
            self._wake(stream)

    def read_file(self, stream: str, position: int, max_bytes: int) -> asyncio.Future[list[Segment]]:
        """Return segments up to the head from the file, see :meth:`.FileConnection.read`."""
        return self.file.read(stream, position, max_bytes, self.head(stream))


class _Part(NamedTuple):
    """Consecutive records of any topic or a gap, or neither; and the offset behind them."""

    records: Sequence[Record]
    end: int
    gap: Gap | None = None


class _Scan:
    """A position in one stream.

    Args:
        streams: has the stream.
        stream: its name.
        position: offset of the next record to read. The reader moves it when it hands records out.
    """

    __slots__ = ("_read_ahead", "_streams", "is_paused", "position", "stream")

    def __init__(self, streams: Streams, stream: str, position: int) -> None:
        self._streams = streams
        self.stream = stream
        self.position = position
        self.is_paused = False
        self._read_ahead: list[Record] = []

    async def look(self, position: int, limit: int) -> _Part:
        """Return the next records or gap of the stream.

        Args:
            position: offset of the first record.
            limit: at most so many records.

        Raises:
            Transient: records in the range of the journal are not found in the file.
            NotNow: the file cannot be read.
        """
        # Records that retention removed are gone, also if they are still in memory.
        floor = self._streams.floor(self.stream)
        if position < floor:
            return _Part((), floor, Gap(self.stream, position, floor - 1, "expired"))
        cache = self._streams.cache(self.stream)
        if cache is not None and position >= cache.first:
            self._read_ahead = []
            return _part(cache.slice(position, limit), position)
        ahead = self._read_ahead
        if not ahead or not ahead[0].offset <= position <= ahead[-1].offset:
            found = await self._from_file(position)
            if isinstance(found, _Part):
                return found
            ahead = self._read_ahead = found
        start = position - ahead[0].offset
        return _part(ahead[start : start + limit], position)

    async def _from_file(self, position: int) -> list[Record] | _Part:
        """Return records of the file, or the gap in their place."""
        segments = await self._streams.read_file(self.stream, position, _READ_BYTES)
        if not segments or segments[0].base > position:  # trimmed meanwhile, or missing
            await self._streams.sync()
            if self._streams.floor(self.stream) <= position:
                raise Transient(
                    f"{self.stream} offset {position}: in the journal's range, but not in its file; "
                    "if it stays so, run 'gateway journal check'"
                )
            return _Part((), position)
        if segments[0].records is None:
            end = segments[0].end
            return _Part((), end, Gap(self.stream, position, end - 1, "damaged"))
        records: list[Record] = []
        for segment in segments:
            if segment.records is None:
                break  # return the records before the damage first
            records += segment.records
        return [record for record in records if record.offset >= position]


def _part(records: Sequence[Record], position: int) -> _Part:
    return _Part(records, records[-1].offset + 1 if records else position)


class _Found(NamedTuple):
    """Records and gaps of one stream that are to be handed out, and the offset behind them."""

    scan: _Scan
    records: Sequence[Record]
    gaps: Sequence[Gap]
    end: int


class JournalReader:
    """Implements :class:`gateway.log.LogReader` on streams of the journal.

    Args:
        streams: has the streams.
        positions: the offset at which reading begins, by stream.
        topics: records of other topics are skipped; None reads all.
    """

    def __init__(self, streams: Streams, positions: Mapping[str, int], topics: frozenset[str] | None = None) -> None:
        self.topics = topics
        self._streams = streams
        self._scans: dict[str, _Scan] = {}
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
        self._scans[stream] = _Scan(self._streams, stream, position)
        self._streams.listen(stream, self.wake)
        self.wake()

    @property
    def streams(self) -> Set[str]:
        """Names of the streams that it reads."""
        return self._scans.keys()

    @property
    def position(self) -> int:
        """Offset of the next record to read; only for a reader of one stream."""
        (scan,) = self._scans.values()
        return scan.position

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
            if not self._streams.is_open:
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
        found: list[_Found] = []
        try:
            for scan in list(self._scans.values()):
                if not scan.is_paused and limit > 0 and (one := await self._look_into(scan, limit)):
                    found.append(one)
                    limit -= len(one.records)
        except (Transient, NotNow):
            if not found:
                raise
        for scan, _, _, end in found:
            scan.position = end
            if len(self._scans) > 1:  # the next look begins with the others
                self._scans[scan.stream] = self._scans.pop(scan.stream)
        records = chain.from_iterable(one.records for one in found)
        return Batch(records, [gap for one in found for gap in one.gaps], self._positions())

    async def _look_into(self, scan: _Scan, limit: int) -> _Found | None:
        """Return the next wanted records of a stream and the gaps before them; None if its head is reached."""
        gaps: list[Gap] = []
        position = scan.position
        while position < self._streams.head(scan.stream):
            part = await scan.look(position, limit)
            position = part.end
            if part.gap is not None:
                gaps.append(part.gap)
            elif wanted := self._wanted(part.records):
                return _Found(scan, wanted, gaps, position)
            elif not gaps:
                scan.position = position
        return _Found(scan, (), gaps, position) if gaps else None

    def _wanted(self, records: Sequence[Record]) -> Sequence[Record]:
        return records if self.topics is None else [record for record in records if record.topic in self.topics]

    def _positions(self) -> dict[str, int]:
        return {stream: scan.position for stream, scan in self._scans.items()}

    def pause(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.pause`."""
        for stream in self._scans.keys() & partitions:
            self._scans[stream].is_paused = True

    def resume(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.resume`."""
        for stream in self._scans.keys() & partitions:
            self._scans[stream].is_paused = False
        self.wake()

    async def seek(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.seek`. The offset is limited to the range of kept records."""
        floor, head = self._streams.floor(partition), self._streams.head(partition)
        is_paused = self._scans[partition].is_paused
        self._scans[partition] = _Scan(self._streams, partition, min(max(offset, floor), head))
        self._scans[partition].is_paused = is_paused
        self.wake()

    async def seek_to_time(self, unix_s: float) -> None:
        """See :meth:`gateway.log.LogReader.seek_to_time`."""
        for stream in list(self._scans):
            await self.seek(stream, await self._streams.file.offset_at(stream, unix_s))

    async def ends(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.ends`."""
        return {stream: self._streams.head(stream) for stream in self._scans}

    async def positions(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.positions`."""
        return self._positions()

    def incarnations(self) -> Mapping[str, str]:
        """See :meth:`gateway.log.LogReader.incarnations`. A stream of the journal is never created a second time."""
        return {}

    async def close(self) -> None:
        """See :meth:`gateway.log.LogReader.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._streams.forget(self._scans, self.wake)


class JoinedReader(JournalReader):
    """Implements :class:`gateway.log.AssignedReader`: this process has all streams, and none is ever revoked."""

    def __init__(self, streams: Streams, on_assigned: OnAssigned) -> None:
        super().__init__(streams, {})
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
