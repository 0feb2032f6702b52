"""Read and write JSON on the admin port, stream answers, and turn errors into answers in one place.

Server-sent events: HTML Living Standard, section 9.2. The console reads them with ``fetch``, as ``EventSource`` sends
no token. They are ended when the admin port closes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from gateway.admin.auth import ACTOR, WRONG_TOKENS, WrongToken
from gateway.admin.openapi import body_names
from gateway.errors import ConfigError, GatewayError, SenderError
from gateway.fanout.sse import CONTENT_TYPE
from gateway.telemetry import redaction

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Requests are small: a selection with some thousand ids.
MAX_BODY_BYTES: Final = 256 * 1024
_COMPRESSED_FROM: Final = 1024
_MOST_IDS: Final = 5000
#: A client that takes nothing for so long is gone, or as good as gone.
_WRITE_S: Final = 30.0
#: How late it is noticed that a client has gone; its place is free again then.
_LOOK_S: Final = 1.0

_log = structlog.get_logger("gateway.admin")


class BadRequest(SenderError):
    """A parameter cannot be used; the message names it."""


class NotFound(SenderError):
    """The requested item does not exist (any more)."""

    status_hint = 404


def json_response(value: object, status: int = 200) -> web.Response:
    """Return a JSON document as a response; large ones are compressed where the client accepts that."""
    response = web.Response(
        status=status,
        body=orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS),
        content_type="application/json",
        charset="utf-8",
    )
    if response.body is not None and len(response.body) >= _COMPRESSED_FROM:  # type: ignore[arg-type]
        response.enable_compression()
    return response


async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run a handler; what it raises becomes an answer: a sentence, never a trace. Wrong tokens are answered late."""
    try:
        try:
            return await handler(request)
        except WrongToken:
            await WRONG_TOKENS.slow_down(request.remote or "")
            raise
    except ConfigError as exc:
        return _failure(request, 409, str(exc))
    except GatewayError as exc:
        return _failure(request, exc.status_hint, str(exc), exc.retry_after_s)
    except web.HTTPException as exc:
        return _failure(request, exc.status, f"{exc.reason}: {request.method} {request.path}", allow=exc.headers)
    except ConnectionResetError:
        raise
    except Exception as exc:
        _log.exception("admin.broke", path=redaction.path(request.path), error=redaction.fault(exc))
        return _failure(request, 500, "this is a fault of the gateway; its log has more")


def _failure(
    request: web.Request,
    status: int,
    sentence: str,
    retry_after_s: float | None = None,
    allow: Mapping[str, str] | None = None,
) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    if allow is not None and "Allow" in allow:
        headers["Allow"] = allow["Allow"]
    if request.path.startswith("/api/"):
        response = json_response({"error": sentence}, status)
    else:
        response = web.Response(status=status, text=f"{sentence}\n")
    response.headers.update(headers)
    return response


def actor(request: web.Request) -> str:
    """Return the name of the token that a request came with, for what is kept of it."""
    return request[ACTOR].name


class Given:
    """The parameters of a request, from its query or from the JSON object in its body. A wrong value raises BadRequest.

    Args:
        values: by name; those of a query are texts.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        """Return a value as it came; None where nothing was given."""
        return self._values.get(name)

    def number(self, name: str, *, low: float = 0.0, high: float = 1e11) -> float | None:
        """Return a number, or None where nothing was given; texts of the query are parsed."""
        value = self.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                found = float(value)
            except ValueError:
                found = math.nan
            if low <= found <= high:
                return found
        raise BadRequest(f"{name}: a number from {low:g} to {high:g} is needed")

    def whole(self, name: str, default: int, *, low: int = 1, high: int = 1000) -> int:
        """Return a whole number."""
        found = self.number(name, low=low, high=high)
        return default if found is None else int(found)

    def text(self, name: str) -> str:
        """Return a short text; empty where nothing was given."""
        return _text(self.get(name), name)

    def texts(self, name: str) -> frozenset[str]:
        """Return a list of short texts, or one as a list; a query may have a name several times."""
        getall = getattr(self._values, "getall", None)
        value = self.get(name) if getall is None else getall(name, [])
        if value is None or value == "":
            return frozenset()
        items = value if isinstance(value, list) else [value]
        if len(items) > _MOST_IDS:
            raise BadRequest(f"{name}: at most {_MOST_IDS} at a time")
        return frozenset(found for item in items if (found := _text(item, name)))

    def flag(self, name: str) -> bool:
        """Return true or false; false where nothing was given."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise BadRequest(f"{name}: true or false is needed")
        return bool(value)


def _text(value: object, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 300:
        raise BadRequest(f"{name}: a text of at most 300 characters is needed")
    return value


async def body(request: web.Request) -> Given:
    """Return the JSON object of a request; an empty body is an empty object.

    Raises:
        BadRequest: it is none, or has names that the route does not know: a misspelt filter must not select everything.
    """
    raw = await request.read()
    try:
        value = orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BadRequest("the body must be an object")
    resource = request.match_info.route.resource
    known = body_names(request.method, resource.canonical if resource is not None else "")
    if unknown := sorted(value.keys() - known):
        raise BadRequest(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    return Given(value)


class OpenStreams:
    """The streams that are open."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[object]] = set()
        self._is_closed = False

    def close(self) -> None:
        """End all, properly: a client sees an end, not a broken connection."""
        self._is_closed = True
        for task in list(self._open):
            task.cancel()

    async def send(self, request: web.Request, chunks: AsyncGenerator[bytes, None]) -> web.StreamResponse:
        """Send chunks until they end, the client goes, or the port closes.

        The first chunk is awaited before the response starts, so that an error can still be sent with its status.
        """
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE, "X-Accel-Buffering": "no"})
        async with aclosing(chunks), self._registered():
            first = await anext(chunks, b"")
            await response.prepare(request)
            try:
                await self._write(response, first)
                while (chunk := await self._next(request, chunks)) is not None:
                    await self._write(response, chunk)
            except (ConnectionResetError, TimeoutError):
                response.force_close()
            except asyncio.CancelledError:
                if not self._is_closed:
                    raise
                await self._ended(response)
        return response

    async def _next(self, request: web.Request, chunks: AsyncGenerator[bytes, None]) -> bytes | None:
        """Wait for the next chunk, and look now and then whether the client is still there; None at the end.

        Raises:
            ConnectionResetError: it has disconnected. Otherwise only the next write would reveal that.
        """
        waiting: asyncio.Future[bytes | None] = asyncio.ensure_future(_next_or_none(chunks))
        try:
            while not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError
            return await waiting
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

    async def _write(self, response: web.StreamResponse, chunk: bytes) -> None:
        async with asyncio.timeout(_WRITE_S):
            await response.write(chunk)

    async def _ended(self, response: web.StreamResponse) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        response.force_close()
        with suppress(ConnectionResetError, TimeoutError):
            async with asyncio.timeout(0.5):
                await response.write_eof()

    @asynccontextmanager
    async def _registered(self) -> AsyncGenerator[None, None]:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            yield
        finally:
            self._open.discard(task)


async def _next_or_none(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(chunks, None)
