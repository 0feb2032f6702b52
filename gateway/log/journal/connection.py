"""The reading connection of a process to the journal's file: a store with a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.errors import JournalUnavailable
from gateway.log.journal.rows import Segment
from gateway.log.journal.storage import Store

_T = TypeVar("_T")


class FileConnection:
    """Asks the file; every question fails with :class:`JournalUnavailable` while it is closed.

    Args:
        folder: folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: None while it is closed.
        self.store: Store | None = None
        self._pool: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Open the file, which exists."""
        self._pool = ThreadPoolExecutor(1, "journal-reader")
        self.store = await self._in_pool(partial(Store, self._folder, is_writer=False))

    async def close(self) -> None:
        """Close the file. May be called before :meth:`open`."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        if self.store is not None:
            store, self.store = self.store, None
            await asyncio.to_thread(store.close)

    def read(self, stream: str, position: int, max_bytes: int, head: int) -> asyncio.Future[list[Segment]]:
        """Return segments, see :meth:`.storage.Store.read`.

        Args:
            stream: its name.
            position: offset in the first segment.
            max_bytes: about so many bytes of records.
            head: offset behind the last record.
        """

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
            if self.store is None:
                raise JournalUnavailable("the journal is closed: the gateway is stopping")
            return question(self.store)

        return self._in_pool(ask)

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)
