"""The journal for its readers: appends, readers, and their positions. :mod:`.following` is the way to its writer.

An operator must learn of events that expire while a subscriber is down. So when retention passes the position of a
cursor that this process has loaded, the records in between are reported, and the position moves behind them; so no
component has to remember what was reported. The reader may still deliver those that it has in memory: the report is an
upper bound, by one window at most. After a crash they are not delivered.

A cursor that is not loaded here may belong to a removed subscriber. Nothing is reported for it until it reads again:
then there is a gap between its position and the first record kept, which the reading reports.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.errors import JournalUnavailable, NotNow, Transient
from gateway.log import Appended, Begins, Entry, Gap, LogKind, OnAssigned, OnRevoked, Placed, Start, gaps
from gateway.log.journal import batch_format
from gateway.log.journal.batch_format import EVENTS, stream_of
from gateway.log.journal.following import Positions, Snapshot, Writer, WriterState
from gateway.log.journal.reader import JoinedReader, JournalReader, Streams
from gateway.log.journal.retention import Retention, Trimmed
from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.writer import JournalWriter

#: A crash repeats the deliveries of this time; ten times less doubles the commits of an idle gateway.
_INTERVAL_S: Final = 0.25
#: The same for the cursors of subscribers: there may be hundreds, and each is a row.
_LATER_S: Final = 1.0
#: The topic in reports of records that were removed unseen, or whose row is damaged.
_UNKNOWN: Final = "unknown"
_REPLACED: Final = "the journal's file was replaced; these positions are of the one before"

#: Group and stream.
_Place = tuple[str, str]
#: Topics that a cursor wants; None for all.
_Topics = frozenset[str] | None


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
        self._folder = folder
        #: See :attr:`gateway.log.EventLog.kind`.
        self.kind: LogKind = "journal"
        self._on_replaced = on_replaced
        #: See :attr:`gateway.log.EventLog.cursors`.
        self.cursors = JournalCursors(self, writer)
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
            await self.file.open()
        except BaseException:
            await self._release()
            raise
        self.is_open = True

    async def stop(self) -> None:
        """Store waiting positions, then close. May be called twice, or before :meth:`start`."""
        if not self.is_open:
            return
        self.is_open = False
        await self.cursors.close()
        self._wake_all()
        await self._release()

    async def _release(self) -> None:
        """Close the file, then the writer: its connection is the last one, and copies the WAL into the file."""
        await self.file.close()
        await self.writer.stop()

    # -- what the writer reports, see gateway.log.journal.following.Follower ------------------------------------

    def welcomed(self, snapshot: Snapshot) -> None:
        """Replace what is known of the journal."""
        is_same = self._database in (None, snapshot.database)
        lost = [name for name, (_, head) in self._bounds.items() if head > snapshot.bounds.get(name, (0, 0))[1]]
        if not is_same or lost:
            self.cursors.abandon()
            if self._on_replaced is not None:
                self._on_replaced(f"{self._folder}: the journal's file is another one than before, or was cut: {lost}")
        self._database = snapshot.database
        self._bounds = dict(snapshot.bounds)
        self._state = snapshot.state
        self.known_ids = snapshot.known_ids
        self.cursors.welcomed(snapshot.positions)
        for stream, cache in self._caches.items():
            if cache.head != self.head(stream):
                cache.skip(self.head(stream))
        if is_same and not lost:
            for stream, (floor, _) in self._bounds.items():
                self.cursors.expired(stream, floor)
        self._wake_all()

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
        """Append as :meth:`append` does, for callers that need the future; see :func:`.batch_format.encode`."""
        self._check_open()
        return self.writer.append(b"".join(map(batch_format.encode, entries)))

    async def flush(self) -> None:
        """Make all appends and positions so far durable; after :meth:`stop` they are durable."""
        if self.is_open:
            await self.cursors.save()

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
        reached = {at: max(self.floor(at), self.positions().get((group, at), 0)) for at, group in groups.items()}
        return {stream: max(0, self.head(stream) - at) for stream, at in reached.items()}

    def note_cursor(self, group: str, stream: str, position: int) -> None:
        """Store a position, see :meth:`JournalCursors.note`."""
        self.cursors.note(group, stream, position)

    def positions(self) -> Mapping[tuple[str, str], int]:
        """Return all positions by (group, stream), durable or about to be."""
        return self.cursors.positions


class JournalCursors:
    """Implements :class:`gateway.log.CursorStore`: passes positions to the writer, and keeps them until it has them.

    Args:
        streams: has the records.
        writer: stores the positions; may be unavailable for a while.
    """

    def __init__(self, streams: Streams, writer: Writer) -> None:
        self._streams = streams
        self._writer = writer
        #: Positions by (group, stream), durable or about to be.
        self.positions: dict[_Place, int] = {}
        #: By cursor, the streams in which it commits, and the topics that it reads there.
        self._loaded: dict[str, dict[str, _Topics]] = {}
        self._unsaved: set[_Place] = set()
        self._saving: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._delay_s = 0.0  # of the timer
        self._is_closed = False
        self._is_abandoned = False

    # -- see gateway.log.CursorStore ----------------------------------------------------------------------------

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        """See :meth:`gateway.log.CursorStore.load`."""
        try:
            streams = sorted({stream_of(topic) for topic in topics}.intersection(partitions))
            new = [stream for stream in streams if (cursor, stream) not in self.positions]
            for stream in new:
                self.note(cursor, stream, await self._origin(stream, start))
            if new:
                await self.save()
        except NotNow as exc:
            raise Transient(str(exc)) from exc
        loaded = self._loaded.setdefault(cursor, {})
        loaded.update({stream: frozenset(topics) if stream == EVENTS else None for stream in streams})
        return {stream: self._placed(cursor, stream) for stream in streams}

    async def _origin(self, stream: str, start: Start | Begins) -> int:
        """Return where a cursor without a position begins in a stream."""
        if not isinstance(start, str):
            since = [begin.since for topic, begin in start.items() if stream_of(topic) == stream]
            return await self._streams.file.offset_at(stream, min(since)) if since else self._streams.floor(stream)
        if start == "latest":  # events that were answered before this call are before the beginning
            await self._streams.sync()
        return self._streams.beginning(stream, start)

    def _placed(self, cursor: str, stream: str) -> Placed:
        position = min(self.positions[cursor, stream], self._streams.head(stream))
        floor = self._streams.floor(stream)
        if position >= floor:
            return Placed(position)
        return Placed(floor, Gap(stream, position, floor - 1, "expired"))

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.CursorStore.commit`."""
        if partition in self._loaded.get(cursor, ()) and offset > self.positions[cursor, partition]:
            self.note(cursor, partition, offset, within_s=_LATER_S)

    def committed(self, cursor: str) -> Mapping[str, int]:
        """See :meth:`gateway.log.CursorStore.committed`."""
        return {stream: self.positions[cursor, stream] for stream in self._loaded.get(cursor, ())}

    async def flush(self) -> None:
        """See :meth:`gateway.log.CursorStore.flush`."""
        try:
            if self._streams.is_open:
                await self.save()
        except NotNow as exc:
            raise Transient(str(exc)) from exc

    def release(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.CursorStore.release`."""
        for loaded in self._loaded.values():
            for stream in partitions:
                loaded.pop(stream, None)

    def forget(self, cursor: str) -> None:
        """See :meth:`gateway.log.CursorStore.forget`."""
        self._loaded.pop(cursor, None)

    # -- to the writer ------------------------------------------------------------------------------------------

    def welcomed(self, durable: Positions) -> None:
        """Add the positions that the writer has; those known here are newer and stay."""
        self.positions = {**durable, **self.positions}

    def note(self, group: str, stream: str, position: int, *, within_s: float = _INTERVAL_S) -> None:
        """Store a position.

        Args:
            group: name of the reader.
            stream: its name.
            position: everything below this offset is done.
            within_s: how long it may wait for others, seconds.
        """
        self.positions[group, stream] = position
        if not self._is_abandoned:
            self._unsaved.add((group, stream))
            self._save_within(within_s)

    def abandon(self) -> None:
        """Store nothing from now on, and fail stores in progress: the writer's file is another one."""
        self._is_abandoned = True
        self._unsaved.clear()
        for saved in self._saving:
            if not saved.done():
                saved.set_exception(JournalUnavailable(_REPLACED))

    async def close(self) -> None:
        """Store all positions if the writer accepts them, and nothing afterwards."""
        self._is_closed = True
        if self._unsaved:
            await asyncio.wait([self.save()])

    def _save_within(self, seconds: float) -> None:
        if self._timer is not None and self._delay_s > seconds:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and not self._is_closed:
            self._delay_s = seconds
            self._timer = asyncio.get_running_loop().call_later(seconds, self.save)

    def save(self) -> asyncio.Future[None]:
        """Store all positions, and everything that the writer received before; the future is done when it is durable.

        It fails with :class:`NotNow` if it is not durable; then the positions are stored again.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unsaved, self._unsaved = self._unsaved, set()
        try:
            if self._is_abandoned:
                raise JournalUnavailable(_REPLACED)
            saved = self._writer.note({place: self.positions[place] for place in unsaved})
        except NotNow as exc:
            saved = asyncio.get_running_loop().create_future()
            saved.set_exception(exc)
        self._saving.add(saved)
        saved.add_done_callback(partial(self._saved, unsaved))
        return saved

    def _saved(self, places: set[_Place], saved: asyncio.Future[None]) -> None:
        self._saving.discard(saved)
        is_stored = not saved.cancelled() and saved.exception() is None
        if is_stored or self._is_abandoned:
            return
        # With their present values: newer ones may have been stored since, and must not be overwritten.
        self._unsaved |= places
        if self._unsaved:
            self._save_within(_INTERVAL_S)

    # -- what expires -------------------------------------------------------------------------------------------

    def expired(self, stream: str, below: int, segments: Collection[SegmentInfo] | None = None) -> None:
        """Report records that retention removed, for each cursor that had not passed them, and move it behind them.

        Args:
            stream: its name.
            below: the first offset that is left.
            segments: heads of the removed segments; None if they are not known.
        """
        losers: defaultdict[tuple[int, _Topics], list[str]] = defaultdict(list)
        for cursor, loaded in self._loaded.items():
            if stream in loaded and (position := self.positions[cursor, stream]) < below:
                losers[position, loaded[stream]].append(cursor)
        for (position, topics), cursors in losers.items():
            by_topic = None if segments is None else _wanted(segments, position, topics)
            if by_topic is None or by_topic:
                gaps.report("journal", cursors, Gap(stream, position, below - 1, "expired"), topics=by_topic)
            for cursor in cursors:
                self.note(cursor, stream, below)


def _wanted(segments: Collection[SegmentInfo], position: int, topics: _Topics) -> Mapping[str, int]:
    """Count records by topic from a position on. The segment with the position counts whole: an upper bound."""
    by_topic: Counter[str] = Counter()
    seen = min((info.base for info in segments), default=position)
    if seen > position:
        by_topic[_UNKNOWN] = seen - position
    for info in segments:
        if info.end > position:
            by_topic.update(info.topics or {_UNKNOWN: info.count})
    return {topic: count for topic, count in by_topic.items() if topics is None or topic in topics or topic == _UNKNOWN}
