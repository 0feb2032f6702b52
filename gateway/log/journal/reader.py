"""A reading position in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from gateway.errors import NotNow, Transient
from gateway.log import Record
from gateway.log.journal import losses
from gateway.log.journal.rows import Segment, SegmentInfo

if TYPE_CHECKING:
    from gateway.log.journal.journal import Journal

#: Bytes read from the file at a time by a reader that fell behind.
_READ_BYTES: Final = 1024 * 1024


class JournalReader:
    """Implements :class:`gateway.log.LogReader` on one stream of the journal.

    Args:
        topics: records of other topics are passed over; None reads all.
        position: offset of the next record to look at.
        is_kept: how far it came is stored under the group's name.
    """

    def __init__(
        self,
        journal: Journal,
        group: str,
        stream: str,
        topics: frozenset[str] | None,
        position: int,
        *,
        is_kept: bool = True,
    ) -> None:
        self.group = group
        self.stream = stream
        self.topics = topics
        self.position = position
        self._journal = journal
        self._is_kept = is_kept
        self._committed = position
        self._returned_end = position
        self._is_paused = False
        self._is_closed = False
        self._read_ahead: list[Record] = []

    @property
    def committed(self) -> int:
        """Everything below is done."""
        return self._committed

    @property
    def position_of_group(self) -> int:
        """Everything below was handed out here, or is done by another reader of the name."""
        kept = self._journal.cursors().get((self.group, self.stream), 0) if self._is_kept else 0
        return max(self.position, kept)

    async def fetch(self, *, max_records: int, wait_s: float) -> Sequence[Record]:
        """See :meth:`gateway.log.LogReader.fetch`."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            if not self._journal.is_open:
                raise Transient("the journal is closed")
            try:
                if not self._is_paused and (records := await self._scan(max_records)):
                    return records
            except NotNow as exc:
                raise Transient(str(exc)) from exc
            # Nothing is awaited between the look at the head and this line, so no append is missed.
            changed = self._journal.changed(self.stream)
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                return ()
            try:
                async with asyncio.timeout(remaining):
                    await changed
            except TimeoutError:
                return ()

    async def _scan(self, max_records: int) -> Sequence[Record]:
        """Look at records from the position on until some are wanted or the head is reached."""
        while self.position < self._journal.head(self.stream):
            looked_at = await self._next(max_records)
            if not looked_at:
                continue
            wanted = (
                looked_at if self.topics is None else [record for record in looked_at if record.topic in self.topics]
            )
            everything_done = self._committed >= self._returned_end
            self.position = looked_at[-1].offset + 1
            if wanted:
                self._returned_end = wanted[-1].offset + 1
                return wanted
            if everything_done:
                self._note(self.position)
        return ()

    async def _next(self, limit: int) -> list[Record]:
        """The next records whatever their topic, from memory where possible; empty after a hole was stepped over."""
        # What retention took is gone, also where memory still has it.
        floor = self._journal.floor(self.stream)
        if self.position < floor:
            self._journal.unread.overtaken(self, floor)
        tail = self._journal.tail(self.stream)
        if tail is not None and self.position >= tail.first:
            self._read_ahead = []
            return tail.slice(self.position, limit)
        if not self._read_ahead or self._read_ahead[0].offset != self.position:
            self._read_ahead = await self._from_file()
        taken = self._read_ahead[:limit]
        self._read_ahead = self._read_ahead[limit:]
        return taken

    async def _from_file(self) -> list[Record]:
        position = self.position
        segments = await self._journal.read_file(self.stream, position, _READ_BYTES)
        if not segments or _info(segments[0]).base > position:  # trimmed away just now, or not to be found
            await self._journal.sync()
            if self._journal.floor(self.stream) <= position:
                raise Transient(
                    f"{self.stream} offset {position}: in the journal's range, but not in its file; "
                    "if it stays so, run 'gateway journal check'"
                )
            return []
        records: list[Record] = []
        for item in segments:
            if isinstance(item, tuple):
                records += item[1]
            elif records:
                break  # hand out what comes before the damage first
            else:
                losses.damaged(self.stream, item, self.group)
                self.position = max(self.position, item.end)
                return []
        return [record for record in records if record.offset >= self.position]

    def commit(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.commit`. Passing the last record handed out passes what was skipped too."""
        self._note(max(offset, self.position) if offset >= self._returned_end else offset)

    def _note(self, offset: int) -> None:
        if offset > self._committed:
            self._keep(offset)

    def _keep(self, offset: int) -> None:
        self._committed = offset
        if self._is_kept:
            self._journal.note_cursor(self.group, self.stream, offset)

    def step_over(self, below: int) -> bool:
        """Go on at ``below``: what is before it expired unread. Returns whether it is committed with that; it is not
        while something that was handed out may still be done.
        """
        is_everything_done = not self._is_kept or self._committed >= self._returned_end
        self.position = max(self.position, below)
        if is_everything_done:
            self._note(self.position_of_group)
        return is_everything_done

    async def flush(self) -> None:
        """See :meth:`gateway.log.LogReader.flush`."""
        await self._journal.flush()

    def pause(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.pause`."""
        if self.stream in partitions:
            self._is_paused = True

    def resume(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.resume`."""
        if self.stream in partitions and self._is_paused:
            self._is_paused = False
            self._journal.wake(self.stream)

    async def seek(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.seek`. Clamped to what is kept."""
        floor, head = self._journal.floor(self.stream), self._journal.head(self.stream)
        self.position = min(max(offset, floor), head)
        self._read_ahead = []
        self._returned_end = self.position
        self._journal.unread.forget(self.group, self.stream)
        self._keep(self.position)
        self._journal.wake(self.stream)

    async def seek_to_time(self, unix_s: float) -> None:
        """See :meth:`gateway.log.LogReader.seek_to_time`."""
        await self.seek(self.stream, await self._journal.offset_at(self.stream, unix_s))

    async def lag(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.lag`."""
        return {self.stream: max(0, self._journal.head(self.stream) - self._committed)}

    async def ends(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.ends`."""
        return {self.stream: self._journal.head(self.stream)}

    async def positions(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.positions`."""
        return {self.stream: self.position}

    def incarnations(self) -> Mapping[str, str]:
        """See :meth:`gateway.log.LogReader.incarnations`. A stream of the journal is never made again."""
        return {}

    async def close(self) -> None:
        """See :meth:`gateway.log.LogReader.close`."""
        if not self._is_closed:
            self._is_closed = True
            self._journal.forget(self)
            if self._is_kept:
                await self._journal.flush()


def _info(item: Segment) -> SegmentInfo:
    return item[0] if isinstance(item, tuple) else item
