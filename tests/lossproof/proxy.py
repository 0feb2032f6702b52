"""The network between gateway and broker: a TCP proxy that can be cut, can swallow, and can be slow."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from tests.waiting import pause

_CHUNK: Final = 65536


class Proxy:
    """Passes bytes on from its port to ``target``.

    Args:
        port: to listen on, of loopback.
        target: port of the other end.
        delay_s: before each chunk, in both directions.
    """

    def __init__(self, port: int, target: int = 0) -> None:
        self.port = port
        self.target = target
        self.delay_s = 0.0
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Close everything."""
        self.cut()
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """Reset all connections and every new one."""
        self._is_cut = True
        self._flows.set()
        for writer in list(self._open):
            writer.transport.abort()

    def swallow(self) -> None:
        """Connections stay, nothing passes: a cable that was pulled."""
        self._flows.clear()

    def heal(self) -> None:
        """As it should be."""
        self._is_cut = False
        self.delay_s = 0.0
        self._flows.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(other_writer)
        await asyncio.gather(self._pass(reader, other_writer), self._pass(other_reader, writer))
        self._open -= {writer, other_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flows.wait()
                if self.delay_s:
                    await pause(self.delay_s, "a slow network")
                writer.write(data)
                await writer.drain()
        writer.close()
