"""What comes next in one stream, from memory or from the file, and what is missing there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from gateway.errors import Transient
from gateway.log import Gap, Record
from gateway.log.journal.cache import StreamCache
from gateway.log.journal.rows import Segment, SegmentInfo

#: Bytes read from the file at a time by a reader that fell behind.
_READ_BYTES: Final = 1024 * 1024


class Streams(Protocol):
    """What a reader asks of the journal; see :class:`.journal.Journal`."""

    @property
    def is_open(self) -> bool:
        """Whether anything can be read."""

    def head(self, stream: str) -> int:
        """Offset that the next record gets."""

    def floor(self, stream: str) -> int:
        """Offset of the first record kept."""

    def cache(self, stream: str) -> StreamCache | None:
        """The newest records in memory."""

    def read_file(self, stream: str, position: int, max_bytes: int) -> asyncio.Future[list[Segment]]:
        """Segments from the file."""

    async def sync(self) -> None:
        """Return when all that the writer did by now is known."""


class Part(NamedTuple):
    """What a look found: records or a gap, or neither.

    Args:
        records: one after the other, whatever their topic.
        end: the offset behind them, or behind the gap.
    """

    records: Sequence[Record]
    end: int
    gap: Gap | None = None


class Scan:
    """A place in one stream.

    Args:
        position: offset of the next record to look at. Whoever looks moves it when what was found is handed out.
    """

    __slots__ = ("_read_ahead", "_streams", "position", "stream")

    def __init__(self, streams: Streams, stream: str, position: int) -> None:
        self._streams = streams
        self.stream = stream
        self.position = position
        self._read_ahead: list[Record] = []

    async def look(self, position: int, limit: int) -> Part:
        """Return at most ``limit`` records from an offset on.

        Raises:
            Transient: what should be in the file is not found there.
            NotNow: the file cannot be read.
        """
        # What retention took is gone, also where memory still has it.
        floor = self._streams.floor(self.stream)
        if position < floor:
            return Part((), floor, Gap(self.stream, position, floor - 1, "expired"))
        cache = self._streams.cache(self.stream)
        if cache is not None and position >= cache.first:
            self._read_ahead = []
            return _part(cache.slice(position, limit), position)
        return await self._from_file(position, limit)

    async def _from_file(self, position: int, limit: int) -> Part:
        ahead = self._read_ahead
        if not ahead or not ahead[0].offset <= position <= ahead[-1].offset:
            found = await self._read(position)
            if isinstance(found, Part):
                return found
            ahead = self._read_ahead = found
        start = position - ahead[0].offset
        return _part(ahead[start : start + limit], position)

    async def _read(self, position: int) -> list[Record] | Part:
        """Records of the file, or what is to be said in their place."""
        segments = await self._streams.read_file(self.stream, position, _READ_BYTES)
        if not segments or _info(segments[0]).base > position:  # trimmed away just now, or not to be found
            await self._streams.sync()
            if self._streams.floor(self.stream) <= position:
                raise Transient(
                    f"{self.stream} offset {position}: in the journal's range, but not in its file; "
                    "if it stays so, run 'gateway journal check'"
                )
            return Part((), position)
        records: list[Record] = []
        for item in segments:
            if isinstance(item, tuple):
                records += item[1]
            elif records:
                break  # hand out what comes before the damage first
            else:
                end = max(position, item.end)
                return Part((), end, Gap(self.stream, max(position, item.base), item.end - 1, "damaged"))
        return [record for record in records if record.offset >= position]


def _part(records: Sequence[Record], position: int) -> Part:
    return Part(records, records[-1].offset + 1 if records else position)


def _info(item: Segment) -> SegmentInfo:
    return item[0] if isinstance(item, tuple) else item
