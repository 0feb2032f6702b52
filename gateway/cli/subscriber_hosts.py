"""Would a webhook arrive: each subscriber's host resolved, held against the SSRF rule, connected to, shaken hands with.

No event is sent. One ``HEAD`` without credentials is, for the status line and the ``Date`` of the answer: a safe method
(RFC 9110, section 9.2.1), and any status is as good as another. The connection goes to an address that was looked at,
as a delivery's does.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final

from gateway import __version__, connectivity
from gateway.config import webhook_url
from gateway.config.settings import Subscriber
from gateway.config.webhook_url import WebhookUrl
from gateway.connectivity import Reason
from gateway.errors import ConfigError
from gateway.fanout.ssrf import Allowed, refusal
from gateway.fanout.webhook_client import tls_context
from gateway.finding import Finding

#: For the name, for each address, and for the answer.
_RESOLVE_S: Final = 4.0
_CONNECT_S: Final = 3.0
_ANSWER_S: Final = 2.0
#: A server that has nothing against us waits longer than this for a request.
_LISTEN_S: Final = 1.0
#: Addresses of a name that are tried, one after the other.
_MOST_ADDRESSES: Final = 2
_MOST_HEAD: Final = 64 * 1024
#: Certificates are usually renewed 30 or 14 days before they expire; a later renewal was probably forgotten.
_MIN_DAYS: Final = 14
#: Receivers refuse signatures that are older or newer than this (Standard Webhooks, "Verifying timestamps").
_TOLERANCE_S: Final = 300.0
#: A clock that is so far off is not kept by a time service.
_CLOCK_S: Final = 5.0
#: How a server that expects TLS answers something else, where it answers (RFC 8446, section 5.1).
_TLS_ALERT: Final = b"\x15\x03"
_STATUS: Final = re.compile(rb"HTTP/\d\.\d \d{3}\b")
_DATE: Final = re.compile(rb"\r\ndate:[ \t]*([^\r\n]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer, and the two times between which it came (Unix seconds)."""

    head: bytes
    sent_at: float
    came_at: float


async def look(position: int, subscriber: Subscriber) -> list[Finding]:
    """Return what was found about one webhook's host.

    Args:
        position: in the list of subscribers.
        subscriber: of the kind ``webhook``; its certificate files can be read.
    """
    assert subscriber.url is not None
    path = f"subscribers[{position}].url"
    url = webhook_url.parse(subscriber.url)
    usable = await _usable(subscriber, url)
    if isinstance(usable, Reason):
        return [Finding("problem", path, *usable)]
    opened = await _open(subscriber, url, usable)
    if isinstance(opened, Reason):
        return [Finding("problem", path, *opened)]
    reader, writer, address = opened
    try:
        answer = await _head(reader, writer, url)
        findings = list(_certificate(path, url, writer.get_extra_info("peercert")))
    finally:
        writer.transport.abort()
    reason = await _not_http(url, address, answer) or await _certificate_wanted(subscriber, url, address, answer)
    if reason is not None:
        return [Finding("problem", path, *reason)]
    return [*findings, _clock(path, url, subscriber, answer)]


async def _usable(subscriber: Subscriber, url: WebhookUrl) -> list[str] | Reason:
    try:
        async with asyncio.timeout(_RESOLVE_S):
            addresses = await connectivity.resolve(url.host, url.port)
    except TimeoutError:
        return Reason(f"the name {url.host} is not resolved within {_RESOLVE_S:g} s", "check the name service")
    except OSError as exc:
        return connectivity.unresolved(url.host, exc)
    allowed = Allowed.parse(subscriber.allow, private=subscriber.allow_private)
    reasons = {address: refusal(ip_address(address.partition("%")[0]), allowed, url.host) for address in addresses}
    usable = [address for address, reason in reasons.items() if reason is None]
    if usable:
        return usable[:_MOST_ADDRESSES]
    address, reason = next(iter(reasons.items()))
    return Reason(f"{url.host} is {address}, a {reason} address, and refused", "set allow_private, or name it in allow")


async def _open(
    subscriber: Subscriber, url: WebhookUrl, addresses: list[str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str] | Reason:
    """Connect to the first address that can be connected to, or return why the last one cannot."""
    where = _where(url)
    reason = Reason("", "")
    for address in addresses:
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    address, url.port, limit=_MOST_HEAD, **_tls(subscriber, url)
                )
            return reader, writer, address
        except ssl.SSLCertVerificationError as exc:
            return connectivity.untrusted(where, exc, "tls.ca_file")
        except (OSError, TimeoutError) as exc:
            if url.scheme == "https" and await _speaks_plain(url, address):
                return Reason(f"{where} speaks without TLS", "write http:// in the url, or switch TLS on there")
            reason = _not_opened(where, exc)
    return reason


def _not_opened(where: str, exc: OSError | TimeoutError) -> Reason:
    if isinstance(exc, TimeoutError):
        return connectivity.silent(where, _CONNECT_S)
    if not isinstance(exc, ssl.SSLError):
        return connectivity.unreachable(where, exc)
    if connectivity.is_alert(exc):
        return _no_certificate(where, exc.reason)
    return Reason(f"no TLS connection to {where}: {exc.reason or exc}", "see what its server logs")


async def _speaks_plain(url: WebhookUrl, address: str) -> bool:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(address, url.port, limit=_MOST_HEAD)
        try:
            answer = await _head(reader, writer, url)
        finally:
            writer.transport.abort()
        return isinstance(answer, _Answer) and bool(_STATUS.match(answer.head))
    return False


def _tls(subscriber: Subscriber, url: WebhookUrl) -> dict[str, Any]:
    if url.scheme != "https":
        return {}
    context = None
    with suppress(ConfigError):  # a file went away since it was read for the configuration
        context = tls_context(subscriber.tls)
    return {"ssl": context or _default_context(), "server_hostname": url.host.rstrip(".")}


@lru_cache(maxsize=1)
def _default_context() -> ssl.SSLContext:
    """Return one for all: the system's authorities take some 30 ms to read."""
    return ssl.create_default_context()


def _no_certificate(where: str, said: str) -> Reason:
    return Reason(
        f"{where} ends the connection after the TLS handshake: {said}",
        "it may ask for our certificate: set tls.cert_file and tls.key_file to one that it accepts",
    )


async def _head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: WebhookUrl) -> _Answer | BaseException:
    """Send a HEAD and return the head of the answer, or what came in its place."""
    request = (
        f"HEAD {url.target} HTTP/1.1\r\nHost: {url.authority}\r\nUser-Agent: nxcloud-gateway/{__version__}\r\n"
        "Connection: close\r\n\r\n"
    )
    sent_at = time.time()
    try:
        async with asyncio.timeout(_ANSWER_S):
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        head = exc.partial
    except (OSError, TimeoutError, asyncio.LimitOverrunError) as exc:
        return exc
    return _Answer(head, sent_at, time.time())


async def _not_http(url: WebhookUrl, address: str, answer: _Answer | BaseException) -> Reason | None:
    """Return why webhooks cannot be sent to what answered like this; None where they can, or nothing is known."""
    where = _where(url)
    if isinstance(answer, _Answer) and _STATUS.match(answer.head):
        return None
    if isinstance(answer, _Answer) and answer.head and not answer.head.startswith(_TLS_ALERT):
        return Reason(f"{where} answers with something that is not HTTP", "correct host and port")
    if url.scheme == "http":
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                if await connectivity.speaks_tls(address, url.port):
                    return Reason(f"{where} speaks TLS, and the url says http", "write https:// in the url")
    return None


async def _certificate_wanted(
    subscriber: Subscriber, url: WebhookUrl, address: str, answer: _Answer | BaseException
) -> Reason | None:
    """Return the reason if a server that closed without a response wants a client certificate.

    TLS 1.3 reports this after the handshake, and data sent meanwhile makes the system discard the report: so this
    connects again and only reads.
    """
    if url.scheme != "https" or (isinstance(answer, _Answer) and answer.head) or isinstance(answer, TimeoutError):
        return None
    opened = await _open(subscriber, url, [address])
    if isinstance(opened, Reason):
        return opened
    reader, writer, _ = opened
    try:
        async with asyncio.timeout(_LISTEN_S):
            said = "closed the connection" if not await reader.read(1) else ""
    except TimeoutError:
        return None  # it waits for a request, as it should
    except OSError as exc:
        said = exc.reason if isinstance(exc, ssl.SSLError) else connectivity.os_reason(exc)
    finally:
        writer.transport.abort()
    return _no_certificate(_where(url), said) if said else None


def _certificate(path: str, url: WebhookUrl, certificate: dict[str, Any] | None) -> Iterator[Finding]:
    if not certificate or "notAfter" not in certificate:
        return
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86_400)
    if days < _MIN_DAYS:
        text = f"the certificate of {_where(url)} expires in {days} days"
        yield Finding("warning", path, text, "its owner has to renew it")
    else:
        yield Finding("ok", path, f"the certificate of {_where(url)} is good for {days} more days")


def _clock(path: str, url: WebhookUrl, subscriber: Subscriber, answer: _Answer | BaseException) -> Finding:
    where = _where(url)
    if not isinstance(answer, _Answer) or not answer.head:
        return Finding(
            "unknown", path, f"{where} can be connected to and does not answer a HEAD: its clock is not known"
        )
    said = _date(answer.head)
    if said is None:
        return Finding("unknown", path, f"{where} answers; its clock is not known, as the answer has no Date")
    least, most = said - answer.came_at, said + 1.0 - answer.sent_at
    apart = max(least, -most, 0.0)
    if apart < _CLOCK_S:
        return Finding("ok", path, f"{where} answers, and its clock agrees with this machine's")
    direction = "ahead of" if least > 0 else "behind"
    is_refused = apart > _TOLERANCE_S and bool(subscriber.secrets)
    return Finding(
        "problem" if is_refused else "warning",
        path,
        f"the clock of {where} is {apart:.0f} s {direction} this machine's"
        + (": receivers refuse signatures that are more than five minutes off" if is_refused else ""),
        "set both by a time service",
    )


def _date(head: bytes) -> float | None:
    """Return the ``Date`` of an answer as Unix seconds."""
    found = _DATE.search(head)
    if found is None:
        return None
    try:
        return parsedate_to_datetime(found[1].decode("latin-1")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _where(url: WebhookUrl) -> str:
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
