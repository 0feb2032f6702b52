"""One attempt: the event's bytes as a signed webhook (Standard Webhooks), and the answer as a value.

What costs is measured against a bare aiohttp client (``tests/benchmarks/fanout.py``): everything that does
not change between attempts is made once, and there is neither a task nor a time-out object for each.

Not done, on purpose: redirects are not followed, cookies are not kept, proxies of the environment are not
used, compressed answers are not unpacked, and of an answer at most :data:`MAX_RESPONSE_BYTES` is read.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping
from random import Random
from typing import Final

import aiohttp
from yarl import URL

from gateway import __version__
from gateway.fanout.attempt import HEAD_BYTES, AttemptResult, ErrorKind
from gateway.fanout.clock import Clock
from gateway.fanout.deadlines import Deadlines
from gateway.fanout.guard import Allowed, is_refusal, socket_factory
from gateway.fanout.retry import retry_after_s
from gateway.fanout.transform import Transform
from gateway.log import Record
from gateway.signing import Signer

#: More than this is not an answer to a webhook; the connection is closed instead of read on.
MAX_RESPONSE_BYTES: Final = 16 * 1024
#: Idle connections are closed by us before common servers close them (gunicorn 2 s, Node and uvicorn 5 s):
#: a POST sent into a closing connection fails, and nobody may repeat it unasked (RFC 9110, section 9.2.2).
_KEEPALIVE_S: Final = 1.8
#: aiohttp warns of bytes above this, as one write would hold the event loop.
_LARGE_BYTES: Final = 1024 * 1024
_DNS_CACHE_S: Final = 10
#: Set by us; ``headers`` of a subscriber may not name them.
RESERVED_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "gateway-replay",
        "host",
        "traceparent",
        "transfer-encoding",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)


class WebhookSink:
    """Posts events to one subscriber over kept connections.

    Args:
        url: http or https.
        headers: sent with every attempt; none of :data:`RESERVED_HEADERS`.
        timeout_s: from the start of an attempt to the end of the answer; a body that is not whole by then is cut.
        connections: how many at most.
        tls: context for https; None: the system's certificate authorities.
    """

    def __init__(
        self,
        url: str,
        signer: Signer,
        *,
        clock: Clock,
        rng: Random,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        connections: int = 32,
        allowed: Allowed | None = None,
        tls: ssl.SSLContext | None = None,
        transform: Transform | None = None,
    ) -> None:
        self._url = URL(url)
        self._signer = signer
        self._clock = clock
        self._rng = rng
        self._allowed = allowed if allowed is not None else Allowed()
        self._tls = tls
        self._transform = transform
        self._connections = connections
        self._deadlines = Deadlines(clock, timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._fixed = {
            "user-agent": f"nxcloud-gateway/{__version__}",
            "accept": "*/*",
            "accept-encoding": "identity",
            **{name.lower(): value for name, value in (headers or {}).items()},
            "content-type": "application/cloudevents+json",
        }

    async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
        """See :class:`~gateway.fanout.attempt.Sink`."""
        body = record.value if self._transform is None else self._transform.apply(record.value)
        session = self._session or self._open()
        headers = self._headers(record, body, is_replay)
        span = headers["traceparent"][36:52]
        head = bytearray()
        response: aiohttp.ClientResponse | None = None
        trouble: Exception | None = None
        started = self._clock.monotonic()
        task = self._deadlines.begin()
        try:
            response = await session.post(
                self._url,
                data=aiohttp.BytesPayload(body) if len(body) < _LARGE_BYTES else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
            )
            if not response.content.at_eof():
                await _read(response, head)
        except (aiohttp.ClientError, OSError, ValueError) as exc:  # ValueError: what came back is not HTTP
            trouble = exc
        except asyncio.CancelledError:
            if not self._deadlines.is_late(task):
                raise
            trouble = TimeoutError()
        finally:
            if response is not None:
                response.release()
            self._deadlines.end(task)
        duration_s = self._clock.monotonic() - started
        if response is None:
            assert trouble is not None
            kind, detail = explain(trouble)
            return AttemptResult(error=kind, detail=detail, duration_s=duration_s, span=span)
        # The status is the answer (RFC 9110, section 15): trouble with the body only shortens what is kept of it.
        if 200 <= response.status < 300:
            return AttemptResult(response.status, duration_s=duration_s, span=span)
        return self._refused(response, bytes(head), duration_s, span)

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _refused(self, response: aiohttp.ClientResponse, head: bytes, duration_s: float, span: str) -> AttemptResult:
        return AttemptResult(
            response.status,
            detail=f"answered {response.status} {response.reason or ''}".rstrip(),
            retry_after_s=retry_after_s(response.headers.get("Retry-After"), self._clock.now()),
            head=head,
            duration_s=duration_s,
            span=span,
        )

    def _headers(self, record: Record, body: bytes, is_replay: bool) -> dict[str, str]:
        timestamp = int(self._clock.now())
        headers = {
            "webhook-id": record.id,
            "webhook-timestamp": str(timestamp),
            "traceparent": traceparent(record, self._rng),
        }
        if self._signer:
            headers["webhook-signature"] = self._signer.sign(record.id, timestamp, body)
        if is_replay:
            headers["gateway-replay"] = "true"
        return headers

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            ssl=self._tls if self._tls is not None else True,
            keepalive_timeout=_KEEPALIVE_S,
            ttl_dns_cache=_DNS_CACHE_S,
            socket_factory=socket_factory(self._allowed, self._url.host or ""),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._fixed,  # copied natively; headers of a request are copied one by one
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # see Deadlines
            auto_decompress=False,
            trust_env=False,
        )
        return self._session


def traceparent(record: Record, rng: Random) -> str:
    """The trace of the event with a span of this attempt (W3C Trace Context, section 3.2).

    The trace is the one that came with the event, or else is named by the event's id.
    """
    for name, value in record.headers:
        if name == "traceparent" and len(value) == 55:
            return f"{value[:36]}{rng.getrandbits(64) or 1:016x}{value[52:]}"
    return f"00-{record.id}-{rng.getrandbits(64) or 1:016x}-01"


async def _read(response: aiohttp.ClientResponse, head: bytearray) -> None:
    """Read the answer to its end, or close the connection at the limit; ``head`` takes the first kilobyte."""
    content, size = response.content, 0
    while not content.at_eof():
        chunk = await content.readany()
        size += len(chunk)
        if len(head) < HEAD_BYTES:
            head += chunk[: HEAD_BYTES - len(head)]
        if size > MAX_RESPONSE_BYTES:
            response.close()
            break


def explain(exc: Exception) -> tuple[ErrorKind, str]:
    """Kind and sentence of what went wrong before there was an answer; the one place that knows aiohttp's tree."""
    match exc:
        case asyncio.TimeoutError():
            return "timeout", "no whole answer within timeout_s"
        case aiohttp.ClientConnectorDNSError():
            return "dns", f"the name {exc.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "tls", f"TLS failed: {exc}"
        case aiohttp.ClientConnectorError() if is_refusal(exc.os_error):
            return "refused_address", str(exc.os_error.strerror or exc.os_error)
        case aiohttp.ClientConnectorError():
            return "connect", f"cannot connect: {exc.os_error.strerror or exc.os_error}"
        case aiohttp.InvalidURL():
            return "refused_address", f"the address cannot be used: {exc}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
            return "disconnected", "the connection was closed before the whole answer came"
        case OSError():
            return "connect", f"cannot connect: {exc.strerror or exc}"
        case _:
            return "protocol", f"the answer is not HTTP: {type(exc).__name__}"
