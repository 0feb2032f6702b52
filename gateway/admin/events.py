"""``/api/search``, ``/api/events`` (live) and ``/api/events/<id>`` (the story of one).

Live: one reader of the log for any number of watchers, and one parse of each event. The reader runs while there are
watchers. Each watcher has a bounded queue; events that do not fit are counted and the count is sent, so that a slow
connection sees fewer events and delays nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from gateway.admin.outcomes import OUTCOMES, EventOutcomes
from gateway.admin.parts import Parts
from gateway.admin.responses import BadRequest, Given, NotFound, OpenStreams, json_response
from gateway.admin.story import Storyteller
from gateway.errors import GatewayError, NotNow
from gateway.fanout.sse import HEARTBEAT_S
from gateway.log import EventLog, Record
from gateway.log.journal import Journal
from gateway.search import Keep, Query
from gateway.search.keys import callback_of, parsed

#: The most informative fields of ``data``, in display order.
_INFORMATIVE: Final = (
    "status",
    "state",
    "outcome",
    "kind",
    "channel",
    "direction",
    "from",
    "to",
    "phone",
    "call_id",
    "task_id",
    "order_id",
    "callback",
    "reason",
    "field",
)
_MAX_TEXT: Final = 120
#: Watchers at a time; each costs a queue.
MAX_WATCHERS: Final = 32
#: Events waiting for a watcher: about a screenful; a reader has scrolled past older ones.
_MAX_WAITING: Final = 200
_FETCH: Final = 200
_RETRY_S: Final = 5.0
#: Bursts are sent together: a browser that lays out a list for each event is busy with nothing else.
_GATHER_S: Final = 0.1
_ID: Final = re.compile(r"^[0-9a-f]{32}$")

_log = structlog.get_logger("gateway.admin")


def event_summary(record: Record, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the attributes and the most informative fields; ``event`` is the record's value if already parsed."""
    event = parsed(record.value) if event is None else event
    data = event.get("data")
    return {
        "id": record.id,
        "topic": record.topic,
        "type": event.get("type"),
        "callback": callback_of(event),
        "account": event.get("account"),
        "key": record.key,
        "subject": event.get("subject"),
        "time": event.get("time"),
        "recordedtime": event.get("recordedtime"),
        "stored_at": record.appended_at,
        "offset": record.offset,
        "fields": _fields(data) if isinstance(data, dict) else {},
    }


def _fields(data: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _INFORMATIVE:
        value = data.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            found[name] = str(value)[:_MAX_TEXT]
    return found


class TooManyWatchers(NotNow):
    """All places of the live tail are taken."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Events that a watcher selects; an empty field selects all."""

    topic: str = ""
    type: str = ""
    callback: str = ""
    key_prefix: str = ""

    def has(self, record: Record, event: Mapping[str, Any]) -> bool:
        """Return whether an event is wanted."""
        return (
            (not self.topic or record.topic == self.topic)
            and (not self.type or event.get("type") == self.type)
            and (not self.callback or callback_of(event) == self.callback)
            and record.key.casefold().startswith(self.key_prefix.casefold())
        )


@dataclass(slots=True, eq=False)
class Watcher:
    """One who watches.

    Args:
        passed_over: events that did not fit since they were last taken.
    """

    wanted: Wanted
    waiting: deque[tuple[Record, dict[str, Any]]] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    passed_over: int = 0

    def offer(self, record: Record, event: Mapping[str, Any]) -> None:
        """Add an event, if it is wanted; drop the oldest waiting one when there are too many."""
        if not self.wanted.has(record, event):
            return
        if len(self.waiting) >= _MAX_WAITING:
            self.waiting.popleft()
            self.passed_over += 1
        self.waiting.append((record, event_summary(record, event)))
        self.news.set()

    def take(self) -> tuple[list[tuple[Record, dict[str, Any]]], int]:
        """Remove and return the waiting events, and how many were passed over."""
        taken, passed_over = list(self.waiting), self.passed_over
        self.waiting.clear()
        self.passed_over = 0
        self.news.clear()
        return taken, passed_over


class LiveTail:
    """Shares one reader among watchers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._ready = asyncio.Event()

    @asynccontextmanager
    async def watching(self, wanted: Wanted) -> AsyncIterator[Watcher]:
        """Watch until the block is left; what comes after this returned is seen.

        Raises:
            TooManyWatchers: there is no place.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers(f"{MAX_WATCHERS} watch already")
        watcher = Watcher(wanted)
        self._watchers.add(watcher)
        try:
            async with self._changing:
                if self._task is None:
                    self._ready.clear()
                    self._task = asyncio.create_task(self._run(), name="admin-tail")
            await self._ready.wait()
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                await self.stop()

    async def stop(self) -> None:
        """Stop reading. May be called twice."""
        async with self._changing:
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except GatewayError as exc:
                self._ready.set()
                _log.info("admin.tail_not_read", error=str(exc))
                await asyncio.sleep(_RETRY_S)

    async def _read(self) -> None:
        log: EventLog = self._parts.journal or self._parts.needed_log()
        topics = () if isinstance(log, Journal) else self._parts.topics
        reader = await log.browse("console.tail", topics)
        try:
            await reader.positions()  # from here on nothing is missed
            self._ready.set()
            while True:
                for record in await reader.fetch(max_records=_FETCH, wait_s=5.0):
                    if record.flaw:
                        continue
                    event = parsed(record.value)
                    for watcher in self._watchers:
                        watcher.offer(record, event)
                await asyncio.sleep(0)  # on a busy log there is always more
        finally:
            await reader.close()


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
        given = Given(request.query)
        subscriber = given.text("subscriber")
        if subscriber:
            self._parts.subscriber(subscriber)
        query = Query(
            text=given.text("q"),
            callback=given.text("callback"),
            topic=given.text("topic"),
            type=given.text("type"),
            since=given.number("since"),
            until=given.number("until"),
            key_prefix=given.text("key_prefix"),
            before=_offset(given, "before"),
            after=_offset(given, "after"),
            limit=given.whole("limit", 50, high=500),
        )
        if query.before is not None and query.after is not None:
            raise BadRequest("before and after: one of them at a time")
        found = await search.find(query, self._keep(subscriber, given.text("outcome")))
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
        wanted = Wanted(*map(Given(request.query).text, names))
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


def _offset(given: Given, name: str) -> int | None:
    return given.whole(name, 0, low=0, high=1 << 44) if given.get(name) else None


def _event(name: str, data: bytes) -> bytes:
    lines = b"".join(b"data: " + line + b"\n" for line in data.splitlines())
    return b"event: " + " ".join(name.split()).encode() + b"\n" + lines + b"\n"
