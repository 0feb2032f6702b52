"""Posts to one address over kept connections: aiohttp's connector, and our own reader of answers.

The connector has what is hard about a client: names, happy eyeballs, TLS, a pool with a limit. Writing a POST and
reading its answer is little, and both have to be ours: the request target is sent as configured
(:mod:`gateway.config.webhook_url`), the status line decides (:mod:`gateway.fanout.http_answer`), and a peer that never
stops talking is read once in each turn of the event loop, never in a loop that does not yield.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from gateway.clock import Clock, Timer
from gateway.config import webhook_url
from gateway.config.sections import ClientTls
from gateway.errors import ConfigError
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


class Deadlines:
    """One time-out for all attempts of a subscriber: what began first is due first, so the first one's timer will do.

    A timer of its own for each attempt, as the HTTP client would make, costs a twentieth of the whole delivery. Cancels
    tasks that take longer than ``timeout_s``::

        task = deadlines.begin(now)
        try:
            await something()
        except asyncio.CancelledError:
            if not deadlines.is_late(task):
                raise  # another part cancelled this task
        finally:
            deadlines.end(task)

    Args:
        timeout_s: seconds, the same for all.
    """

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._open: dict[asyncio.Task[Any], float] = {}  # in the order of their deadlines
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None

    def begin(self, now: float) -> asyncio.Task[Any]:
        """Start the deadline of the running task. A task has one deadline at a time.

        Args:
            now: monotonic seconds.
        """
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = now + self._timeout_s
        if self._timer is None:
            self._timer = self._clock.call_later(self._timeout_s, self._ring)
        return task

    def is_late(self, task: asyncio.Task[Any]) -> bool:
        """Return whether only the deadline cancelled the task, which then continues as if it was not cancelled."""
        return task in self._late and task.uncancel() == 0

    def end(self, task: asyncio.Task[Any]) -> None:
        """End the deadline of a task."""
        self._open.pop(task, None)
        self._late.discard(task)

    def _ring(self) -> None:
        """Cancel the tasks that are due, and set the timer for the next one."""
        self._timer = None
        now = self._clock.monotonic()
        while self._open:
            task, due = next(iter(self._open.items()))
            if due > now:
                self._timer = self._clock.call_later(due - now, self._ring)
                return
            del self._open[task]
            self._late.add(task)
            task.cancel()


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

    def read_into(self, answer: HttpAnswer) -> asyncio.Future[None]:
        """Return what is done when the request that was just written is answered.

        It fails with :class:`NotHttp` when what came has no status, and with ``OSError`` when the connection was closed
        before it had one. A connection is not used again when it failed or was cancelled.
        """
        self._answer, self._done = answer, self._loop.create_future()
        return self._done

    def close(self) -> None:
        """Close; what the subscriber has not read by now is not waited for, as it may never read it."""
        if self._is_writing():
            self.abort()
        else:
            super().close()

    def data_received(self, data: bytes) -> None:
        """Process bytes of the answer. Bytes without a request, or behind the answer, end the connection."""
        answer, done = self._answer, self._done
        if answer is None or done is None or done.done():
            self._is_spent = True
            if self.transport is not None:
                self.transport.abort()
            return
        try:
            answer.feed(data)
        except NotHttp as exc:
            done.set_exception(exc)
        else:
            if answer.is_complete:
                # A peer that answers before the whole request was sent does not want the remaining bytes.
                self._is_spent = not answer.is_reusable or self._is_writing()
                self._answer = None
                done.set_result(None)

    def _is_writing(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

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


def tls_context(tls: ClientTls) -> ssl.SSLContext | None:
    """Return the TLS context of one subscriber; None means the default one. Reads the files, so it is also the check.

    Raises:
        ConfigError: a file cannot be read or does not hold what it should; names the key.
    """
    if tls.ca_file is None and tls.cert_file is None:
        if tls.key_file is not None:
            raise ConfigError(["tls.key_file: a key is of no use without tls.cert_file"])
        return None
    try:
        made = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError([f"tls.ca_file: {tls.ca_file} cannot be used: {exc}"]) from exc
    if tls.cert_file is not None:
        try:
            made.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as exc:
            raise ConfigError([f"tls.cert_file: {tls.cert_file} cannot be used: {exc}"]) from exc
    return made


def _no_password() -> str:
    """Refuse an encrypted key: OpenSSL would ask on the terminal, and a service would hang."""
    raise ValueError("the key is encrypted; give one without a pass phrase")
