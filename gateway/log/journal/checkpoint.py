"""Checkpoints: the WAL is copied into the file beside the commits, not by one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from gateway.background import give_way
from gateway.errors import GatewayError
from gateway.log.journal.open_files import OpenFiles
from gateway.log.journal.store import Store

#: Bytes in the WAL from which a checkpoint pays. With ten times more, a start after a crash reads for seconds.
_WORTH_BYTES: Final = 8 * 1024 * 1024
#: Minimum size of a commit, for any number of events: some pages of the tree and of positions.
_COMMIT_BYTES: Final = 8 * 1024

_T = TypeVar("_T")
_log = structlog.get_logger("gateway.journal")


class Checkpoints:
    """Makes a checkpoint when enough was written, in a thread with low priority.

    Args:
        folder: the journal's, open and locked.
        store: the writing connection.
        files: compared with their names before each: a checkpoint spreads the damage of a WAL to the file.
    """

    def __init__(self, folder: Path, store: Store, files: OpenFiles) -> None:
        self._folder = folder
        self._store = store
        self._files = files
        self._pool = ThreadPoolExecutor(1, "journal-checkpoint", initializer=give_way)
        self._beside: Store | None = None
        self._written = 0
        self._running: asyncio.Task[None] | None = None
        self._is_closing = False

    def wrote(self, size: int) -> None:
        """Count a commit with so many bytes of records."""
        self._written += size + _COMMIT_BYTES
        if self._written >= _WORTH_BYTES and self._running is None and not self._is_closing:
            self._written = 0
            self._running = asyncio.get_running_loop().create_task(self._run(), name="journal-checkpoint")

    async def close(self) -> None:
        """Wait for a running checkpoint and start no other one."""
        self._is_closing = True
        if self._running is not None:
            await asyncio.wait([self._running])
        if self._beside is not None:
            await self._in_pool(self._beside.abandon if self._files.is_damaged else self._beside.close)
            self._beside = None
        self._pool.shutdown(wait=True)

    async def _run(self) -> None:
        """Copy most of the WAL beside the commits, then the remainder between two commits, so that the WAL restarts.

        In one piece, a commit would wait tens of milliseconds for it.
        """
        try:
            self._files.check()
            if self._beside is None:
                self._beside = await self._in_pool(partial(Store, self._folder, is_writer=False))
            await self._in_pool(self._beside.checkpoint)
            self._finish()
        except GatewayError as exc:
            _log.warning("journal.checkpoint_failed", error=str(exc))
        finally:
            self._running = None

    def _finish(self) -> None:
        self._files.check()
        self._store.checkpoint()

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)
