"""Changes by operators: who changed what, and when; and one that is asked for again is not done again.

Each request that changes something, and is answered with success, becomes a record in the internal topic :data:`TOPIC`
and a log line ``admin.changed``. Neither has a value of a setting: changed keys are named. Records are written at once;
while the log does not take them they wait in memory, :data:`_MOST_WAITING` at most. Retention is that of the journal,
or of the topic in Kafka.

``Idempotency-Key`` marks a POST that may be sent again after its answer was lost. The successful answers of the last
day are kept in memory, :data:`_MOST` at most, by token, path and key. The same key with the same body gives the same
answer; with another body it is refused. A gateway that was started again knows none of them: adding a subscriber again
is then refused, as its name is taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson
import structlog
from aiohttp import web

from gateway.admin.auth import ACTOR, Actor, RouteChange
from gateway.admin.parts import Parts
from gateway.admin.responses import Given, json_response
from gateway.errors import SenderError, is_logged
from gateway.fanout.scan import scan
from gateway.log import Entry
from gateway.telemetry import redaction

TOPIC: Final = "fanout.audit"
#: People make a change a minute. Ten times more would hide for a day that the log takes none.
_MOST_WAITING: Final = 1000
#: An answer waits so long for its record.
_PATIENCE_S: Final = 1.0
_BACKOFF_S: Final = 2.0
_LAST_WORDS_S: Final = 2.0
_MOST_SHOWN: Final = 1000
#: Where a handler notes what the record is to say; see :func:`note`.
_KEY: Final = web.RequestKey("audit", dict[str, Any])
#: A few hundred kilobytes, and more changes than operators make in a day.
_MOST: Final = 1000
_KEPT_S: Final = 86400.0
_MOST_KEY: Final = 255

Handler = Callable[[web.Request], Awaitable[web.Response]]

_log = structlog.get_logger("gateway.admin")


def note(request: web.Request, **found: Any) -> None:
    """Add facts to the record of a request. None of them may be the value of a setting.

    Args:
        request: what is being answered.
        found: ``subject`` (what was changed, such as a subscriber's name), ``changed`` (key paths), and others.
    """
    request[_KEY] = {**request.get(_KEY, {}), **found}


def skip(request: web.Request) -> None:
    """Keep no record of a request: it changed nothing, such as a dry run."""
    request[_KEY] = {"is_skipped": True}


class Audit:
    """Writes and shows the record. Routes of this file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting: deque[Entry] = deque(maxlen=_MOST_WAITING)
        self._has_waiting = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._task: asyncio.Task[None] | None = None

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/audit", self._list)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="admin-audit")

    async def stop(self) -> None:
        """Write what waits, if the log takes it. May be called twice, or before the start."""
        task, self._task = self._task, None
        if task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._is_empty.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self._waiting:
            _log.error("audit.lost", records=len(self._waiting), advice="the log lines admin.changed have the same")

    async def keep(self, request: web.Request, actor: Actor, change: RouteChange) -> None:
        """Keep a record of a request that was answered with success."""
        found = dict(request.get(_KEY, {}))
        if found.pop("is_skipped", False):
            return
        subject = str(found.pop("subject", "") or next(iter(request.match_info.values()), ""))
        line = {"at": time.time(), "who": actor.name, "role": actor.role, "action": change.action, "subject": subject}
        _log.info("admin.changed", **{key: value for key, value in line.items() if key != "at"}, **found)
        if self._parts.log is None:
            return
        value = orjson.dumps({**line, "peer": request.remote or "", **found})
        if len(self._waiting) == _MOST_WAITING:
            _log.error(
                "audit.lost", records=1, advice="the log accepts none; the log lines admin.changed have the same"
            )
        self._waiting.append(Entry(TOPIC, subject, uuid4().hex, value))
        self._is_empty.clear()
        self._has_waiting.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._is_empty.wait()

    async def _run(self) -> None:
        said = ""
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            while self._waiting:
                entries = list(self._waiting)
                try:
                    await self._parts.needed_log().append(entries)
                    said = ""
                except Exception as exc:  # the top of a task
                    if said != (fault := redaction.fault(exc)) and not is_logged(exc):
                        said = fault
                        _log.warning("audit.not_written", error=fault, records=len(entries))
                    await asyncio.sleep(_BACKOFF_S)
                    continue
                written = {entry.id for entry in entries}
                self._waiting = deque((entry for entry in self._waiting if entry.id not in written), _MOST_WAITING)
            self._is_empty.set()

    async def _list(self, request: web.Request) -> web.Response:
        """Return the audit records, the newest first."""
        given = Given(request.query)
        since = given.number("since") or 0.0
        limit = given.whole("limit", 100, high=_MOST_SHOWN)
        subject = given.text("subject")
        kept: list[tuple[float, str, int, dict[str, Any]]] = []
        log = self._parts.needed_log()
        async with self._parts.scanning(TOPIC):
            records = scan(log, TOPIC, [TOPIC], since=since, until=time.time() + 60.0)
            async for record in records:
                if (one := _read(record.value)) and subject in ("", record.key):
                    heapq.heappush(kept, (one["at"], record.partition, record.offset, one))
                    if len(kept) > limit:
                        heapq.heappop(kept)
        return json_response({"records": [one for *_, one in sorted(kept, reverse=True)]})


def _read(value: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(value)
        return {**found, "at": float(found["at"])}
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return {}


class KeyUsed(SenderError):
    """The key was used for a request with another body. Use a new key for each thing that is to be done."""

    status_hint = 422


class KeyBusy(SenderError):
    """The request with this key is being answered; ask again when it is."""

    status_hint = 409


class _Answer(NamedTuple):
    digest: bytes
    at: float
    status: int
    body: bytes
    headers: dict[str, str]


class Idempotency:
    """Answers of one process."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, str, str], _Answer] = OrderedDict()
        self._busy: set[tuple[str, str, str]] = set()

    def once(self, handler: Handler) -> Handler:
        """Return a handler that answers a request as it was answered before, or has it done."""

        async def answered(request: web.Request) -> web.Response:
            return await self._once(request, handler)

        return answered

    async def _once(self, request: web.Request, handler: Handler) -> web.Response:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return await handler(request)
        if len(key) > _MOST_KEY:
            raise SenderError(f"Idempotency-Key: at most {_MOST_KEY} characters")
        place = request[ACTOR].name, request.path, key
        digest = hashlib.sha256(await request.read()).digest()
        if (known := self._known(place)) is not None:
            return self._again(request, known, digest)
        if place in self._busy:
            raise KeyBusy("the request with this Idempotency-Key is being answered; ask again in a moment")
        self._busy.add(place)
        try:
            response = await handler(request)
        finally:
            self._busy.discard(place)
        if response.status < 300 and isinstance(response.body, bytes):
            headers = {name: response.headers[name] for name in ("ETag", "Location") if name in response.headers}
            self._answers[place] = _Answer(digest, time.monotonic(), response.status, response.body, headers)
            if len(self._answers) > _MOST:
                self._answers.popitem(last=False)
        return response

    def _known(self, place: tuple[str, str, str]) -> _Answer | None:
        known = self._answers.get(place)
        if known is not None and time.monotonic() - known.at > _KEPT_S:
            del self._answers[place]
            return None
        return known

    def _again(self, request: web.Request, known: _Answer, digest: bytes) -> web.Response:
        if known.digest != digest:
            raise KeyUsed("this Idempotency-Key was used for another request; use a new one")
        skip(request)
        headers = {**known.headers, "Idempotency-Replayed": "true"}
        return web.Response(
            status=known.status, body=known.body, headers=headers, content_type="application/json", charset="utf-8"
        )
