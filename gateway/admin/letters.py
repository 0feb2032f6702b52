"""``/api/dead-letters``: what was given up, newest first, with the reason."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from operator import itemgetter
from typing import Any, Final

from aiohttp import web

from gateway.admin import responses
from gateway.admin.parts import Parts
from gateway.admin.responses import NotFound, json_response
from gateway.fanout.replay import DeadLetter, read_dead_letter
from gateway.fanout.retry_records import dlq_topic
from gateway.fanout.scan import scan
from gateway.search.keys import parsed

#: Kept of one subscriber for one answer.
_MOST: Final = 1000


class Letters:
    """Routes of this file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/dead-letters", self._list)
        router.add_get("/api/dead-letters/{subscriber}/{id}", self._show)

    async def _list(self, request: web.Request) -> web.Response:
        given = request.query
        wanted = responses.text(given.get("subscriber"), "subscriber")
        names = [self._parts.subscriber(wanted).name] if wanted else [one.name for one in self._parts.subscribers]
        since = responses.number(given.get("since"), "since") or 0.0
        reasons = responses.texts(given.getall("reason", []), "reason")
        limit = responses.whole(given.get("limit"), "limit", 100, high=_MOST)
        found: list[dict[str, Any]] = []
        counts: dict[str, Counter[str]] = {}
        for name in names:
            counts[name] = Counter()
            kept: deque[dict[str, Any]] = deque(maxlen=limit)
            async with aclosing(self._letters(name, since=since)) as letters:
                async for letter in letters:
                    counts[name][letter.reason] += 1
                    if not reasons or letter.reason in reasons:
                        kept.append(_line(name, letter))
            found += kept
        found.sort(key=itemgetter("given_up_at"), reverse=True)
        return json_response({"letters": found[:limit], "counts": counts})

    async def _show(self, request: web.Request) -> web.Response:
        name = self._parts.subscriber(request.match_info["subscriber"]).name
        event_id = request.match_info["id"].lower()
        newest: DeadLetter | None = None
        async with aclosing(self._letters(name)) as letters:
            async for letter in letters:
                if letter.id == event_id:
                    newest = letter
        if newest is None:
            raise NotFound(f"{name} has no dead letter {event_id}; it may have expired")
        return json_response({**_line(name, newest), "event": parsed(newest.value)})

    async def _letters(self, name: str, *, since: float = 0.0) -> AsyncGenerator[DeadLetter, None]:
        """What was given up for one subscriber, oldest first. Each holds its event, so nobody keeps many."""
        topic = dlq_topic(name)
        log = self._parts.needed_log()
        async with self._parts.scanning(f"dlq.{name}"):
            records = scan(
                log, f"scan.{topic}", [topic], since=since, until=time.time() + 1.0, silence_s=self._parts.silence_s
            )
            async for record in records:
                yield read_dead_letter(record)


def _line(subscriber: str, letter: DeadLetter) -> dict[str, Any]:
    return {
        "subscriber": subscriber,
        "id": letter.id,
        "key": letter.key,
        "type": letter.type,
        "offset": letter.offset,
        "given_up_at": letter.given_up_at,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "last_status": letter.last_status,
        "last_detail": letter.last_detail,
        "last_response": letter.last_response,
        "first_attempt_at": letter.first_attempt_at,
        "steps": [{"at": at, "result": result, "duration_ms": ms} for at, result, ms in letter.steps],
        "origin": letter.origin,
    }
