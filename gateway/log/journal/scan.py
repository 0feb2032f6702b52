"""The next records of one stream, from memory or from the file, and the gaps between them."""

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
    """The part of the journal that a scan uses; see :class:`.journal.Journal`."""

    @property
    def is_open(self) -> bool:
        """Whether the journal is open for reading."""

    def head(self, stream: str) -> int:
        """Return the offset that the next record gets."""

    def floor(self, stream: str) -> int:
        """Return the offset of the first record kept."""

    def cache(self, stream: str) -> StreamCache | None:
        """Return the newest records in memory."""

    def read_file(self, stream: str, position: int, max_bytes: int) -> asyncio.Future[list[Segment]]:
        """Return segments from the file.

        Args:
            stream: its name.
            position: offset in the first segment.
            max_bytes: about so many bytes of records.
        """

    async def sync(self) -> None:
        """Return when all changes that the writer made before this call are known."""


class Part(NamedTuple):
    """The result of a look: records or a gap, or neither.

    Args:
        records: consecutive records of any topic.
        end: the offset behind them, or behind the gap.
    """

    records: Sequence[Record]
    end: int
    gap: Gap | None = None


class Scan:
    """A position in one stream.

    Args:
        streams: the journal.
        stream: name of the stream.
        position: offset of the next record to read. The caller of :meth:`look` moves it when it hands records out.
    """

    __slots__ = ("_read_ahead", "_streams", "position", "stream")

    def __init__(self, streams: Streams, stream: str, position: int) -> None:
        self._streams = streams
        self.stream = stream
        self.position = position
        self._read_ahead: list[Record] = []

    async def look(self, position: int, limit: int) -> Part:
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
        """Return records of the file, or the gap in their place."""
        segments = await self._streams.read_file(self.stream, position, _READ_BYTES)
        if not segments or _info(segments[0]).base > position:  # trimmed meanwhile, or missing
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
                break  # return the records before the damage first
            else:
                end = max(position, item.end)
                return Part((), end, Gap(self.stream, max(position, item.base), item.end - 1, "damaged"))
        return [record for record in records if record.offset >= position]


def _part(records: Sequence[Record], position: int) -> Part:
    return Part(records, records[-1].offset + 1 if records else position)


def _info(item: Segment) -> SegmentInfo:
    return item[0] if isinstance(item, tuple) else item
