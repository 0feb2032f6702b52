"""The journal as the event loop sees it: appends, readers and their positions, housekeeping."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from gateway.errors import JournalUnavailable
from gateway.log import Begins, Entry, OnRevoked, Start
from gateway.log.journal import losses
from gateway.log.journal.checkpoint import Checkpoints
from gateway.log.journal.group_commit import Batch, GroupCommit, Stored
from gateway.log.journal.lock import FolderLock
from gateway.log.journal.open_files import JournalMoved, OpenFiles
from gateway.log.journal.reader import JournalReader
from gateway.log.journal.retention import Enforcer, Retention, Trimmed
from gateway.log.journal.rows import Segment, Stream
from gateway.log.journal.store import Store
from gateway.log.journal.streams import EVENTS, is_looking, stream_of
from gateway.log.journal.tail import Tail
from gateway.log.journal.unread import Unread
from gateway.log.journal.writer import WriterThread
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

_HOUSEKEEPING_S: Final = 10
#: Bytes that may wait for a commit. Past it a disk that hangs is answered 503 instead of filling the memory.
_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024

_T = TypeVar("_T")
_log = structlog.get_logger("gateway.journal")


class Journal:
    """The embedded :class:`gateway.log.EventLog`.

    Args:
        folder: made if it is not there; one process at a time.
        retention: what is kept.
        clock: Unix seconds.
        on_expired: told, on the event loop, what went before a reader had read it; see :mod:`.unread`.
    """

    def __init__(
        self,
        folder: Path,
        retention: Retention,
        *,
        clock: Callable[[], float] = time.time,
        on_expired: Callable[[losses.Expired], None] | None = None,
    ) -> None:
        self._folder = folder
        self._retention = retention
        self._clock = clock
        self.unread = Unread(self.cursors, self.note_cursor, on_expired)
        self._lock = FolderLock(folder)
        self._is_open = False
        self._cursors: dict[tuple[str, str], int] = {}
        self._floors: dict[str, int] = {}
        self._readers: dict[int, JournalReader] = {}
        self._tails: dict[str, Tail] = {}
        self._changed: dict[str, asyncio.Future[None]] = {}
        self._stores: list[Store] = []
        self._files: OpenFiles | None = None
        self._housekeeper: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Lock the folder and open the file. Starting an open journal does nothing.

        Raises:
            JournalInUse, JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`.
        """
        if self._is_open:
            return
        self._loop = asyncio.get_running_loop()
        self._lock.acquire()
        self._writer = WriterThread("journal-writer")
        self._read_pool = ThreadPoolExecutor(1, "journal-reader")
        try:
            await self._writer.submit(partial(losses.leftover, self._folder))
            self._store = await self._open(is_writer=True)
            self._read_store = await self._open(is_writer=False)
            self._files = OpenFiles(self._store.path, self._lock.path, self._lock.fd, fold=self._store.checkpoint)
            self._cursors = await self._writer.submit(self._store.cursors)
            self._floors = {stream.name: stream.floor for stream in self.streams()}
            self._enforcer = await self._writer.submit(self._make_enforcer)
        except BaseException:
            await self._release()
            raise
        self._commits = GroupCommit(
            self._store, self._writer, self._enforcer, self._files, clock=self._clock, on_stored=self._stored
        )
        self._checkpoints = Checkpoints(self._folder, self._store, self._writer, self._files)
        self._is_open = True
        self._housekeeper = self._loop.create_task(self._housekeep(), name="journal-housekeeping")

    async def stop(self) -> None:
        """Store what waits, then close. May be called twice, or before :meth:`start`."""
        if not self._is_open:
            return
        self._is_open = False
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        await self._commits.close()
        await self._checkpoints.close()
        for future in self._changed.values():
            if not future.done():
                future.set_result(None)
        await self._release()

    async def _open(self, *, is_writer: bool) -> Store:
        opening = partial(Store, self._folder, is_writer=is_writer)
        store = await (self._writer.submit(opening) if is_writer else self._in_read_pool(opening))
        self._stores.append(store)
        return store

    async def _release(self) -> None:
        """End the threads, close the files in the order they were opened, and let go of the folder."""
        await self._writer.stop()
        self._read_pool.shutdown(wait=True)
        try:
            while self._stores:
                store = self._stores.pop(0)
                is_damaged = self._files is not None and self._files.is_damaged
                await asyncio.to_thread(store.abandon if is_damaged else store.close)
        finally:
            if self._files is not None:
                self._files.close()
                self._files = None
            self._lock.release()

    def _make_enforcer(self) -> Enforcer:
        enforcer = Enforcer(self._store, self._retention, EVENTS, self._trimmed_soon)
        enforcer.passed(self._cursors)
        return enforcer

    def _trimmed_soon(self, gone: Trimmed) -> None:
        """In the writer's thread."""
        self._loop.call_soon_threadsafe(self._trimmed, gone)

    def _trimmed(self, gone: Trimmed) -> None:
        self._floors[gone.stream] = gone.below
        self.unread.trimmed(gone, list(self._readers.values()))

    # -- appending ----------------------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Entry]) -> None:
        """See :meth:`gateway.log.EventLog.append`. A caller that is cancelled may or may not have stored."""
        await self.append_soon(entries)

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """As :meth:`append`, for callers that want the future itself.

        Raises:
            ValueError: an id is not 32 hex digits, or a text is not Unicode.
        """
        self._check_open()
        if self._commits.pending_bytes > _MAX_PENDING_BYTES:
            raise JournalUnavailable("the disk does not keep up: too much waits for it")
        return self._commits.add(entries)

    def _check_open(self) -> None:
        if not self._is_open:
            raise JournalUnavailable("the journal is closed: the gateway is stopping")

    async def flush(self) -> None:
        """Make all appends and positions so far durable; after :meth:`stop` they are."""
        if self._is_open:
            await self._commits.flush()

    def _stored(self, batch: Batch, stored: Stored) -> None:
        """Show the records to readers; those who wait for them go on after this."""
        for stream, base in stored.bases.items():
            entries = batch.entries[stream]
            tail = self._tails.get(stream)
            if tail is not None:
                tail.extend(stream, base, stored.appended_at, entries)
            METRICS.counter("gateway_journal_events").labels(stream).inc(len(entries))
            self.wake(stream)
        if batch.drafts:
            METRICS.histogram("gateway_journal_commit_seconds").observe(stored.took_s)
            METRICS.histogram("gateway_journal_batch_events").observe(sum(d.count for d in batch.drafts.values()))
        self._checkpoints.wrote(batch.size)

    # -- reading ------------------------------------------------------------------------------------------------

    async def reader(
        self,
        group: str,
        topics: Collection[str],
        *,
        start: Start | Begins = "latest",
        on_revoked: OnRevoked | None = None,
    ) -> JournalReader:
        """See :meth:`gateway.log.EventLog.reader`. No topics at all means every vendor event.

        A position that is new is made durable before this returns: a restart must not move it. One that retention has
        overtaken goes on at the first record kept, and what it missed is told. Opening that fails leaves no reader.
        """
        stream, wanted = _wanted(topics)
        position = self._cursors.get((group, stream))
        is_new = position is None
        if position is None:
            position = await self._origin(stream, start)
        reader = JournalReader(self, group, stream, wanted, min(position, self.head(stream)))
        floor = self.floor(stream)
        is_overtaken = reader.position < floor
        if is_overtaken and is_looking(group):
            reader.step_over(floor)
        elif is_overtaken:
            self.unread.overtaken(reader, floor)
        if is_new:
            self.note_cursor(group, stream, position)
        if is_new or is_overtaken:
            await self.flush()
        return self._opened(reader)

    async def browse(self, name: str, topics: Collection[str], *, start: Start = "latest") -> JournalReader:
        """See :meth:`gateway.log.EventLog.browse`."""
        stream, wanted = _wanted(topics)
        return self._opened(JournalReader(self, name, stream, wanted, self._beginning(stream, start), is_kept=False))

    async def _origin(self, stream: str, start: Start | Begins) -> int:
        if isinstance(start, str):
            return self._beginning(stream, start)
        return await self.offset_at(stream, min(begin.since for begin in start.values()))

    def _beginning(self, stream: str, start: Start) -> int:
        return self.head(stream) if start == "latest" else self.floor(stream)

    def _opened(self, reader: JournalReader) -> JournalReader:
        self._readers[id(reader)] = reader
        self._tails.setdefault(reader.stream, Tail(self.head(reader.stream)))
        return reader

    @property
    def last_failure(self) -> str:
        """Why a commit would fail now, or why the newest one did; empty when it did not."""
        return (self._files.problem or self._commits.last_failure) if self._is_open and self._files else ""

    @property
    def is_open(self) -> bool:
        """Between a successful :meth:`start` and :meth:`stop`."""
        return self._is_open

    def head(self, stream: str) -> int:
        """Offset that the next record gets."""
        tail = self._tails.get(stream)
        if tail is not None:
            return tail.head
        found = self._store.streams.get(stream)
        return found.head if found else 0

    def floor(self, stream: str) -> int:
        """Offset of the first record kept, as far as it was told what went; the file may be ahead of it."""
        return self._floors.get(stream, 0)

    def streams(self) -> list[Stream]:
        """All streams: names and bounds."""
        return list(self._store.streams.values())

    def tail(self, stream: str) -> Tail | None:
        """The newest records in memory, if anyone reads this stream."""
        return self._tails.get(stream)

    def changed(self, stream: str) -> asyncio.Future[None]:
        """Done when the stream has grown after this call. Shared: await it behind a shield or a time-out."""
        future = self._changed.get(stream)
        if future is None or future.done():
            future = self._changed[stream] = self._loop.create_future()
        return asyncio.shield(future)

    def wake(self, stream: str) -> None:
        """Let readers look again."""
        future = self._changed.pop(stream, None)
        if future is not None and not future.done():
            future.set_result(None)

    async def read_file(self, stream: str, position: int, max_bytes: int) -> list[Segment]:
        """Segments from the file; see :meth:`gateway.log.journal.store.Store.read`."""
        return await self._in_read_pool(partial(self._read, stream, position, max_bytes, self.head(stream)))

    async def trims_told(self) -> None:
        """Everything that went from the file by now is told, and :meth:`floor` is where the file has it.

        Raises:
            JournalUnavailable: the journal is closed.
        """
        self._check_open()
        await self._writer.submit(lambda: None)  # its thread trims, and tells before it does anything else

    def _read(self, stream: str, position: int, max_bytes: int, head: int) -> list[Segment]:
        if stream not in self._read_store.streams:
            self._read_store.refresh()
        return self._read_store.read(stream, position, max_bytes, head)

    async def offset_at(self, stream: str, unix_s: float) -> int:
        """Offset of the first record appended at or after a time."""

        def look() -> int:
            self._read_store.refresh()
            return self._read_store.offset_at(stream, unix_s)

        return await self._in_read_pool(look)

    def forget(self, reader: JournalReader) -> None:
        """A reader was closed."""
        self._readers.pop(id(reader), None)
        if not any(other.stream == reader.stream for other in self._readers.values()):
            self._tails.pop(reader.stream, None)

    def _in_read_pool(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        return self._loop.run_in_executor(self._read_pool, function)

    # -- positions ----------------------------------------------------------------------------------------------

    def note_cursor(self, group: str, stream: str, position: int) -> None:
        """Remember a position; it is stored with the next commit that is due."""
        self._cursors[group, stream] = position
        self._commits.note(group, stream, position)

    def cursors(self) -> Mapping[tuple[str, str], int]:
        """All positions by (group, stream), durable or about to be."""
        return self._cursors

    # -- housekeeping -------------------------------------------------------------------------------------------

    async def _housekeep(self) -> None:
        for second in itertools.count():
            is_round = second % _HOUSEKEEPING_S == 0
            try:
                if is_round:
                    await self.housekeep()
                await self.check()
            except Exception as exc:  # the top of a task
                if is_round and not isinstance(exc, JournalMoved):  # that one is in the log already, once
                    _log.error("journal.housekeeping_failed", error=redaction.fault(exc))
            await asyncio.sleep(1.0)

    async def check(self) -> None:
        """Compare the open files with their names, and try again after a commit that failed; runs every second.

        Raises: as :meth:`append`.
        """
        if self._files is not None:
            await self._writer.submit(self._files.check)
        await self._commits.try_again()

    async def housekeep(self) -> None:
        """Drop what is too old and measure the file; runs by itself every ten seconds.

        Raises:
            JournalUnavailable, JournalDamaged: not all of it could be looked at; the next round tries again.
        """
        while await self._writer.submit(self._drop_old):
            pass  # each step is a job of its own, so that commits go in between
        METRICS.gauge("gateway_journal_used_bytes").set(self._enforcer.used_bytes)

    def _drop_old(self) -> bool:
        """In the writer's thread."""
        if self._files is not None:
            self._files.check_due()
        return self._enforcer.by_age(self._clock())

    @property
    def used_bytes(self) -> int:
        """Bytes of the file in use, as last measured."""
        return self._enforcer.used_bytes


def _wanted(topics: Collection[str]) -> tuple[str, frozenset[str] | None]:
    """The stream that topics are in, and those of them that are wanted there; None: all."""
    streams = {stream_of(topic) for topic in topics} or {EVENTS}
    if len(streams) > 1:
        raise ValueError(f"one reader reads vendor events or one internal topic, not {sorted(topics)}")
    stream = streams.pop()
    return stream, frozenset(topics) if stream == EVENTS and topics else None
