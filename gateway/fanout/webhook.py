"""One attempt: the event's bytes as a signed webhook (Standard Webhooks), and the answer as a value.

What costs is measured against a bare aiohttp client (``tests/benchmarks/fanout.py``): everything that does
not change between attempts is made once, and there is neither a task nor a time-out object for each.

Intentionally not done: redirects are not followed, cookies are not kept, proxies of the environment are not
used, compressed answers are not unpacked, and an answer is read within the bounds of
:mod:`gateway.fanout.http_answer`.
"""

from __future__ import annotations

import asyncio
import errno
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Final

import aiohttp

from gateway import __version__, connectivity
from gateway.clock import Clock
from gateway.errors import Poison
from gateway.fanout.attempt import AttemptResult, ErrorKind
from gateway.fanout.http_answer import HttpAnswer, NotHttp
from gateway.fanout.retry import retry_after_s
from gateway.fanout.ssrf import Allowed, is_refusal
from gateway.fanout.transform import Transform
from gateway.fanout.webhook_client import Deadlines, WebhookClient
from gateway.log import Record
from gateway.signing import Signer
from gateway.telemetry.tracing import caller, trace_id

#: An id that a header carries as it is: printable ASCII, no spaces around it, a length that every server takes. Ours
#: are 32 hex digits; CloudEvents of other producers may have any text.
_SENDABLE_ID: Final = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")
#: Replaces the values of a subscriber's own headers where an answer repeats them.
HIDDEN: Final = "(hidden)"
#: A shorter value, such as ``1`` or ``json``, is no secret, and many texts contain it.
_LEAST_SECRET: Final = 6


class Shown:
    """Request and answer of an attempt, for a person. The head has the configured headers, secrets included."""

    __slots__ = ("answer", "body", "head")

    def __init__(self) -> None:
        self.head = ""
        self.body = b""
        self.answer = HttpAnswer()


class WebhookSink:
    """Posts events to one subscriber over kept connections.

    Args:
        url: http or https.
        headers: sent with every attempt; none that :mod:`gateway.fanout.subscriber_rules` refuses.
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
        self._signer = signer
        self._clock = clock
        self._rng = rng
        self._transform = transform
        self._deadlines = Deadlines(clock, timeout_s)
        fixed = fixed_headers(headers or {})
        self._secrets = secrets_of((headers or {}).values())
        self._client = WebhookClient(
            url,
            "".join([f"{name}: {value}\r\n" for name, value in fixed.items()]),
            connections=connections,
            allowed=allowed if allowed is not None else Allowed(),
            tls=tls,
        )

    async def attempt(self, record: Record, *, is_replay: bool, shown: Shown | None = None) -> AttemptResult:
        """See :class:`~gateway.fanout.attempt.Sink`.

        Args:
            record: the event.
            is_replay: it is marked as a replay.
            shown: takes what is sent and what comes; the event is then marked as a test.
        """
        if not _SENDABLE_ID.fullmatch(record.id):
            raise Poison("the id cannot be sent in webhook-id: it must be 1 to 1024 printable ASCII characters")
        body = record.value if self._transform is None else self._transform.apply(record.value)
        span = f"{self._rng.getrandbits(64) or 1:016x}"
        trace = traceparent(record, span)
        timestamp = int(self._clock.now())
        signature = self._signer.sign(record.id, timestamp, body) if self._signer else ""
        headers = _headers(record.id, timestamp, trace, signature, is_replay=is_replay)
        answer = HttpAnswer()
        if shown is not None:
            headers += "gateway-test: true\r\n"
            shown.head, shown.body, answer = self._client.head + headers, body, shown.answer
        trouble: Exception | None = None
        started = self._clock.monotonic()
        task = self._deadlines.begin(started)
        try:
            await self._client.post(headers, body, answer)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            trouble = exc
        except asyncio.CancelledError:
            if not self._deadlines.is_late(task):
                raise
            answer.conclude()
            trouble = TimeoutError()
        finally:
            self._deadlines.end(task)
        duration_s = self._clock.monotonic() - started
        # The status is the answer (RFC 9110, section 15), whatever becomes of what is behind its line.
        status = answer.status
        if 200 <= status < 300:
            return AttemptResult(
                status, None, "", None, answer.body, duration_s, span, answer.fields, timestamp, signature
            )
        if status:
            return AttemptResult(
                status,
                detail=f"answered {status} {answer.reason}".rstrip(),
                retry_after_s=retry_after_s(answer.retry_after, self._clock.now()),
                head=without(answer.body, self._secrets),
                duration_s=duration_s,
                span=span,
                fields=answer.fields,
                timestamp=timestamp,
                signature=signature,
            )
        assert trouble is not None
        kind, detail = explain(trouble, duration_s)
        return AttemptResult(
            error=kind, detail=detail, duration_s=duration_s, span=span, timestamp=timestamp, signature=signature
        )

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        await self._client.close()


def fixed_headers(configured: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that all requests of a subscriber have, in the order in which they are sent.

    Args:
        configured: additional headers of the subscriber.
    """
    return {
        "user-agent": f"nxcloud-gateway/{__version__}",
        "accept": "*/*",
        "accept-encoding": "identity",
        **{name.lower(): value for name, value in configured.items()},
        "content-type": "application/cloudevents+json",
    }


def secrets_of(values: Iterable[str]) -> tuple[bytes, ...]:
    """Return what must not be shown of the values of headers: each value, and each word of it. The longest first.

    Args:
        values: of headers, such as ``Bearer …``.
    """
    words = {word for value in values for word in (value, *value.split()) if len(word) >= _LEAST_SECRET}
    return tuple(word.encode() for word in sorted(words, key=len, reverse=True))


def without(data: bytes, secrets: Sequence[bytes]) -> bytes:
    """Return bytes without secrets, and without the beginning of a secret at the end, where they may have been cut.

    Args:
        data: of an answer.
        secrets: see :func:`secrets_of`.
    """
    hidden = HIDDEN.encode()
    for secret in secrets:
        data = data.replace(secret, hidden)
        for length in range(min(len(secret) - 1, len(data)), _LEAST_SECRET - 1, -1):
            if data.endswith(secret[:length]):
                data = data[:-length] + hidden
                break
    return data


def _headers(event_id: str, timestamp: int, trace: str, signature: str, *, is_replay: bool) -> str:
    """Return the header lines of one attempt, each with its CRLF. The id was looked at before."""
    lines = f"webhook-id: {event_id}\r\nwebhook-timestamp: {timestamp}\r\ntraceparent: {trace}\r\n"
    if signature:
        lines += f"webhook-signature: {signature}\r\n"
    return f"{lines}gateway-replay: true\r\n" if is_replay else lines


def traceparent(record: Record, span: str) -> str:
    """Return the trace of the event with a span of an attempt (W3C Trace Context, section 3.2).

    The trace is the one that came with the event, or else is named by the event's id.

    Args:
        record: the event.
        span: id of the span, 16 hex digits.
    """
    given = caller(record.headers)
    return f"{given[:36]}{span}{given[52:]}" if given else f"00-{trace_id(record.id)}-{span}-01"


#: What a failed connection is called, by the number of its error.
_CONNECT: Final = {
    errno.ECONNREFUSED: "connection refused by",
    errno.EHOSTUNREACH: "no route to",
    errno.ENETUNREACH: "no network to",
    errno.ETIMEDOUT: "no connection in time to",
    errno.ECONNRESET: "connection reset by",
    errno.EMFILE: "too many open files to connect to",
}


def explain(exc: Exception, took_s: float) -> tuple[ErrorKind, str]:
    """Return kind and detail of what went wrong before there was an answer; only this function knows aiohttp's tree.

    Args:
        exc: what the client raised.
        took_s: duration of the attempt, in seconds.
    """
    match exc:
        case asyncio.TimeoutError():
            return "timeout", f"no whole answer within {took_s:.3g} s"
        case aiohttp.ClientConnectorDNSError():
            return "dns", f"the name {exc.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return "tls", _untrusted(f"{exc.host}:{exc.port}", exc.certificate_error)
        case aiohttp.ClientConnectorSSLError():
            why = getattr(exc.os_error, "reason", None) or exc.os_error
            return "tls", f"TLS with {exc.host}:{exc.port} failed: {str(why).replace('_', ' ').lower()}"
        case aiohttp.ClientSSLError():
            return "tls", f"TLS failed: {exc}"
        case aiohttp.ClientConnectorError() if is_refusal(exc.os_error):
            return "refused_address", str(exc.os_error.strerror or exc.os_error)
        case aiohttp.ClientConnectorError():
            words = _CONNECT.get(exc.os_error.errno or 0, "cannot connect to")
            return "connect", f"{words} {exc.host}:{exc.port}"
        case aiohttp.InvalidURL():
            return "refused_address", f"the address cannot be used: {exc}"
        case aiohttp.ServerDisconnectedError() | OSError():
            return "disconnected", "the connection was closed before an answer came"
        case NotHttp():
            return "protocol", str(exc)
        case _:
            return "protocol", f"no answer was received: {type(exc).__name__}"


def _untrusted(where: str, error: Exception) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is refused: {error}"
    reason = connectivity.untrusted(where, error, "tls.ca_file")
    return f"{reason.text}: {reason.advice}"
