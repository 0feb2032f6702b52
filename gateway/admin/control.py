"""Pausing and resuming subscribers, and reading those of kind ``stream``."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from gateway.admin import responses
from gateway.admin.monitor import Monitor
from gateway.admin.overview import Overview
from gateway.admin.parts import Parts
from gateway.admin.responses import NotFound, json_response
from gateway.admin.streaming import OpenStreams
from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import NotNow
from gateway.fanout.sse import EventStream
from gateway.fanout.subscriptions import FanOut

#: With Kafka the states kept from before are there when a consumer has joined its group.
_START_S: Final = 15.0


class Control:
    """Routes of this file."""

    def __init__(self, parts: Parts, monitor: Monitor, overview: Overview, streams: OpenStreams) -> None:
        self._parts = parts
        self._monitor = monitor
        self._overview = overview
        self._streams = streams
        self._sources: dict[str, tuple[Subscriber, EventStream]] = {}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_post("/api/subscribers/{name}/pause", self._pause)
        router.add_post("/api/subscribers/{name}/resume", self._resume)
        router.add_get("/api/streams/{name}", self._stream)

    async def _pause(self, request: web.Request) -> web.Response:
        await responses.body(request, frozenset())
        (await self._fanout()).pause(request.match_info["name"])
        return await self._now(request.match_info["name"])

    async def _resume(self, request: web.Request) -> web.Response:
        await responses.body(request, frozenset())
        (await self._fanout()).resume(request.match_info["name"])
        return await self._now(request.match_info["name"])

    async def _fanout(self) -> FanOut:
        """Return the fan-out, once it knows which subscribers were paused before the start."""
        fanout = self._parts.needed_fanout()
        try:
            async with asyncio.timeout(_START_S):
                await fanout.is_started.wait()
        except TimeoutError as exc:
            raise NotNow("the subscribers have not started yet: the log cannot be read") from exc
        return fanout

    async def _now(self, name: str) -> web.Response:
        await self._monitor.look_at_subscribers()
        return json_response(next((one for one in self._overview.subscribers() if one["name"] == name), {}))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        one = self._parts.subscriber(request.match_info["name"])
        if one.kind != "stream":
            raise NotFound(f"{one.name} is a {one.kind}; only subscribers of kind stream are read here")
        last_event_id = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
        return await self._streams.send(request, self._source(one).events(last_event_id))  # type: ignore[arg-type]

    def _source(self, one: Subscriber) -> EventStream:
        """Return the one event stream of a subscriber as configured now, so that its clients are counted together."""
        known = self._sources.get(one.name)
        if known is None or known[0] != one:
            known = self._sources[one.name] = (
                one,
                EventStream(self._parts.needed_log(), one, clock=SystemClock()),
            )
        return known[1]
