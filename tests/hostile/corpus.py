"""Hostile requests, by name: bytes as they go over the wire, and the answers that are allowed.

``SMUGGLED`` stands in every request that hides inside another one. Nothing with this text may ever become an event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SMUGGLED: Final = "smuggled-9d1f"
_FORM: Final = b"messageid=h-1&phone=15550100200&status=2"
_HIDDEN: Final = (
    b"POST /callbacks/sms-dr?messageid=%s&phone=1&status=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    % SMUGGLED.encode()
)


@dataclass(frozen=True, slots=True)
class Case:
    """One connection.

    Args:
        chunks: written one after the other.
        allowed: statuses that may come; none at all, a closed connection, is always allowed unless ``must_answer``.
        ends: we close our side for writing behind the last chunk.
        must_answer: there is an answer.
    """

    name: str
    chunks: tuple[bytes, ...]
    allowed: frozenset[int]
    ends: bool = False
    must_answer: bool = False


REFUSED: Final = frozenset({400, 404, 405, 408, 411, 413, 414, 417, 431})
ANY_ANSWER: Final = REFUSED | {200, 100}


def head(*lines: bytes, target: bytes = b"/callbacks/sms-dr", method: bytes = b"POST") -> bytes:
    """A head with these lines and ``Host``."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: gateway", *lines, b"", b""])


def sized(body: bytes, *lines: bytes, target: bytes = b"/callbacks/sms-dr") -> bytes:
    """A well-framed request."""
    return head(b"Content-Length: %d" % len(body), *lines, target=target) + body


def cases() -> Iterator[Case]:
    """All of them but bodies, which :mod:`tests.hostile.bodies` has."""
    yield from _lengths()
    yield from _codings()
    yield from _chunks()
    yield from _lines()
    yield from _fields()
    yield from _targets()
    yield from _other_protocols()
    yield from _halves()


def _refused(name: str, *chunks: bytes) -> Case:
    return Case(name, chunks, REFUSED)


def _lengths() -> Iterator[Case]:
    """RFC 9112, section 6.3: a length that is not one number must be refused."""
    for name, lines in {
        "two": (b"Content-Length: 0", b"Content-Length: %d" % len(_HIDDEN)),
        "two-other-case": (b"Content-Length: %d" % len(_HIDDEN), b"content-length: 0"),
        "list": (b"Content-Length: 0, %d" % len(_HIDDEN),),
        "minus": (b"Content-Length: -1",),
        "plus": (b"Content-Length: +5",),
        "hex": (b"Content-Length: 0x5",),
        "underscore": (b"Content-Length: 1_0",),
        "words": (b"Content-Length: five",),
        "empty": (b"Content-Length: ",),
        "blank-inside": (b"Content-Length: 1 0",),
        "arabic-digits": ("Content-Length: ٥".encode(),),
        "huge": (b"Content-Length: 1" + b"0" * 40,),
        "sixty-four-bits": (b"Content-Length: 18446744073709551616",),
        "blank-before-colon": (b"Content-Length : %d" % len(_HIDDEN),),
        "nul": (b"Content-Length: 0\x00",),
    }.items():
        yield _refused(f"length-{name}", head(*lines) + _HIDDEN)
    yield Case("length-two-equal", (head(b"Content-Length: 5", b"Content-Length: 5") + b"a=b&c",), REFUSED)


def _codings() -> Iterator[Case]:
    """Length and chunked at once, and everything that only looks like chunked."""
    empty_then_hidden = b"0\r\n\r\n" + _HIDDEN
    length = b"Content-Length: %d" % len(empty_then_hidden)
    for name, lines in {
        "chunked-and-length": (length, b"Transfer-Encoding: chunked"),
        "length-and-chunked": (b"Transfer-Encoding: chunked", length),
        "chunked-twice": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", length),
        "identity-chunked": (b"Transfer-Encoding: identity, chunked", length),
        "chunked-identity": (b"Transfer-Encoding: chunked, identity", length),
        "unknown": (b"Transfer-Encoding: xchunked", length),
        "quoted": (b'Transfer-Encoding: "chunked"', length),
        "blank-before-colon": (b"Transfer-Encoding : chunked", length),
        "vertical-tab": (b"Transfer-Encoding:\x0bchunked", length),
        "folded": (b"Transfer-Encoding:\r\n chunked", length),
        "nul": (b"Transfer-Encoding: chunked\x00", length),
        "no-break-space": (b"Transfer-Encoding: chunked\xa0", length),
        "bare-cr": (b"X: y\rTransfer-Encoding: chunked", length),
        "underscore": (b"Transfer_Encoding: chunked\x00", length),
    }.items():
        yield _refused(f"coding-{name}", head(*lines) + empty_then_hidden)
    old = head(length, b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0")
    yield _refused("coding-in-1.0", old + empty_then_hidden)


def _chunks() -> Iterator[Case]:
    chunked = head(b"Transfer-Encoding: chunked")
    for name, body in {
        "minus": b"-5\r\nhello\r\n0\r\n\r\n",
        "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "huge": b"fffffffffffffffff\r\nhello",
        "words": b"five\r\nhello\r\n0\r\n\r\n",
        "no-end": b"5\r\nhelloX0\r\n\r\n",
        "bare-lf": b"5\nhello\n0\n\n" + _HIDDEN,
        "bare-cr": b"5\rhello\r0\r\r" + _HIDDEN,
        "lf-in-extension": b"5;\nx\r\nhello\r\n0\r\n\r\n" + _HIDDEN,
        "blank-size": b" \r\n" + _HIDDEN,
        "empty-size": b"\r\n\r\n" + _HIDDEN,
        "length-as-trailer": b"0\r\nContent-Length: 0\x00\r\n\r\n",
    }.items():
        yield _refused(f"chunk-{name}", chunked + body)
    yield Case("chunk-long-extension", (chunked + b"5;" + b"x" * 200_000 + b"\r\nhello\r\n0\r\n\r\n",), ANY_ANSWER)
    yield Case("chunk-many-trailers", (chunked + b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",), ANY_ANSWER)
    yield Case("chunk-of-one-byte-each", (chunked + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n",), ANY_ANSWER)
    yield Case(
        "chunk-too-large-in-all", (chunked + (b"10000\r\n" + b"a" * 65536 + b"\r\n") * 20 + b"0\r\n\r\n",), REFUSED
    )


def _lines() -> Iterator[Case]:
    hidden_in_target = b"/callbacks/sms-dr HTTP/1.1\r\nHost: x\r\n\r\n" + _HIDDEN
    for name, data in {
        "no-version": b"POST /callbacks/sms-dr\r\n\r\n",
        "version-9": b"POST /callbacks/sms-dr HTTP/9.9\r\nHost: x\r\n\r\n",
        "version-1.2x": b"POST /callbacks/sms-dr HTTP/1.x\r\nHost: x\r\n\r\n",
        "two-versions": b"POST /callbacks/sms-dr HTTP/1.1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "tab": b"POST\t/callbacks/sms-dr\tHTTP/1.1\r\nHost: x\r\n\r\n",
        "bare-cr": b"POST /callbacks/sms-dr HTTP/1.1\rHost: x\r\r" + _HIDDEN,
        "nul": b"POST /callbacks/sms-dr\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "nul-only": b"\x00" * 4096,
        "lower-case": b"post /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\n\r\n",
        "unknown-method": b"SMUGGLE /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\n\r\n",
        "method-with-brackets": b"PO(ST /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\n\r\n",
        "colon-line": b": \r\n\r\n",
        "not-http": b"hello\n" * 100,
        "long": b"POST /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "long-without-end": b"POST /callbacks/sms-dr?" + b"a" * 200_000,
        "long-with-blanks": b"POST /callbacks/sms-dr?a=" + b"b " * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "request-in-target": b"POST " + hidden_in_target.replace(b"\r\n", b" ") + b"\r\n\r\n",
    }.items():
        yield _refused(f"line-{name}", data)
    yield Case("line-empty-ones-before", (b"\r\n" * 20_000 + sized(_FORM),), ANY_ANSWER)
    yield Case("line-bare-lf", (sized(_FORM).replace(b"\r\n", b"\n"),), ANY_ANSWER)


def _fields() -> Iterator[Case]:
    for name, lines in {
        "folded": (b"X: a\r\n b",),
        "folded-first": (b" X: a",),
        "no-colon": (b"X",),
        "no-name": (b": a",),
        "blank-in-name": (b"X Y: a",),
        "nul-in-name": (b"X\x00: a",),
        "nul-in-value": (b"X: \x00",),
        "bare-cr": (b"X: a\rY: b",),
        "not-ascii-name": ("é: a".encode(),),
        "one-megabyte": (b"X: " + b"a" * 1_000_000,),
        "ten-thousand": tuple(b"X-%d: a" % number for number in range(10_000)),
        "ten-thousand-equal": (b"X: a",) * 10_000,
        "long-name": (b"X" * 100_000 + b": a",),
        "two-hosts": (b"Host: other",),
    }.items():
        answers = ANY_ANSWER if name in ("two-hosts", "not-ascii-name") else REFUSED
        yield Case(f"field-{name}", (head(*lines, b"Content-Length: %d" % len(_FORM)) + _FORM,), answers)
    yield Case("field-no-host", (b"POST /callbacks/sms-dr HTTP/1.1\r\nContent-Length: 0\r\n\r\n",), ANY_ANSWER)
    yield Case("field-expect-nonsense", (sized(_FORM, b"Expect: the-unexpected"),), ANY_ANSWER)
    yield Case("field-expect-continue", (sized(_FORM, b"Expect: 100-continue"),), ANY_ANSWER, must_answer=True)
    yield Case("field-not-utf8", (sized(_FORM, b"X: \xff\xfe"),), ANY_ANSWER)
    yield Case("field-forwarded-nonsense", (sized(_FORM, b"X-Forwarded-For: ,,%00,::::,999.1.1.1"),), ANY_ANSWER)
    yield Case("field-cookie-bomb", (sized(_FORM, b"Cookie: " + b"a=b; " * 1500),), ANY_ANSWER)


def _targets() -> Iterator[Case]:
    """Path tricks: nothing but the configured paths is served, however they are written."""
    for number, target in enumerate(
        (
            b"/callbacks/../callbacks/sms-dr", b"/callbacks/%2e%2e/admin", b"//callbacks/sms-dr", b"/callbacks//sms-dr",
            b"/callbacks/sms-dr/../../etc/passwd", b"/callbacks/..%2f..%2f..%2fetc%2fpasswd", b"/callbacks/sms-dr%00",
            b"/callbacks/sms-dr%0d%0aSet-Cookie:x", b"/callbacks/%c0%ae%c0%ae/x", b"/callbacks/sms-dr;x=y",
            b"\\callbacks\\sms-dr", b"/callbacks/sms-dr%", b"/callbacks/%zz", b"/callbacks/sms-dr#x", b"*",
            b"/callbacks/" + b"a/" * 3000, b"/" + b"%2e%2e%2f" * 700, b"/callbacks/sms-dr?" + b"&" * 8000,
            b"/callbacks/sms-dr?" + b"a[" * 2000, b"/callbacks/sms-dr?messageid=%00&phone=%ff%fe", b"file:///etc/passwd",
            b"http://[::1", b"http://\xff/", b"http://a:b@c:99999/", b"/healthz", b"/metrics", b"/api/events", b"/",
        )
    ):  # fmt: skip
        yield Case(f"target-{number}", (head(b"Content-Length: 0", target=target),), REFUSED | {200})
    for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"HEAD", b"PATCH", b"CONNECT", b"PROPFIND"):
        # Three that the default configuration takes by POST alone, so that nothing is stored.
        data = head(b"Content-Length: 0", target=b"/callbacks/callbot-task", method=method)
        yield Case(f"method-{method.decode().lower()}", (data,), REFUSED)


def _other_protocols() -> Iterator[Case]:
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(range(256)) * 2
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"Upgrade: h2c")
    socket = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: YQ==")
    yield _refused("protocol-tls", hello)
    yield _refused("protocol-http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
    yield _refused("protocol-proxy", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + sized(_FORM))
    yield Case("protocol-h2c", (sized(_FORM, *upgrade),), ANY_ANSWER)
    yield Case("protocol-websocket", (head(*socket, method=b"GET") + b"\x81\x85abcdhello" + _HIDDEN[:0],), ANY_ANSWER)
    yield _refused("protocol-smtp", b"EHLO x\r\nMAIL FROM:<a@b>\r\n")
    yield _refused("protocol-redis", b"*1\r\n$4\r\nPING\r\n")


def _halves() -> Iterator[Case]:
    """Connections that are closed half-way, in the other direction only, or in the middle of something."""
    whole = sized(_FORM)
    yield Case("half-closed-behind-a-request", (whole,), frozenset({200}), ends=True)
    yield Case("half-closed-at-once", (), frozenset(), ends=True)
    yield Case("half-closed-in-the-line", (whole[:10],), REFUSED, ends=True)
    yield Case("half-closed-in-the-head", (whole[:40],), REFUSED, ends=True)
    yield Case("half-closed-in-the-body", (whole[:-5],), REFUSED, ends=True)
    chunked = head(b"Transfer-Encoding: chunked")
    yield Case("half-closed-in-a-chunk", (chunked + b"10\r\nabc",), REFUSED, ends=True)
    yield Case("half-closed-in-chunk-size", (chunked + b"1",), REFUSED, ends=True)
    yield Case(
        "byte-by-byte", tuple(whole[at : at + 1] for at in range(len(whole))), frozenset({200}), must_answer=True
    )
    yield Case("pipelined", (whole * 50,), frozenset({200}), must_answer=True)
    yield Case("pipelined-behind-garbage", (whole + b"\x00\x01garbage\r\n\r\n" + _HIDDEN,), ANY_ANSWER)
