"""Real subscribers: HTTP servers that write down what they took, and misbehave in every way on request."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal, NamedTuple

import orjson
from aiohttp import web

from tests.lossproof.callbacks import Item, mark_of
from tests.waiting import pause

Mood = Literal["well", "500", "503", "hang", "reset", "slow", "huge", "redirect", "half", "gone"]
MOODS: Final[tuple[Mood, ...]] = ("500", "503", "hang", "reset", "slow", "huge", "redirect", "half")

_HUGE_CHUNK: Final = b"x" * 65536


class Arrival(NamedTuple):
    """One event as it was met, at a subscriber or in a log."""

    item: Item | None
    id: str
    key: str
    topic: str
    checksum: int


def arrival(value: bytes, topic: str = "") -> Arrival:
    """What the bytes of an event say."""
    event = orjson.loads(value)
    return Arrival(mark_of(value), event["id"], event["partitionkey"], topic, zlib.crc32(value))


@dataclass(slots=True)
class Receiver:
    """One subscriber.

    Args:
        name: in the configuration.
        topics: it asks for.
        prefix: of ``subject``, by its filter; empty: everything.
        is_ordered: the order of first appearances is promised: nothing passes a failing event.
        settings: more of its row in the configuration.
        added_at: monotonic time in microseconds. It must get the events that were first sent after it.
        not_before: the same clock. It must not get events that were last sent and answered before it.
    """

    name: str
    topics: tuple[str, ...]
    prefix: str = ""
    is_ordered: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    added_at: int = 0
    not_before: int = 0
    mood: Mood = "well"
    is_gone: bool = False
    taken: list[Arrival] = field(default_factory=list)
    items: set[Item | None] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    followed: int = 0
    port: int = 0
    rng: Random = field(default_factory=Random)
    _runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    def row(self) -> dict[str, Any]:
        """Of ``subscribers`` in the configuration. Patient enough that nothing becomes a dead letter in a test."""
        row: dict[str, Any] = {
            "name": self.name,
            "topics": list(self.topics),
            "url": f"http://127.0.0.1:{self.port}/hook",
            "allow_private": True,
            "start": "earliest",
            "timeout_s": 2,
            "retry": {"attempts": 1000, "first_delay_s": 0.1, "max_delay_s": 1, "tiers": [5]},
            "breaker": {"first_open": 0.2, "max_open": 1},
            **self.settings,
        }
        if self.prefix:
            row["filter"] = {"prefix": {"subject": self.prefix}}
        return row

    def wants(self, topic: str, key: str) -> bool:
        """Whether an event of this topic and key is for it."""
        return topic in self.topics and key.startswith(self.prefix)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/hook":
            self.followed += 1
            return web.Response(status=200)
        body = await request.read()
        mood = self.mood
        self.attempts[mood] += 1
        if mood == "half":  # every second attempt fails, in any way
            mood = self.rng.choice(MOODS[:-1]) if self.rng.random() < 0.5 else "well"
        if mood in ("well", "slow", "huge"):
            if mood == "slow":
                await pause(0.3, "slow")
            met = arrival(body)
            self.taken.append(met)
            self.items.add(met.item)
            return await _huge(request) if mood == "huge" else web.Response(status=200)
        if mood == "hang":
            await pause(5, "hangs")
        if mood == "reset":
            assert request.transport is not None
            request.transport.abort()
        if mood == "redirect":
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{self.port}/elsewhere"})
        if mood == "gone":
            self.is_gone = True
            return web.Response(status=410)
        return web.Response(status=503 if mood == "503" else 500, headers={"Retry-After": "1"} if mood == "503" else {})


async def _huge(request: web.BaseRequest) -> web.StreamResponse:
    """Up to 16 MB that nobody asked for; a gateway that reads it all has no limit."""
    response = web.StreamResponse(status=200)
    await response.prepare(request)
    try:
        for _ in range(256):
            await response.write(_HUGE_CHUNK)
    except (ConnectionError, OSError):
        pass
    return response
