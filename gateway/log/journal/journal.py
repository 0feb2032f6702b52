"""The journal for its readers: appends, readers and their positions. :mod:`.following` is the way to its writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.errors import JournalUnavailable
from gateway.log import Appended, Begins, Entry, LogKind, OnAssigned, OnRevoked, Start
from gateway.log.journal import batch_format
from gateway.log.journal.cache import StreamCache
from gateway.log.journal.cursors import JournalCursors
from gateway.log.journal.expiry import Expiry
from gateway.log.journal.following import Commit, Snapshot, Writer, WriterState
from gateway.log.journal.positions import PositionKeeper
from gateway.log.journal.reader import JoinedReader, JournalReader
from gateway.log.journal.retention import Retention, Trimmed
from gateway.log.journal.rows import Segment
from gateway.log.journal.store import Store
from gateway.log.journal.streams import EVENTS, stream_of
from gateway.log.journal.writer import JournalWriter

_T = TypeVar("_T")


class Journal:
    """The embedded :class:`gateway.log.EventLog`. It reads the file itself and asks the writer for changes.

    Args:
        folder: folder of the file.
        retention: limits of the writer that is created here; not needed with ``writer``.
        writer: the writer in another process; None creates one here.
        known_ids: for the writer that is created here, see :class:`.JournalWriter`.
        clock: for the writer that is created here, Unix seconds.
        on_replaced: called when the writer's file is another one than before, or has lost records that were read:
            everything that this journal knows is wrong then.
    """

    def __init__(
        self,
        folder: Path,
        retention: Retention | None = None,
        *,
        writer: Writer | None = None,
        known_ids: int = 0,
        clock: Callable[[], float] = time.time,
        on_replaced: Callable[[str], None] | None = None,
    ) -> None:
        if writer is None:
            assert retention is not None
            writer = JournalWriter(folder, retention, known_ids=known_ids, clock=clock)
        self.writer = writer
        self._folder = folder
        self._on_replaced = on_replaced
        self._keeper = PositionKeeper(writer)
        self._expiry = Expiry(self._keeper)
        #: See :attr:`gateway.log.EventLog.cursors`.
        self.cursors = JournalCursors(self, self._keeper, self._expiry)
        self._is_open = False
        self._database: tuple[int, int] | None = None
        self._state = WriterState()
        self._bounds: dict[str, tuple[int, int]] = {}
        self._listeners: dict[str, set[JournalReader]] = {}
        self._caches: dict[str, StreamCache] = {}
        self._read_store: Store | None = None
        self.known_ids = 0

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the writer and open the file. Does nothing if the journal is open.

        Raises:
            JournalInUse, JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`.
        """
        if self._is_open:
            return
        self._loop = asyncio.get_running_loop()
        await self.writer.start(self)
        self._read_pool = ThreadPoolExecutor(1, "journal-reader")
        try:
            self._read_store = await self._in_read_pool(partial(Store, self._folder, is_writer=False))
        except BaseException:
            await self._release()
            raise
        self._is_open = True

    async def stop(self) -> None:
        """Store waiting positions, then close. May be called twice, or before :meth:`start`."""
        if not self._is_open:
            return
        self._is_open = False
        await self._keeper.close()
        for stream in list(self._listeners):
            self.wake(stream)
        await self._release()

    async def _release(self) -> None:
        """Close the file, then the writer: its connection is the last one, and copies the WAL into the file."""
        self._read_pool.shutdown(wait=True)
        if self._read_store is not None:
            store, self._read_store = self._read_store, None
            await asyncio.to_thread(store.close)
        await self.writer.stop()

    # -- what the writer reports --------------------------------------------------------------------------------

    def welcomed(self, snapshot: Snapshot) -> None:
        """See :meth:`gateway.log.journal.following.Follower.welcomed`."""
        is_same = self._database in (None, snapshot.database)
        lost = [name for name, (_, head) in self._bounds.items() if head > snapshot.bounds.get(name, (0, 0))[1]]
        if not is_same or lost:
            self._keeper.abandon()
            if self._on_replaced is not None:
                self._on_replaced(f"{self._folder}: the journal's file is another one than before, or was cut: {lost}")
        self._database = snapshot.database
        self._bounds = dict(snapshot.bounds)
        self._state = snapshot.state
        self.known_ids = snapshot.known_ids
        self._keeper.welcomed(snapshot.positions)
        for stream, cache in self._caches.items():
            if cache.head != self.head(stream):
                cache.skip(self.head(stream))
        if is_same and not lost:
            for stream, (floor, _) in self._bounds.items():
                self._expiry.passed(stream, floor)
        for stream in list(self._listeners):
            self.wake(stream)

    def stored(self, commit: Commit) -> None:
        """See :meth:`gateway.log.journal.following.Follower.stored`: show the records to readers."""
        stream, base, count, _, _ = commit
        floor, _ = self._bounds.get(stream, (0, 0))
        self._bounds[stream] = (floor, base + count)
        cache = self._caches.get(stream)
        if cache is not None:
            cache.extend(commit)
        self.wake(stream)

    def trimmed(self, gone: Trimmed) -> None:
        """See :meth:`gateway.log.journal.following.Follower.trimmed`."""
        _, head = self._bounds.get(gone.stream, (0, 0))
        self._bounds[gone.stream] = (gone.below, max(head, gone.below))
        self._expiry.passed(gone.stream, gone.below, gone.segments)

    def state_changed(self, state: WriterState) -> None:
        """See :meth:`gateway.log.journal.following.Follower.state_changed`."""
        self._state = state

    # -- appending ----------------------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """See :meth:`gateway.log.EventLog.append`. If the caller is cancelled, the entries may be stored or not."""
        return await self.append_soon(entries)

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Do the same as :meth:`append`, for callers that need the future.

        Raises:
            ValueError: an id is not 32 hex digits, or a text is not Unicode.
        """
        self._check_open()
        return self.writer.append(b"".join(map(batch_format.encode, entries)))

    def _check_open(self) -> None:
        if not self._is_open:
            raise JournalUnavailable("the journal is closed: the gateway is stopping")

    async def flush(self) -> None:
        """Make all appends and positions so far durable; after :meth:`stop` they are durable."""
        if self._is_open:
            await self._keeper.flush()

    @property
    def kind(self) -> LogKind:
        """See :attr:`gateway.log.EventLog.kind`."""
        return "journal"

    # -- reading ------------------------------------------------------------------------------------------------

    async def join(
        self, group: str, topics: Collection[str], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> JoinedReader:
        """See :meth:`gateway.log.EventLog.join`: all streams of the topics are assigned and never revoked."""
        reader = JoinedReader(self, on_assigned)
        reader.subscribe(topics)
        await reader.assign()
        return reader

    async def browse(
        self,
        name: str,
        topics: Collection[str],
        *,
        start: Start = "latest",
        positions: Mapping[str, int] | None = None,
    ) -> JournalReader:
        """See :meth:`gateway.log.EventLog.browse`. An empty collection of topics means all vendor events."""
        streams, wanted = _wanted(topics)
        if positions is None:
            positions = {stream: self._beginning(stream, start) for stream in streams}
        return JournalReader(self, positions, wanted)

    async def unfinished(self, group_of: Callable[[str], str | None]) -> Mapping[str, int]:
        """See :meth:`gateway.log.EventLog.unfinished`."""
        kept = self.positions()
        groups = {stream: group for stream in self.streams() if (group := group_of(stream)) is not None}
        return {
            stream: self.head(stream) - min(self.head(stream), max(self.floor(stream), kept.get((group, stream), 0)))
            for stream, group in groups.items()
        }

    async def origin(self, stream: str, start: Start | Begins) -> int:
        """Return where a cursor without a position begins in a stream."""
        if not isinstance(start, str):
            return await self.offset_at(stream, min(begin.since for begin in start.values()))
        if start == "latest":  # events that were answered before this call are before the beginning
            await self.sync()
        return self._beginning(stream, start)

    def _beginning(self, stream: str, start: Start) -> int:
        return self.head(stream) if start == "latest" else self.floor(stream)

    @property
    def last_failure(self) -> str:
        """The reason why a commit would fail now, or why the newest one failed; empty if it succeeded."""
        return (self.writer.problem or self._state.failure) if self._is_open else ""

    @property
    def is_open(self) -> bool:
        """Whether a :meth:`start` succeeded and no :meth:`stop` followed."""
        return self._is_open

    def head(self, stream: str) -> int:
        """Return the offset that the next record gets."""
        return self._bounds.get(stream, (0, 0))[1]

    def floor(self, stream: str) -> int:
        """Return the offset of the first record kept, as reported by the writer; the file may be ahead of it."""
        return self._bounds.get(stream, (0, 0))[0]

    def streams(self) -> list[str]:
        """Return the names of all streams."""
        return list(self._bounds)

    def cache(self, stream: str) -> StreamCache | None:
        """Return the cache of the newest records; None if no reader reads this stream."""
        return self._caches.get(stream)

    def wake(self, stream: str) -> None:
        """Wake the readers of a stream."""
        for reader in self._listeners.get(stream, ()):
            reader.wake()

    def read_file(self, stream: str, position: int, max_bytes: int) -> asyncio.Future[list[Segment]]:
        """Return segments from the file; see :meth:`gateway.log.journal.store.Store.read`."""
        return self._in_read_pool(partial(self._read, stream, position, max_bytes, self.head(stream)))

    async def sync(self) -> None:
        """Return when all changes that the writer made before this call are known: :meth:`floor` is that of the file.

        Raises:
            JournalUnavailable: the journal is closed, or its writer is unavailable.
        """
        self._check_open()
        await self.writer.sync()

    def _read(self, stream: str, position: int, max_bytes: int, head: int) -> list[Segment]:
        store = self._reading
        if stream not in store.streams:
            store.refresh()
        return store.read(stream, position, max_bytes, head)

    async def offset_at(self, stream: str, unix_s: float) -> int:
        """Return the offset of the first record appended at or after a time.

        Args:
            stream: its name.
            unix_s: Unix seconds.
        """

        def look() -> int:
            self._reading.refresh()
            return self._reading.offset_at(stream, unix_s)

        return await self._in_read_pool(look)

    async def heads(self, stream: str, first: int, below: int) -> list[tuple[int, Mapping[str, int]]]:
        """Return the offset behind each commit that overlaps a range, and its number of records by topic.

        Args:
            stream: its name.
            first: the first offset of the range.
            below: the offset behind the range.
        """

        def look() -> list[tuple[int, Mapping[str, int]]]:
            self._reading.refresh()
            return [(info.end, info.topics) for info in self._reading.infos(stream, first, below)]

        return await self._in_read_pool(look) if first < below else []

    @property
    def _reading(self) -> Store:
        if self._read_store is None:
            raise JournalUnavailable("the journal is closed: the gateway is stopping")
        return self._read_store

    def listen(self, reader: JournalReader, stream: str) -> None:
        """Wake a reader when a stream grows, and keep its newest records in memory."""
        self._listeners.setdefault(stream, set()).add(reader)
        self._caches.setdefault(stream, StreamCache(self.head(stream)))

    def forget(self, reader: JournalReader) -> None:
        """Forget a reader that was closed."""
        for stream in reader.streams:
            others = self._listeners[stream]
            others.discard(reader)
            if not others:
                del self._listeners[stream], self._caches[stream]

    def _in_read_pool(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        return self._loop.run_in_executor(self._read_pool, function)

    # -- positions ----------------------------------------------------------------------------------------------

    def note_cursor(self, group: str, stream: str, position: int) -> None:
        """Store a position within a quarter of a second.

        Args:
            group: name of the reader.
            stream: its name.
            position: everything below this offset is done.
        """
        self._keeper.note(group, stream, position)

    def positions(self) -> Mapping[tuple[str, str], int]:
        """Return all positions by (group, stream), durable or about to be."""
        return self._keeper.positions

    @property
    def used_bytes(self) -> int:
        """Bytes of the file in use, as last measured."""
        return self._state.used_bytes


def _wanted(topics: Collection[str]) -> tuple[list[str], frozenset[str] | None]:
    """Return the streams that contain the topics, and the topics to select in them; None for all."""
    streams = sorted({stream_of(topic) for topic in topics} or {EVENTS})
    return streams, frozenset(topics) if topics and EVENTS in streams else None
