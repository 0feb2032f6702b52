"""Checkpoints: the WAL is copied into the file beside the commits, not by one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from gateway.errors import GatewayError
from gateway.log.journal.store import Store
from gateway.log.journal.writer import WriterThread

#: Bytes in the WAL that are worth a checkpoint. At ten times more a start after a crash reads for seconds.
_WORTH_BYTES: Final = 8 * 1024 * 1024
#: What a commit writes at least, whatever its events: some pages of tree and positions.
_COMMIT_BYTES: Final = 8 * 1024

_log = structlog.get_logger("gateway.journal")


class Checkpoints:
    """Makes one when enough was written.

    Args:
        beside: copies through the reading connection, while commits go on; in another thread than the writer's.
        store: the writing connection.
        writer: its thread.
    """

    def __init__(self, beside: Callable[[], asyncio.Future[None]], store: Store, writer: WriterThread) -> None:
        self._beside = beside
        self._store = store
        self._writer = writer
        self._written = 0
        self._running: asyncio.Task[None] | None = None

    def wrote(self, size: int) -> None:
        """A commit with so many bytes of records."""
        self._written += size + _COMMIT_BYTES
        if self._written >= _WORTH_BYTES and self._running is None:
            self._written = 0
            self._running = asyncio.get_running_loop().create_task(self._run(), name="journal-checkpoint")

    async def done(self) -> None:
        """Wait for the one that is under way."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        """Most of it beside the commits; then, between two of them, the little that came meanwhile, so that the WAL
        starts over. In one piece a commit would wait tens of milliseconds behind it.
        """
        try:
            await self._beside()
            await self._writer.submit(self._store.checkpoint)
        except GatewayError as exc:
            _log.warning("journal.checkpoint_failed", error=str(exc))
        finally:
            self._running = None
