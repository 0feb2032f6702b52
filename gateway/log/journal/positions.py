"""Positions of readers: on their way to the writer, as cursors, and where retention passes them.

An operator must learn of events that expire while a subscriber is down. So when retention passes the position of a
cursor that this process has loaded, the records in between are reported, and the position moves behind them; so no
component has to remember what was reported. The reader may still deliver those that it has in memory: the report is an
upper bound, by one window at most. After a crash they are not delivered.

A cursor that is not loaded here may belong to a removed subscriber. Nothing is reported for it until it reads again:
then there is a gap between its position and the first record kept, which the reading reports.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from functools import partial
from typing import Final

from gateway.errors import JournalUnavailable, NotNow, Transient
from gateway.log import Begins, Gap, Placed, Start, gaps
from gateway.log.journal.batch_format import EVENTS, stream_of
from gateway.log.journal.following import Positions, Writer
from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.streams import Streams

#: A crash repeats the deliveries of this time; ten times less doubles the commits of an idle gateway.
_INTERVAL_S: Final = 0.25
#: The same for the cursors of subscribers: there may be hundreds, and each is a row.
_LATER_S: Final = 1.0
#: The topic in reports of records that were removed unseen, or whose row is damaged.
_UNKNOWN: Final = "unknown"

#: Group and stream.
_Place = tuple[str, str]
#: Topics that a cursor wants; None for all.
_Topics = frozenset[str] | None


class PositionKeeper:
    """Collects positions, passes them to a writer, and keeps them until they are durable.

    Args:
        writer: stores them; may be unavailable for a while.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._positions: dict[_Place, int] = {}
        self._unsaved: set[_Place] = set()
        self._later: set[_Place] = set()
        self._saving: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._later_timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._is_abandoned = False

    @property
    def positions(self) -> Positions:
        """Positions by (group, stream), durable or about to be."""
        return self._positions

    def welcomed(self, durable: Positions) -> None:
        """Add the positions that the writer has; those known here are newer and stay."""
        self._positions = {**durable, **self._positions}

    def note(self, group: str, stream: str, position: int) -> None:
        """Store a position within a quarter of a second.

        Args:
            group: name of the reader.
            stream: its name.
            position: everything below this offset is done.
        """
        self._positions[group, stream] = position
        if not self._is_abandoned:
            self._unsaved.add((group, stream))
            self._save_soon()

    def note_later(self, group: str, stream: str, position: int) -> None:
        """Store a position as :meth:`note` does, within about a second, together with those of other readers."""
        self._positions[group, stream] = position
        if self._is_abandoned:
            return
        self._later.add((group, stream))
        if self._later_timer is None and not self._is_closed:
            self._later_timer = asyncio.get_running_loop().call_later(_LATER_S, self._later_due)

    def abandon(self) -> None:
        """Store nothing from now on, and fail stores in progress: the writer's file is another one."""
        self._is_abandoned = True
        self._unsaved.clear()
        self._later.clear()
        for saved in self._saving:
            if not saved.done():
                saved.set_exception(_abandoned())

    async def flush(self) -> None:
        """Store all positions, and everything that the writer received before; return when it is durable.

        Raises:
            NotNow: it is not durable; the keeper tries again.
        """
        await self._save_all()

    async def close(self) -> None:
        """Store all positions if the writer accepts them, and nothing afterwards."""
        self._is_closed = True
        for timer in (self._timer, self._later_timer):
            if timer is not None:
                timer.cancel()
        if self._unsaved or self._later:
            await asyncio.wait([self._save_all()])

    def _save_soon(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._unsaved:
            self._save()

    def _later_due(self) -> None:
        self._later_timer = None
        self._save_all()

    def _save_all(self) -> asyncio.Future[None]:
        self._unsaved |= self._later
        self._later.clear()
        return self._save()

    def _save(self) -> asyncio.Future[None]:
        unsaved, self._unsaved = self._unsaved, set()
        try:
            if self._is_abandoned:
                raise _abandoned()
            saved = self._writer.note({place: self._positions[place] for place in unsaved})
        except NotNow as exc:
            saved = asyncio.get_running_loop().create_future()
            saved.set_exception(exc)
        self._saving.add(saved)
        saved.add_done_callback(partial(self._saved, unsaved))
        return saved

    def _saved(self, places: set[_Place], saved: asyncio.Future[None]) -> None:
        self._saving.discard(saved)
        if self._is_abandoned or (not saved.cancelled() and saved.exception() is None):
            return
        # With their present values: newer ones may have been stored since, and must not be overwritten.
        self._unsaved |= places
        if self._unsaved:
            self._save_soon()


def _abandoned() -> JournalUnavailable:
    return JournalUnavailable("the journal's file was replaced; these positions are of the one before")


class JournalCursors:
    """Implements :class:`gateway.log.CursorStore` by the rows of positions.

    Args:
        streams: has the records.
        keeper: has the positions.
    """

    def __init__(self, streams: Streams, keeper: PositionKeeper) -> None:
        self._streams = streams
        self._keeper = keeper
        #: By cursor, the streams in which it commits, and the topics that it reads there.
        self._loaded: dict[str, dict[str, _Topics]] = {}

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        """See :meth:`gateway.log.CursorStore.load`."""
        try:
            streams = sorted({stream_of(topic) for topic in topics}.intersection(partitions))
            new = [stream for stream in streams if (cursor, stream) not in self._keeper.positions]
            for stream in new:
                self._keeper.note(cursor, stream, await self._origin(stream, start))
            if new:
                await self._keeper.flush()
        except NotNow as exc:
            raise Transient(str(exc)) from exc
        loaded = self._loaded.setdefault(cursor, {})
        loaded.update({stream: frozenset(topics) if stream == EVENTS else None for stream in streams})
        return {stream: self._placed(cursor, stream) for stream in streams}

    async def _origin(self, stream: str, start: Start | Begins) -> int:
        """Return where a cursor without a position begins in a stream."""
        if not isinstance(start, str):
            since = [begin.since for topic, begin in start.items() if stream_of(topic) == stream]
            return await self._streams.offset_at(stream, min(since)) if since else self._streams.floor(stream)
        if start == "latest":  # events that were answered before this call are before the beginning
            await self._streams.sync()
        return self._streams.beginning(stream, start)

    def _placed(self, cursor: str, stream: str) -> Placed:
        position = min(self._keeper.positions[cursor, stream], self._streams.head(stream))
        floor = self._streams.floor(stream)
        if position >= floor:
            return Placed(position)
        return Placed(floor, Gap(stream, position, floor - 1, "expired"))

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.CursorStore.commit`."""
        if partition in self._loaded.get(cursor, ()) and offset > self._keeper.positions[cursor, partition]:
            self._keeper.note_later(cursor, partition, offset)

    def committed(self, cursor: str) -> Mapping[str, int]:
        """See :meth:`gateway.log.CursorStore.committed`."""
        return {stream: self._keeper.positions[cursor, stream] for stream in self._loaded.get(cursor, ())}

    async def flush(self) -> None:
        """See :meth:`gateway.log.CursorStore.flush`."""
        try:
            if self._streams.is_open:
                await self._keeper.flush()
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

    def expired(self, stream: str, below: int, segments: Collection[SegmentInfo] | None = None) -> None:
        """Report records that retention removed, for each cursor that had not passed them, and move it behind them.

        Args:
            stream: its name.
            below: the first offset that is left.
            segments: heads of the removed segments; None if they are not known.
        """
        losers: defaultdict[tuple[int, _Topics], list[str]] = defaultdict(list)
        for cursor, loaded in self._loaded.items():
            if stream in loaded and (position := self._keeper.positions[cursor, stream]) < below:
                losers[position, loaded[stream]].append(cursor)
        for (position, topics), cursors in losers.items():
            by_topic = None if segments is None else _wanted(segments, position, topics)
            if by_topic is None or by_topic:
                gaps.report("journal", cursors, Gap(stream, position, below - 1, "expired"), topics=by_topic)
            for cursor in cursors:
                self._keeper.note(cursor, stream, below)


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
