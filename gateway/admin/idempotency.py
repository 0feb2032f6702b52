"""``Idempotency-Key``: a POST that is sent again, after an answer that was lost, is not done again.

The successful answers of the last day are kept in memory, :data:`_MOST` at most, by token, path and key. The same key
with the same body gives the same answer; with another body it is refused. A gateway that was started again knows none
of them: adding a subscriber again is then refused, as its name is taken.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aiohttp import web

from gateway.admin import audit
from gateway.admin.roles import ACTOR
from gateway.errors import SenderError

#: A few hundred kilobytes, and more changes than operators make in a day.
_MOST: Final = 1000
_KEPT_S: Final = 86400.0
_MOST_KEY: Final = 255


Handler = Callable[[web.Request], Awaitable[web.Response]]


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
        audit.skip(request)
        headers = {**known.headers, "Idempotency-Replayed": "true"}
        return web.Response(
            status=known.status, body=known.body, headers=headers, content_type="application/json", charset="utf-8"
        )
