"""The streams of a journal as a process that reads them knows them: their bounds, newest records, and file.

The newest records are in memory, shared by all readers of a stream. Readers that keep up do not use the disk; a reader
that fell behind reads from the file until it is back in the range of the memory.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gateway.errors import JournalUnavailable
from gateway.log import Record, Start
from gateway.log.journal import batch_format
from gateway.log.journal.following import Commit, Writer
from gateway.log.journal.rows import Segment
from gateway.log.journal.storage import Store

#: Some thousand events. Ten times less and a subscriber that pauses for a tenth of a second reads from disk; ten times
#: more is memory without use: reading from the file costs two microseconds an event, from the page cache.
MAX_BYTES: Final = 4 * 1024 * 1024
#: Memory of a decoded record in addition to its bytes: the tuple, its texts, the time.
_RECORD_BYTES: Final = 500

_T = TypeVar("_T")


class _Held:
    """One commit, decoded when the first reader needs it."""

    __slots__ = ("_commit", "_records", "size")

    def __init__(self, commit: Commit) -> None:
        self._commit: Commit | None = commit
        self._records: list[Record] = []
        self.size = len(commit.records) + commit.length * _RECORD_BYTES

    def records(self) -> list[Record]:
        if self._commit is not None:
            stream, base, count, appended_at, records = self._commit
            self._records = batch_format.decode(
                records, partition=stream, base=base, count=count, appended_at=appended_at
            )
            self._commit = None
        return self._records


class StreamCache:
    """Records of one stream from ``first`` up to the head, oldest dropped past ``max_bytes``.

    Args:
        first: offset that the next record gets.
        max_bytes: bound on the records together.
    """

    def __init__(self, first: int, max_bytes: int = MAX_BYTES) -> None:
        self.first = first
        self.head = first
        self._bases: list[int] = []
        self._held: list[_Held] = []
        self._bytes = 0
        self._max_bytes = max_bytes

    def extend(self, commit: Commit) -> None:
        """Add the records of one commit. A gap before it empties the cache: its offsets are contiguous."""
        if commit.base != self.head:
            self.skip(commit.base)
        held = _Held(commit)
        self._bases.append(commit.base)
        self._held.append(held)
        self.head = commit.base + commit.length
        self._bytes += held.size
        while self._bytes > self._max_bytes:
            self._drop_oldest_half()

    def skip(self, head: int) -> None:
        """Drop all records: the next record has offset ``head``, which does not follow them."""
        self._bases.clear()
        self._held.clear()
        self._bytes = 0
        self.first = self.head = head

    def slice(self, position: int, limit: int) -> list[Record]:
        """Return records from an offset on.

        Args:
            position: the first offset, which must be in the cache.
            limit: at most so many records.
        """
        if position >= self.head:
            return []
        number = bisect_right(self._bases, position) - 1
        start = position - self._bases[number]
        found = self._held[number].records()[start : start + limit]
        while len(found) < limit and (number := number + 1) < len(self._held):
            found += self._held[number].records()[: limit - len(found)]
        return found

    def _drop_oldest_half(self) -> None:
        """Drop half of the commits at once, so that the lists are rarely copied."""
        count = max(1, len(self._held) // 2)
        self._bytes -= sum(held.size for held in self._held[:count])
        del self._held[:count], self._bases[:count]
        self.first = self._bases[0] if self._bases else self.head


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
        self._folder = folder
        self._bounds: dict[str, tuple[int, int]] = {}
        self._caches: dict[str, StreamCache] = {}
        self._listeners: dict[str, set[Callable[[], None]]] = {}
        self._store: Store | None = None
        self._pool: ThreadPoolExecutor | None = None

    async def _open_file(self) -> None:
        self._pool = ThreadPoolExecutor(1, "journal-reader")
        self._store = await self._in_pool(partial(Store, self._folder, is_writer=False))

    async def _close_file(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if self._store is not None:
            store, self._store = self._store, None
            await asyncio.to_thread(store.close)

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

    # -- file ---------------------------------------------------------------------------------------------------

    def read_file(self, stream: str, position: int, max_bytes: int) -> asyncio.Future[list[Segment]]:
        """Return segments from the file.

        Args:
            stream: its name.
            position: offset in the first segment.
            max_bytes: about so many bytes of records.
        """
        head = self.head(stream)

        def read(store: Store) -> list[Segment]:
            if stream not in store.streams:
                store.refresh()
            return store.read(stream, position, max_bytes, head)

        return self._ask(read)

    async def offset_at(self, stream: str, unix_s: float) -> int:
        """Return the offset of the first record appended at or after a time.

        Args:
            stream: its name.
            unix_s: Unix seconds.
        """

        def look(store: Store) -> int:
            store.refresh()
            return store.offset_at(stream, unix_s)

        return await self._ask(look)

    async def heads(self, stream: str, first: int, below: int) -> list[tuple[int, Mapping[str, int]]]:
        """Return the offset behind each commit that overlaps a range, and its number of records by topic.

        Args:
            stream: its name.
            first: the first offset of the range.
            below: the offset behind the range.
        """

        def look(store: Store) -> list[tuple[int, Mapping[str, int]]]:
            store.refresh()
            return [(info.end, info.topics) for info in store.infos(stream, first, below)]

        return await self._ask(look) if first < below else []

    def _ask(self, question: Callable[[Store], _T]) -> asyncio.Future[_T]:
        def ask() -> _T:
            if self._store is None:
                raise JournalUnavailable("the journal is closed: the gateway is stopping")
            return question(self._store)

        return self._in_pool(ask)

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)
