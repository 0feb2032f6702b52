"""The journal for its readers: appends, readers and their positions. :mod:`.following` is the way to its writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from gateway.log import Appended, Entry, LogKind, OnAssigned, OnRevoked, Start
from gateway.log.journal import batch_format
from gateway.log.journal.batch_format import EVENTS, stream_of
from gateway.log.journal.following import Commit, Snapshot, Writer, WriterState
from gateway.log.journal.positions import JournalCursors, PositionKeeper
from gateway.log.journal.reader import JoinedReader, JournalReader
from gateway.log.journal.retention import Retention, Trimmed
from gateway.log.journal.streams import Streams
from gateway.log.journal.writer import JournalWriter


class Journal(Streams):
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
        super().__init__(folder, writer)
        self._on_replaced = on_replaced
        self._keeper = PositionKeeper(writer)
        #: See :attr:`gateway.log.EventLog.cursors`.
        self.cursors = JournalCursors(self, self._keeper)
        self._database: tuple[int, int] | None = None
        self._state = WriterState()
        self.known_ids = 0

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to the writer and open the file. Does nothing if the journal is open.

        Raises:
            JournalInUse, JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`.
        """
        if self.is_open:
            return
        await self.writer.start(self)
        try:
            await self._open_file()
        except BaseException:
            await self._release()
            raise
        self.is_open = True

    async def stop(self) -> None:
        """Store waiting positions, then close. May be called twice, or before :meth:`start`."""
        if not self.is_open:
            return
        self.is_open = False
        await self._keeper.close()
        self._wake_all()
        await self._release()

    async def _release(self) -> None:
        """Close the file, then the writer: its connection is the last one, and copies the WAL into the file."""
        await self._close_file()
        await self.writer.stop()

    # -- what the writer reports, see gateway.log.journal.following.Follower ------------------------------------

    def welcomed(self, snapshot: Snapshot) -> None:
        """Replace what is known of the journal."""
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
                self.cursors.expired(stream, floor)
        self._wake_all()

    def stored(self, commit: Commit) -> None:
        """Show the records to readers."""
        stream, base, count, _, _ = commit
        self._bounds[stream] = (self.floor(stream), base + count)
        cache = self._caches.get(stream)
        if cache is not None:
            cache.extend(commit)
        self._wake(stream)

    def trimmed(self, gone: Trimmed) -> None:
        """Move the floor of a stream."""
        self._bounds[gone.stream] = (gone.below, max(self.head(gone.stream), gone.below))
        self.cursors.expired(gone.stream, gone.below, gone.segments)

    def state_changed(self, state: WriterState) -> None:
        """Note the state of the writer."""
        self._state = state

    @property
    def last_failure(self) -> str:
        """The reason why a commit would fail now, or why the newest one failed; empty if it succeeded."""
        return (self.writer.problem or self._state.failure) if self.is_open else ""

    @property
    def used_bytes(self) -> int:
        """Bytes of the file in use, as last measured."""
        return self._state.used_bytes

    # -- appending ----------------------------------------------------------------------------------------------

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """See :meth:`gateway.log.EventLog.append`. If the caller is cancelled, the entries may be stored or not."""
        return await self.append_soon(entries)

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Append as :meth:`append` does, for callers that need the future.

        Raises:
            ValueError: an id is not 32 hex digits, or a text is not Unicode.
        """
        self._check_open()
        return self.writer.append(b"".join(map(batch_format.encode, entries)))

    async def flush(self) -> None:
        """Make all appends and positions so far durable; after :meth:`stop` they are durable."""
        if self.is_open:
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
        streams = sorted({stream_of(topic) for topic in topics} or {EVENTS})
        if positions is None:
            positions = {stream: self.beginning(stream, start) for stream in streams}
        return JournalReader(self, positions, frozenset(topics) if topics and EVENTS in streams else None)

    async def unfinished(self, group_of: Callable[[str], str | None]) -> Mapping[str, int]:
        """See :meth:`gateway.log.EventLog.unfinished`."""
        groups = {stream: group for stream in self.streams() if (group := group_of(stream)) is not None}
        reached = {
            stream: max(self.floor(stream), self.positions().get((groups[stream], stream), 0)) for stream in groups
        }
        return {stream: max(0, self.head(stream) - at) for stream, at in reached.items()}

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
