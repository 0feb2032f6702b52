"""Posts to one address over kept connections: aiohttp's connector, and our own reader of answers.

The connector has what is hard about a client: names, happy eyeballs, TLS, a pool with a limit. Writing a POST and
reading its answer is little, and both have to be ours: the request target is sent as configured
(:mod:`gateway.config.webhook_url`), the status line decides (:mod:`gateway.fanout.http_answer`), and a peer that never
stops talking is read once in each turn of the event loop, never in a loop that does not yield.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from gateway.config import webhook_url
from gateway.fanout.http_answer import HttpAnswer, NotHttp
from gateway.fanout.ssrf import Allowed, socket_factory

#: Idle connections are closed by us before common servers close them (gunicorn 2 s, Node and uvicorn 5 s):
#: a POST sent into a closing connection fails, and a client must not repeat it by itself (RFC 9110, section 9.2.2).
_KEEPALIVE_S: Final = 1.8
_DNS_CACHE_S: Final = 10
#: Bodies above this are not copied behind their head.
_LARGE_BYTES: Final = 64 * 1024
#: The time-out is the caller's.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)


class _Connection(ResponseHandler):
    """One connection as the connector's pool knows it; reads one answer at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._answer: HttpAnswer | None = None
        self._done: asyncio.Future[None] | None = None
        self._is_spent = False

    @property
    def should_close(self) -> bool:
        """Asked by the pool when the connection comes back."""
        return self._is_spent

    async def read_into(self, answer: HttpAnswer) -> None:
        """Wait for the answer to the request that was just written.

        Raises:
            NotHttp: what came has no status.
            OSError: the connection was closed or broke before it had one.
        """
        transport = self.transport
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        self._answer, self._done = answer, self._loop.create_future()
        try:
            await self._done
        finally:
            self._answer = self._done = None
            # A peer that answers before the whole request was sent does not want the remaining bytes.
            self._is_spent = not answer.is_reusable or transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Close; what the subscriber has not read by now is not waited for, as it may never read it."""
        if self.transport is not None and self.transport.get_write_buffer_size() > 0:
            self.abort()
        else:
            super().close()

    def data_received(self, data: bytes) -> None:
        """Process bytes of the answer. Bytes without a request, or behind the answer, end the connection."""
        if self._answer is None or self._done is None or self._done.done():
            self._is_spent = True
            if self._answer is not None:
                self._answer.is_reusable = False
            elif self.transport is not None:
                self.transport.abort()
            return
        try:
            self._answer.feed(data)
        except NotHttp as exc:
            self._done.set_exception(exc)
        else:
            if self._answer.is_complete:
                self._done.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Complete or fail the answer: closing ends one without a length, and one that is cut."""
        self._is_spent = True
        if self._done is not None and not self._done.done():
            assert self._answer is not None
            self._answer.conclude()
            if self._answer.status:
                self._done.set_result(None)
            else:
                self._done.set_exception(exc if isinstance(exc, OSError) else aiohttp.ServerDisconnectedError())
        super().connection_lost(exc)


class WebhookClient:
    """Posts to one address. To be used on one event loop.

    Args:
        url: as configured; see :func:`gateway.config.webhook_url.parse`.
        headers: of each request, as the lines that follow ``Host``; each ends with CRLF.
        connections: how many at most.
        tls: context for https; None: the system's certificate authorities.
    """

    def __init__(
        self, url: str, headers: str, *, connections: int, allowed: Allowed, tls: ssl.SSLContext | None
    ) -> None:
        self._url = webhook_url.parse(url)
        self._head = f"POST {self._url.target} HTTP/1.1\r\nHost: {self._url.authority}\r\n{headers}"
        self._connections = connections
        self._allowed = allowed
        self._tls = tls
        self._connector: aiohttp.TCPConnector | None = None
        self._request: aiohttp.ClientRequest | None = None

    @property
    def head(self) -> str:
        """The lines that begin each request, with the configured headers."""
        return self._head

    async def post(self, headers: str, body: bytes, answer: HttpAnswer) -> None:
        """Send one request and read its answer; one that was begun is whole enough when its status is there.

        Args:
            headers: more lines, each with CRLF at its end; the caller has looked for line ends in their values.
            answer: takes what comes; what it has when this is cancelled can be used.

        Raises:
            NotHttp, OSError, aiohttp.ClientError: there is no status.
        """
        connector = self._connector or self._open()
        assert self._request is not None
        connection = await connector.connect(self._request, [], _NO_TIMEOUT)
        try:
            protocol, transport = cast("_Connection", connection.protocol), connection.transport
            if transport is None:
                raise aiohttp.ServerDisconnectedError
            head = f"{self._head}{headers}Content-Length: {len(body)}\r\n\r\n".encode()
            if len(body) < _LARGE_BYTES:
                transport.write(head + body)
            else:
                transport.write(head)
                transport.write(body)
            await protocol.read_into(answer)
        except BaseException:
            connection.close()
            raise
        connection.release()

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()

    def _open(self) -> aiohttp.TCPConnector:
        loop = asyncio.get_running_loop()
        connector = self._connector = aiohttp.TCPConnector(
            limit=self._connections,
            ssl=self._tls if self._tls is not None else True,
            keepalive_timeout=_KEEPALIVE_S,
            ttl_dns_cache=_DNS_CACHE_S,
            socket_factory=socket_factory(self._allowed, self._url.host),
        )
        connector._factory = lambda: _Connection(loop)  # type: ignore[assignment]  # there is no other way in
        server = URL.build(scheme=self._url.scheme, host=self._url.host, port=self._url.port)
        # What the connector asks where to; it is never sent.
        self._request = aiohttp.ClientRequest("POST", server, loop=loop)
        return connector
