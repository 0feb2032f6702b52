"""``/api/search``, ``/api/events`` (live) and ``/api/events/<id>`` (the story of one)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Final

import orjson
from aiohttp import web

from gateway.admin import responses
from gateway.admin.event_summary import event_summary
from gateway.admin.livetail import LiveTail, Wanted
from gateway.admin.outcomes import OUTCOMES, EventOutcomes
from gateway.admin.parts import Parts
from gateway.admin.responses import BadRequest, NotFound, json_response
from gateway.admin.story import Storyteller
from gateway.admin.streaming import OpenStreams
from gateway.fanout.sse import HEARTBEAT_S
from gateway.log import Record
from gateway.search import Keep, Query

#: Bursts are sent together: a browser that lays out a list for each event is busy with nothing else.
_GATHER_S: Final = 0.1
_ID: Final = re.compile(r"^[0-9a-f]{32}$")


class Events:
    """Routes of this file."""

    def __init__(
        self, parts: Parts, tail: LiveTail, streams: OpenStreams, stories: Storyteller, outcomes: EventOutcomes
    ) -> None:
        self._parts = parts
        self._outcomes = outcomes
        self._tail = tail
        self._streams = streams
        self._stories = stories

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/search", self._search)
        router.add_get("/api/events", self._live)
        router.add_get("/api/events/{id}", self._story)

    async def _search(self, request: web.Request) -> web.Response:
        search = self._parts.needed_search()
        given = request.query
        subscriber = responses.text(given.get("subscriber"), "subscriber")
        if subscriber:
            self._parts.subscriber(subscriber)
        query = Query(
            text=responses.text(given.get("q"), "q"),
            callback=responses.text(given.get("callback"), "callback"),
            topic=responses.text(given.get("topic"), "topic"),
            type=responses.text(given.get("type"), "type"),
            since=responses.number(given.get("since"), "since"),
            until=responses.number(given.get("until"), "until"),
            key_prefix=responses.text(given.get("key_prefix"), "key_prefix"),
            before=_offset(given.get("before"), "before"),
            after=_offset(given.get("after"), "after"),
            limit=responses.whole(given.get("limit"), "limit", 50, high=500),
        )
        if query.before is not None and query.after is not None:
            raise BadRequest("before and after: one of them at a time")
        found = await search.find(query, self._keep(subscriber, responses.text(given.get("outcome"), "outcome")))
        column = await self._outcomes.column(found.records, subscriber)
        return json_response(
            {
                "events": [event_summary(record) | one for record, one in zip(found.records, column, strict=True)],
                "next": found.next,
                "newer": found.newer,
                "looked_to": found.looked_to,
                "lag": search.indexer.lag,
            }
        )

    def _keep(self, subscriber: str, outcome: str) -> Keep | None:
        """Return the condition on outcomes: of one subscriber, or of any."""
        if not subscriber and not outcome:
            return None
        if outcome and outcome not in OUTCOMES:
            raise BadRequest(f"outcome: one of {', '.join(OUTCOMES)} is needed")

        async def keep(records: list[Record]) -> list[Record]:
            found = await self._outcomes.of(records, subscriber)
            return [
                record
                for record, by_name in zip(records, found, strict=True)
                if (outcome in by_name.values() if outcome else by_name)
            ]

        return keep

    async def _story(self, request: web.Request) -> web.Response:
        event_id = request.match_info["id"].strip().lower()
        if not _ID.match(event_id):
            raise BadRequest("an event id has 32 hex digits; search by anything else")
        story = await self._stories.tell(event_id)
        if story is None:
            raise NotFound(f"{event_id}: no such event is kept; it may be older than the journal keeps")
        return json_response(story)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        names = ("topic", "type", "callback", "key_prefix")
        wanted = Wanted(*(responses.text(request.query.get(name), name) for name in names))
        return await self._streams.send(request, self._events(wanted, is_brief="brief" in request.query))

    async def _events(self, wanted: Wanted, *, is_brief: bool) -> AsyncGenerator[bytes, None]:
        async with self._tail.watching(wanted) as watcher:
            yield b": connected\n\n"
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await watcher.news.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                taken, passed_over = watcher.take()
                chunks = [
                    _event("event" if is_brief else str(line["type"]), orjson.dumps(line) if is_brief else record.value)
                    for record, line in taken
                ]
                if passed_over:
                    chunks.append(_event("passed-over", orjson.dumps({"count": passed_over})))
                yield b"".join(chunks)
                await asyncio.sleep(_GATHER_S)


def _offset(value: str | None, name: str) -> int | None:
    return None if not value else responses.whole(value, name, 0, low=0, high=1 << 44)


def _event(name: str, data: bytes) -> bytes:
    lines = b"".join(b"data: " + line + b"\n" for line in data.splitlines())
    return b"event: " + " ".join(name.split()).encode() + b"\n" + lines + b"\n"
