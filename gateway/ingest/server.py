"""The listening side: aiohttp's low-level server, without its router and access log (both cost more than decoding)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final
from urllib.parse import unquote

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from gateway.callbacks.answers import Answer
from gateway.callbacks.request import CallbackRequest
from gateway.config.settings import Ingest
from gateway.errors import Broken, NotNow
from gateway.ingest.coding import BodyTooLarge, unfolded
from gateway.ingest.connection import Connection
from gateway.ingest.endpoints import Endpoint, Endpoints
from gateway.ingest.fast_connections import FastConnections
from gateway.ingest.intake import Intake, Pending
from gateway.ingest.peer import caller
from gateway.ingest.waiters import Waiters
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.ingest")
_REFUSED: Final = METRICS.counter("gateway_http_refused")
#: From closing the port to closing connections. A sender's round trip; ten times more delays every restart by seconds.
_LAST_REQUESTS_S: Final = 0.25


class IngestServer:
    """Listens, reads requests, asks the intake, writes answers.

    Args:
        settings: section ``ingest``.
        endpoints: the paths.
        intake: decides.
        clock: now, timezone-aware UTC.
    """

    def __init__(
        self, settings: Ingest, endpoints: Endpoints, intake: Intake, *, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._intake = intake
        self._clock = clock
        self._max_body = int(settings.max_body_bytes)
        self._trusted = tuple(settings.trusted_proxies)
        self._server: _Server | None = None
        self._fast: FastConnections | None = None
        self._is_leaving = False
        self._waiters = Waiters()
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also where 0 was configured."""
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    async def start(self, *, reuse_port: bool = False) -> None:
        """Listen.

        Raises:
            Broken: the address cannot be had.
        """
        self._server = self.ordinary()
        if self._settings.fast_path:
            self._fast = FastConnections(
                self._endpoints,
                self._intake,
                clock=self._clock,
                ordinary=self._server,
                trusted=self._trusted,
                max_body=self._max_body,
                keepalive_s=self._settings.keepalive_timeout,
            )
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._fast or self._server,
                self._settings.host,
                self._settings.port,
                backlog=1024,
                reuse_port=reuse_port or None,
            )
        except OSError as exc:
            raise Broken(
                f"ingest.host and ingest.port: cannot listen on "
                f"{self._settings.host}:{self._settings.port}: {exc.strerror}"
            ) from exc

    def ordinary(self) -> _Server:
        """aiohttp's side: makes the handlers of connections that are not plain, or of all."""
        return _Server(
            self._handle,
            head_timeout_s=self._settings.read_timeout,
            keepalive_timeout=self._settings.keepalive_timeout,
            access_log=None,
            auto_decompress=False,
            max_field_size=16 * 1024,
        )

    async def stop(self, timeout_s: float) -> None:
        """Accept no more connections, finish the requests that were read. May be called twice, or before start."""
        listener, self._listener = self._listener, None
        server, self._server = self._server, None
        fast, self._fast = self._fast, None
        if listener is not None:
            listener.close()
            self._is_leaving = True
            if fast is not None:
                fast.leave()
            # What senders had sent when the port closed is still on its way, or in the kernel's buffers.
            await asyncio.sleep(min(_LAST_REQUESTS_S, timeout_s / 4))
        if fast is not None:
            fast.pre_shutdown()
        if server is not None:
            server.pre_shutdown()
        await asyncio.gather(*(side.shutdown(timeout_s) for side in (fast, server) if side is not None))

    # -- one request --------------------------------------------------------------------------------------------

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        path, query = _target(request)
        endpoint = self._endpoints.find(path)
        if endpoint is None:
            _REFUSED.labels("not_found").inc()
            return _plain(404)
        if request.method not in endpoint.callback.methods:
            _REFUSED.labels("method").inc()
            return _plain(405, {"Allow": ", ".join(sorted(endpoint.callback.methods))})
        try:
            body = await self._body(request)
        except BodyTooLarge:
            return self._refused(endpoint, request, path, query, 413, "the body is too large")
        except TimeoutError:
            return self._refused(endpoint, request, path, query, 408, "the body came too slowly")
        except (HttpProcessingError, web.RequestPayloadError):
            return self._refused(endpoint, request, path, query, 400, "the body cannot be read")
        callback = self._callback_request(request, path, query, body)
        answer = await self._answer(endpoint, callback)
        self._intake.tally.took(endpoint.callback.name, time.perf_counter() - started)
        response = _response(answer)
        if self._is_leaving:
            response.force_close()
        return response

    async def _answer(self, endpoint: Endpoint, callback: CallbackRequest) -> Answer:
        taken = self._intake.take(endpoint, callback)
        if isinstance(taken, Answer):
            return taken
        return await self._when_durable(endpoint, callback, taken)

    async def _when_durable(self, endpoint: Endpoint, callback: CallbackRequest, pending: Pending) -> Answer:
        try:
            await self._waiters.wait(pending.durable)
        except NotNow as exc:
            return self._intake.not_stored(endpoint, callback, exc)
        self._intake.count(endpoint, pending.outcome)
        return pending.answer

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

    async def _body(self, request: BaseRequest) -> bytes:
        """The whole body, decompressed.

        Raises:
            BodyTooLarge, TimeoutError: see ``ingest.max_body_bytes`` and ``ingest.read_timeout``.
        """
        body = await self._read(request)
        coding = request.headers.get("Content-Encoding")
        return unfolded(body, coding, self._max_body) if coding else body

    async def _read(self, request: BaseRequest) -> bytes:
        if not request.body_exists:
            return b""
        if request.content_length is not None and request.content_length > self._max_body:
            raise BodyTooLarge
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # an interim answer is none: the final one may still be written
        if request.content.is_eof():  # as nearly always: it came with its head
            body = request.content.read_nowait()
            if len(body) > self._max_body:
                raise BodyTooLarge
            return body
        async with asyncio.timeout(self._settings.read_timeout):
            return await self._read_up_to_limit(request)

    async def _read_up_to_limit(self, request: BaseRequest) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while chunk := await request.content.readany():
            size += len(chunk)
            if size > self._max_body:
                raise BodyTooLarge
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _refused(
        self, endpoint: Endpoint, request: BaseRequest, path: str, query: bytes, status: int, reason: str
    ) -> web.Response:
        """The vendor's failure body for a request that was not read whole; the connection ends with it.

        It is not signed, as nothing shows that the request is authentic.
        """
        _REFUSED.labels({413: "too_large", 408: "timeout"}.get(status, "malformed")).inc()
        _log.warning("callback.refused", callback=endpoint.callback.name, status=status, reason=reason)
        callback = self._callback_request(request, path, query, b"")
        response = _response(endpoint.callback.answers.failure(status, reason, callback, None, self._clock()))
        response.force_close()
        return response


class _Server(web.Server):  # type: ignore[misc,type-arg,unused-ignore]
    """aiohttp's server, making our connections."""

    def __call__(self) -> RequestHandler:  # type: ignore[type-arg,unused-ignore]
        return Connection(self, loop=self._loop, **self._kwargs)


def _target(request: BaseRequest) -> tuple[str, bytes]:
    """Path, unescaped, and query, as received. An absolute target (RFC 9112, 3.2.2) counts by its path."""
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
