"""Positions of the cursors that share a reading of the journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from gateway.errors import NotNow, Transient
from gateway.log import Begins, Gap, Placed, Start
from gateway.log.journal.expiry import Expiry
from gateway.log.journal.positions import PositionKeeper
from gateway.log.journal.streams import EVENTS, stream_of


class Bounds(Protocol):
    """The part of the journal that cursors use; see :class:`.journal.Journal`."""

    def head(self, stream: str) -> int:
        """Return the offset that the next record gets."""

    def floor(self, stream: str) -> int:
        """Return the offset of the first record kept."""

    async def origin(self, stream: str, start: Start | Begins) -> int:
        """Return where a cursor without a position begins in a stream."""

    async def flush(self) -> None:
        """Make all positions so far durable."""


class JournalCursors:
    """Implements :class:`gateway.log.CursorStore` by the rows of positions."""

    def __init__(self, journal: Bounds, keeper: PositionKeeper, expiry: Expiry) -> None:
        self._journal = journal
        self._keeper = keeper
        self._expiry = expiry
        #: Streams by cursor: those in which it commits.
        self._loaded: dict[str, set[str]] = {}

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        """See :meth:`gateway.log.CursorStore.load`."""
        try:
            streams = sorted({stream_of(topic) for topic in topics}.intersection(partitions))
            new = [stream for stream in streams if (cursor, stream) not in self._keeper.positions]
            for stream in new:
                self._keeper.note(cursor, stream, await self._journal.origin(stream, _of(stream, start)))
            if new:
                await self._journal.flush()
        except NotNow as exc:
            raise Transient(str(exc)) from exc
        self._loaded.setdefault(cursor, set()).update(streams)
        for stream in streams:
            self._expiry.watch(cursor, stream, frozenset(topics) if stream == EVENTS else None)
        return {stream: self._placed(cursor, stream) for stream in streams}

    def _placed(self, cursor: str, stream: str) -> Placed:
        position = min(self._keeper.positions[cursor, stream], self._journal.head(stream))
        floor = self._journal.floor(stream)
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
            await self._journal.flush()
        except NotNow as exc:
            raise Transient(str(exc)) from exc

    def release(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.CursorStore.release`."""
        for cursor in list(self._loaded):
            self._leave(cursor, partitions)

    def forget(self, cursor: str) -> None:
        """See :meth:`gateway.log.CursorStore.forget`."""
        self._leave(cursor, list(self._loaded.get(cursor, ())))
        self._loaded.pop(cursor, None)

    def _leave(self, cursor: str, streams: Collection[str]) -> None:
        for stream in streams:
            if stream in self._loaded[cursor]:
                self._loaded[cursor].discard(stream)
                self._expiry.forget(cursor, stream)


def _of(stream: str, start: Start | Begins) -> Start | Begins:
    """Return the beginnings of the topics in a stream; "earliest" if it has none of the topics."""
    if isinstance(start, str):
        return start
    return {topic: begin for topic, begin in start.items() if stream_of(topic) == stream} or "earliest"
