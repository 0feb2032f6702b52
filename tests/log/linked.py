"""A journal whose writer is behind the link, with both ends in one process: what goes between them can be held up."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.link import LinkPolicy, LogClient, LogServer
from gateway.log.journal import Journal, JournalWriter, Retention
from gateway.sockets import listen_locally

ROOMY = Retention(1 << 30, 86_400.0)


class Linked:
    """A writer, its server, and one journal that follows it."""

    def __init__(
        self,
        folder: Path,
        retention: Retention = ROOMY,
        *,
        known_ids: int = 0,
        policy: LinkPolicy | None = None,
        clock: Callable[[], float] = time.time,
        **of_the_journal: Any,
    ) -> None:
        self.folder = folder
        self._retention = retention
        self._known_ids = known_ids
        self._clock = clock
        self.path = folder / "log.sock"
        self.policy = policy
        self.client = LogClient(self.path, "deliver", policy)
        self.journal = Journal(folder, writer=self.client, **of_the_journal)
        self._listening: socket.socket | None = None
        self.writer: JournalWriter
        self.server: LogServer

    async def start(self) -> None:
        """Start both ends."""
        await self.start_log()
        await self.journal.start()

    async def start_log(self) -> None:
        """Start a log process's parts; also a second time, on the socket that the first had."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._listening is None:
            self._listening = listen_locally(self.path)
        self.writer = JournalWriter(self.folder, self._retention, known_ids=self._known_ids, clock=self._clock)
        await self.writer.start()
        self.server = LogServer(self.writer, self._listening.dup())
        await self.server.start()

    async def stop_log(self) -> None:
        """End the log process: the others notice by their connections."""
        await self.server.stop(0.0)
        await self.writer.stop()

    async def stop(self) -> None:
        """Stop both ends."""
        await self.journal.stop()
        await self.stop_log()
        if self._listening is not None:
            self._listening.close()
