"""``/api/dead-letters``: what was given up, newest first, with the reason; closing what needs no delivery any more.

Lists contain open dead letters unless ``state`` asks for others. They are read from the log each time, so that what
was closed a moment ago is closed.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import aclosing
from operator import itemgetter
from typing import Any, Final

from aiohttp import web

from gateway.admin.parts import Parts
from gateway.admin.responses import BadRequest, Given, NotFound, actor, body, json_response
from gateway.clock import SystemClock
from gateway.fanout import dead_letters
from gateway.fanout.dead_letters import WANTED, DeadLetter, DeadLetterIndex, Wanted, read_dead_letter
from gateway.search.keys import parsed

#: Kept of one subscriber for one answer.
_MOST: Final = 1000
#: Characters of a note: a sentence or two, and an address of a ticket.
_NOTE: Final = 1000


class DeadLetters:
    """Routes of this file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clock = SystemClock()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/dead-letters", self._list)
        router.add_get("/api/dead-letters/{subscriber}/{id}", self._show)
        router.add_post("/api/dead-letters/resolve", self._resolve)

    async def _list(self, request: web.Request) -> web.Response:
        given = Given(request.query)
        wanted = given.text("subscriber")
        names = [self._parts.subscriber(wanted).name] if wanted else [one.name for one in self._parts.subscribers]
        since = given.number("since") or 0.0
        reasons = given.texts("reason")
        limit = given.whole("limit", 100, high=_MOST)
        state = state_of(given.text("state"))
        found: list[dict[str, Any]] = []
        counts: dict[str, Counter[str]] = {}
        for name in names:
            async with self._parts.scanning(f"dlq.{name}"):
                index = await self._index(name, since, state)
                counts[name] = index.counts_in(state)
                newest = max(since, index.since_of_newest(limit, state, reasons))
                if newest < math.inf:
                    found += await self._lines(name, index, newest, state, reasons, limit)
        found.sort(key=itemgetter("given_up_at"), reverse=True)
        return json_response({"letters": found[:limit], "counts": counts, "state": state})

    async def _index(self, name: str, since: float, state: Wanted) -> DeadLetterIndex:
        return await dead_letters.read_index(self._parts.needed_log(), name, since=since, keeps_closed=state != "open")

    async def _lines(
        self, name: str, index: DeadLetterIndex, since: float, state: Wanted, reasons: frozenset[str], limit: int
    ) -> Iterable[dict[str, Any]]:
        """Return the newest dead letters, without their events, because events can be large."""
        kept: deque[dict[str, Any]] = deque(maxlen=limit)
        records = dead_letters.records(self._parts.needed_log(), name, since=since, wanted=state, index=index)
        async with aclosing(records):
            async for record in records:
                letter = read_dead_letter(record, index.closing_of(record.id))
                if not reasons or letter.reason in reasons:
                    kept.append(_line(name, letter))
        return kept

    async def _show(self, request: web.Request) -> web.Response:
        name = self._parts.subscriber(request.match_info["subscriber"]).name
        event_id = request.match_info["id"].lower()
        async with self._parts.scanning(f"dlq.{name}"):
            found = await dead_letters.find(self._parts.needed_log(), name, wanted="all", ids=[event_id])
        if found:
            return json_response({**_line(name, found[-1]), "event": parsed(found[-1].value)})
        raise NotFound(f"{name} has no dead letter {event_id}; it may have expired")

    async def _resolve(self, request: web.Request) -> web.Response:
        given = await body(request)
        name = self._parts.subscriber(given.text("subscriber")).name
        ids = frozenset(event_id.strip().lower() for event_id in given.texts("ids"))
        reasons = given.texts("reasons")
        if not ids and not reasons and not given.flag("all"):
            raise BadRequest("say which dead letters: ids, reasons, or all")
        async with self._parts.scanning(f"dlq.{name}"):
            closed = await dead_letters.resolve(
                self._parts.needed_log(),
                name,
                clock=self._clock,
                note=_note(given.get("note")),
                by=actor(request),
                ids=ids,
                reasons=reasons,
                since=given.number("since") or 0.0,
                until=given.number("until"),
            )
        return json_response({"subscriber": name, "resolved": closed})


def state_of(text: str) -> Wanted:
    """Return the state of dead letters that is asked for; open ones where nothing was given.

    Raises:
        BadRequest: there is no such state.
    """
    found = next((state for state in WANTED if state == (text or "open")), None)
    if found is None:
        raise BadRequest(f"state: one of {', '.join(WANTED)} is needed")
    return found


def _note(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _NOTE:
        raise BadRequest(f"note: why nothing needs to be delivered, in 1 to {_NOTE} characters")
    return value.strip()


def _line(subscriber: str, letter: DeadLetter) -> dict[str, Any]:
    closing = letter.closing
    return {
        "subscriber": subscriber,
        "id": letter.id,
        "key": letter.key,
        "type": letter.type,
        "offset": letter.offset,
        "state": letter.state,
        "closed": None
        if closing is None
        else {"at": closing.at, "by": closing.by, "note": closing.note, "replay": closing.replay},
        "given_up_at": letter.given_up_at,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "last_status": letter.last_status,
        "last_detail": letter.last_detail,
        "last_response": letter.last_response,
        "first_attempt_at": letter.first_attempt_at,
        "steps": [{"at": at, "result": result, "duration_ms": ms} for at, result, ms in letter.steps],
        "origin": letter.origin,
        "replay": letter.replay,
    }
