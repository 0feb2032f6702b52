"""The HTTP server: aiohttp's low-level server without router and access log, which cost more than decoding."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_request import BaseRequest

from gateway import machine
from gateway.callbacks.answers import Answer
from gateway.callbacks.credentials import caller
from gateway.callbacks.payload import CallbackRequest
from gateway.config.settings import Ingest
from gateway.connections import ConnectionLimit, LimitedServer
from gateway.errors import Broken, NotNow, SenderError
from gateway.event import Event
from gateway.ingest.accept import Acceptor, Pending, prepare
from gateway.ingest.bodies import SMALL_BYTES, Bodies, BodyTooLarge, MemoryShare
from gateway.ingest.connection import Connection
from gateway.ingest.endpoints import UNKNOWN, Endpoint, Endpoints, UnknownPaths
from gateway.ingest.fast_path import FastConnection, FastConnections
from gateway.sockets import BACKLOG
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.ingest")
_REFUSED: Final = METRICS.counter("gateway_http_refused")
#: Seconds from closing the port to closing connections: a sender's round trip. Longer delays every restart.
_LAST_REQUESTS_S: Final = 0.25


class IngestServer:
    """Listens, reads requests, passes them to the acceptor, writes answers.

    Args:
        settings: section ``ingest``.
        endpoints: the known paths.
        acceptor: processes callbacks.
        clock: returns the current time, timezone-aware UTC.
    """

    def __init__(
        self, settings: Ingest, endpoints: Endpoints, acceptor: Acceptor, *, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._acceptor = acceptor
        self._clock = clock
        self._max_body = int(settings.max_body_bytes)
        self._trusted = tuple(settings.trusted_proxies)
        self._server: _Server | None = None
        self._fast: FastConnections | None = None
        self._is_leaving = False
        self._limit: ConnectionLimit | None = None
        self._bodies = Bodies(self._max_body, settings.read_timeout)
        self._unknown_paths = UnknownPaths(
            endpoints, most_kept=settings.keep_unknown_paths, processes=settings.processes, clock=clock
        )
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The listening port, also if 0 was configured."""
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    async def start(self, listening: socket.socket | None = None) -> None:
        """Start to accept connections.

        Args:
            listening: a listening socket, shared with other processes; None opens the configured port.

        Raises:
            Broken: the address cannot be used.
        """
        limit = self._limit = ConnectionLimit(
            "ingest", machine.ingest_connections(self._settings.max_connections), self._settings.read_timeout
        )
        self._server = self.ordinary(limit)
        if self._settings.fast_path:
            self._fast = FastConnections(
                self._endpoints,
                self._acceptor,
                clock=self._clock,
                ordinary=self._server,
                trusted=self._trusted,
                max_body=self._max_body,
                keepalive_s=self._settings.keepalive_timeout,
                limit=limit,
            )
        loop = asyncio.get_running_loop()
        factory = self._server if self._fast is None else partial(FastConnection, self._fast)
        if listening is not None:
            self._listener = await loop.create_server(factory, sock=listening, backlog=BACKLOG)
            return
        try:
            self._listener = await loop.create_server(
                factory, self._settings.host, self._settings.port, backlog=BACKLOG
            )
        except OSError as exc:
            raise Broken(
                f"ingest.host and ingest.port: cannot listen on "
                f"{self._settings.host}:{self._settings.port}: {exc.strerror}"
            ) from exc

    def ordinary(self, limit: ConnectionLimit) -> _Server:
        """Return aiohttp's server, which handles connections that are not plain, or all without the fast path."""
        return _Server(
            limit,
            self._handle,
            head_timeout_s=self._settings.read_timeout,
            keepalive_timeout=self._settings.keepalive_timeout,
            access_log=None,
            auto_decompress=False,
            max_field_size=16 * 1024,
        )

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting connections and finish the requests that were read. May be called twice, or before start.

        Args:
            timeout_s: time for outstanding answers, seconds.
        """
        listener, self._listener = self._listener, None
        server, self._server = self._server, None
        fast, self._fast = self._fast, None
        if listener is not None:
            listener.close()
            self._is_leaving = True
            if fast is not None:
                fast.leave()
            # Requests sent before the port closed may be in transit, or in the kernel's buffers.
            await asyncio.sleep(min(_LAST_REQUESTS_S, timeout_s / 4))
        if fast is not None:
            fast.pre_shutdown()
        if server is not None:
            server.pre_shutdown()
        await asyncio.gather(*(side.shutdown(timeout_s) for side in (fast, server) if side is not None))
        if self._limit is not None:
            self._limit.close()
        self._bodies.close()

    # -- one request --------------------------------------------------------------------------------------------

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        path, query = _target(request)
        endpoint = self._endpoints.find(path)
        if endpoint is None:
            return await self._not_found(request, path, query)
        if request.method != "POST" and request.method in endpoint.handshake.methods:
            answer = self._handshake(endpoint, request, path, query)
            if answer is not None:
                return _response(answer)
        if request.method not in endpoint.callback.methods:
            _REFUSED.labels("method").inc()
            return _plain(405, {"Allow": ", ".join(sorted(endpoint.callback.methods | endpoint.handshake.methods))})
        response = await self._take(request, endpoint, path, query)
        self._acceptor.metrics.took(endpoint.callback.name, time.perf_counter() - started)
        if self._is_leaving:
            response.force_close()
        return response

    async def _take(self, request: BaseRequest, endpoint: Endpoint, path: str, query: bytes) -> web.StreamResponse:
        with self._bodies.share() as share:
            callback = await self._received(request, endpoint, path, query, share)
            if not isinstance(callback, CallbackRequest):
                return callback
            if len(callback.body) <= SMALL_BYTES:
                return await self._when_durable(endpoint, callback, self._acceptor.take(endpoint, callback))
            async with self._bodies.turn:
                prepared = await self._bodies.work(partial(prepare, endpoint, callback))
                taken = self._acceptor.finish(endpoint, callback, prepared)
                return await self._when_durable(endpoint, callback, taken)

    async def _received(
        self, request: BaseRequest, endpoint: Endpoint, path: str, query: bytes, share: MemoryShare
    ) -> CallbackRequest | web.Response:
        """Return the complete request, or the answer to one whose body cannot be read; the connection then closes."""
        try:
            body = await self._bodies.read(request, share)
        except NotNow as exc:
            callback = self._callback_request(request, path, query, b"")
            return _closing(_response(self._acceptor.not_stored(endpoint, callback, exc)))
        except BodyTooLarge:
            status, reason = 413, "the body is too large"
        except TimeoutError:
            status, reason = 408, "the body came too slowly"
        except (HttpProcessingError, web.RequestPayloadError):
            status, reason = 400, "the body cannot be read"
        else:
            return self._callback_request(request, path, query, body)
        if endpoint is UNKNOWN:
            return _closing(_plain(404))
        _REFUSED.labels({413: "too_large", 408: "timeout"}.get(status, "malformed")).inc()
        _log.warning("callback.refused", callback=endpoint.callback.name, status=status, reason=reason)
        callback = self._callback_request(request, path, query, b"")
        # Not signed, because the request is not known to be authentic.
        return _closing(_response(endpoint.callback.answers.failure(status, reason, callback, None, self._clock())))

    def _handshake(self, endpoint: Endpoint, request: BaseRequest, path: str, query: bytes) -> Answer | None:
        """Return the answer to a sender's handshake; None for another request. ``auth.allow_ips`` applies."""
        asked = self._callback_request(request, path, query, b"")
        answer = endpoint.handshake.answer(asked.method, asked.query, asked.headers)
        if answer is None:
            return None
        try:
            endpoint.credentials.check_address(asked)
        except SenderError as exc:
            answer = endpoint.callback.answers.failure(exc.status_hint, str(exc), asked, None, asked.received_at)
        is_granted = answer.status == HTTPStatus.OK
        _log.info("callback.handshake", callback=endpoint.callback.name, peer=asked.peer, is_granted=is_granted)
        return answer

    async def _not_found(self, request: BaseRequest, path: str, query: bytes) -> web.StreamResponse:
        """Store a request to an unknown path below ``/callbacks/``, up to the daily limit, and answer 404."""
        _REFUSED.labels("not_found").inc()
        if not self._unknown_paths.may_keep(request.method, path):
            return _plain(404)
        with self._bodies.share() as share:
            callback = await self._received(request, UNKNOWN, path, query, share)
            if not isinstance(callback, CallbackRequest):
                return callback
            if len(callback.body) <= SMALL_BYTES:
                return await self._keep(callback, self._unknown_paths.event(callback))
            async with self._bodies.turn:
                event = await self._bodies.work(partial(self._unknown_paths.event, callback))
                return await self._keep(callback, event)

    async def _keep(self, callback: CallbackRequest, event: Event) -> web.StreamResponse:
        if not self._unknown_paths.takes(callback.path, event):
            return _plain(404)
        answer = UNKNOWN.callback.answers.failure(404, "unknown path", callback, None, callback.received_at)
        taken = self._acceptor.keep(UNKNOWN, callback, event, answer)
        return await self._when_durable(UNKNOWN, callback, taken)

    async def _when_durable(
        self, endpoint: Endpoint, callback: CallbackRequest, taken: Answer | Pending
    ) -> web.StreamResponse:
        if isinstance(taken, Answer):
            return _response(taken)
        try:
            appended = await taken.turn.wait()
        except NotNow as exc:
            return _response(self._acceptor.not_stored(endpoint, callback, exc))
        self._acceptor.settled(endpoint, taken, appended)
        return _response(taken.answer)

    def _callback_request(self, request: BaseRequest, path: str, query: bytes, body: bytes) -> CallbackRequest:
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        peername = request.transport.get_extra_info("peername") if request.transport is not None else None
        return CallbackRequest(
            method=request.method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            received_at=self._clock(),
            peer=caller(peername[0] if peername else "", headers.get("x-forwarded-for", ""), self._trusted),
        )


class _Server(LimitedServer):
    """aiohttp's server, with :class:`Connection` as its handler."""

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


def _target(request: BaseRequest) -> tuple[str, bytes]:
    """Return the unescaped path and the raw query. An absolute target (RFC 9112, 3.2.2) is reduced to its path."""
    target = request.raw_path
    if not target.startswith("/"):
        target = request.rel_url.raw_path_qs
    path, _, query = target.partition("?")
    return (unquote(path) if "%" in path else path), query.encode("utf-8", "surrogateescape")


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": answer.content_type, "Server": "gateway"}
    headers.update(answer.headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


def _plain(status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text="error", headers={"Server": "gateway", **(headers or {})})


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
