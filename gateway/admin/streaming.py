"""Answers that do not end: server-sent events. They are ended when the admin port closes.

Source: HTML Living Standard, section 9.2. The console reads them with ``fetch``, as ``EventSource`` sends no token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from gateway.fanout.sse import CONTENT_TYPE

#: A client that takes nothing for so long is gone, or as good as gone.
_WRITE_S: Final = 30.0
#: How late it is noticed that a client has gone; its place is free again then.
_LOOK_S: Final = 1.0


class OpenStreams:
    """The streams that are open."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[object]] = set()
        self._is_closed = False

    def close(self) -> None:
        """End all, properly: a client sees an end, not a broken connection."""
        self._is_closed = True
        for task in list(self._open):
            task.cancel()

    async def send(self, request: web.Request, chunks: AsyncGenerator[bytes, None]) -> web.StreamResponse:
        """Send chunks until they end, the client goes, or the port closes.

        The first chunk is awaited before the response starts, so that an error can still be sent with its status.
        """
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "X-Accel-Buffering": "no"})
        async with aclosing(chunks), self._registered():
            first = await anext(chunks, b"")
            await response.prepare(request)
            try:
                await self._write(response, first)
                while (chunk := await self._next(request, chunks)) is not None:
                    await self._write(response, chunk)
            except (ConnectionResetError, TimeoutError):
                response.force_close()
            except asyncio.CancelledError:
                if not self._is_closed:
                    raise
                await self._ended(response)
        return response

    async def _next(self, request: web.Request, chunks: AsyncGenerator[bytes, None]) -> bytes | None:
        """Wait for the next chunk, and look now and then whether the client is still there; None at the end.

        Raises:
            ConnectionResetError: it has disconnected. Otherwise only the next write would reveal that.
        """
        waiting: asyncio.Future[bytes | None] = asyncio.ensure_future(_next_or_none(chunks))
        try:
            while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError
            return await waiting
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    async def _write(self, response: web.StreamResponse, chunk: bytes) -> None:
        async with asyncio.timeout(_WRITE_S):
            await response.write(chunk)

    async def _ended(self, response: web.StreamResponse) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        response.force_close()
        with suppress(ConnectionResetError, TimeoutError):
            async with asyncio.timeout(0.5):
                await response.write_eof()

    @asynccontextmanager
    async def _registered(self) -> AsyncGenerator[None, None]:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            yield
        finally:
            self._open.discard(task)


async def _next_or_none(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(chunks, None)
