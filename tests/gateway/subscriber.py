"""A real subscriber: an HTTP server that keeps what it got and misbehaves on request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

Behaviour = Callable[[dict[str, Any]], Awaitable[int]]


async def accept(_: dict[str, Any]) -> int:
    """Takes every event."""
    return 200


async def refuse(_: dict[str, Any]) -> int:
    """Will not have any, now or later."""
    return 422


class Subscriber:
    """Counts each event by id and keeps the order of arrival. Listens on a free port inside ``async with``.

    Args:
        behave: awaited for each event before it is answered; gives the status.
    """

    def __init__(self, behave: Behaviour = accept) -> None:
        self.behave = behave
        self.ids: Counter[str] = Counter()
        self.subjects: Counter[str] = Counter()
        self.order: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Subscriber:
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)  # type: ignore[assignment]
        assert self._runner is not None
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, wanted: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Wait until something holds; looked at after each event.

        Raises:
            TimeoutError: it does not hold after ``timeout_s``.
        """
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(wanted)

    async def until_more(self, count: int) -> None:
        """Wait for so many more deliveries, repeats included."""
        target = len(self.order) + count
        await self.until(lambda: len(self.order) >= target)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        event = orjson.loads(await request.read())
        status = await self.behave(event)
        if 200 <= status < 300:
            self.ids[event["id"]] += 1
            self.subjects[event["subject"]] += 1
            self.order.append((event["partitionkey"], event["id"]))
            if len(self.headers) < 100:
                self.headers.append(dict(request.headers))
        async with self._changed:
            self._changed.notify_all()
        return web.Response(status=status)
