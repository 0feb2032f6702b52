"""A real HTTP server as the subscriber: remembers what came and answers as the test says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
from aiohttp import web

Answer = Callable[["Post"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Post:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def key(self) -> str:
        event = orjson.loads(self.body)
        return str(event.get("partitionkey", event["id"]))  # events of other producers may have none

    @property
    def number(self) -> int:
        return int(orjson.loads(self.body)["data"]["number"])


async def ok(_: Post) -> web.StreamResponse:
    return web.Response()


def status(code: int, **kwargs: object) -> Answer:
    async def answer(_: Post) -> web.StreamResponse:
        return web.Response(status=code, **kwargs)  # type: ignore[arg-type]

    return answer


class Receiver:
    """``posts`` in order of arrival; ``delivered`` those answered 2xx, in order of their answers."""

    def __init__(self, answer: Answer = ok) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        self.delivered: list[Post] = []
        self.answered_at: list[float] = []
        self.in_flight: Counter[str] = Counter()
        self.most_in_flight = 0
        self.overlapping_keys: set[str] = set()
        self._changed = asyncio.Event()
        self._server: web.ServerRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Receiver:
        self._server = web.ServerRunner(web.Server(self._serve), shutdown_timeout=0.1)
        await self._server.setup()
        site = web.TCPSite(self._server, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._server.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.cleanup()

    async def until(self, is_enough: Callable[[], bool], *, within_s: float = 30.0) -> None:
        """Wait for something that posts or answers change."""
        async with asyncio.timeout(within_s):
            while not is_enough():
                self._changed.clear()
                await self._changed.wait()

    async def until_delivered(self, count: int, *, within_s: float = 30.0) -> None:
        await self.until(lambda: len({post.id for post in self.delivered}) >= count, within_s=within_s)

    def numbers_by_key(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for post in self.delivered:
            found[post.key].append(post.number)
        return dict(found)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.content.read()
        post = Post({name.lower(): value for name, value in request.headers.items()}, body)
        self.posts.append(post)
        self._changed.set()
        key = post.key
        self.in_flight[key] += 1
        if self.in_flight[key] > 1:
            self.overlapping_keys.add(key)
        self.most_in_flight = max(self.most_in_flight, self.in_flight.total())
        try:
            response = await self.answer(post)
        finally:
            self.in_flight[key] -= 1
        if 200 <= response.status < 300:
            self.delivered.append(post)
            self.answered_at.append(time.monotonic())
        self._changed.set()
        return response
