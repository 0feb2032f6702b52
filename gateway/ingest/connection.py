"""One connection: aiohttp's own request handler, plus four things the platform and the internet ask for.

* Request lines with raw blanks are mended before the parser sees them (:mod:`gateway.ingest.request_line`). For that
  the first line of a request is held back until it is whole; it is bounded like every other line. Empty lines before
  it are dropped (RFC 9112, section 2.2).
* The parser is given one request at a time. It drops what it has read from a segment when something behind it is
  malformed, and what follows a request to upgrade; a whole request must not suffer for its neighbours. Requests to
  upgrade are answered as if they were none, as nothing is spoken here but HTTP/1 (RFC 9110, section 7.8).
* A request whose head does not arrive whole in time closes the connection. aiohttp only has the keep-alive time,
  which must be much longer.
* What aiohttp's parser refuses is answered in one line and counted, not logged with a stack trace: it is the
  internet's noise. So are bodies that cannot be read to their end and senders that go away.
* A sender that closes its side behind a request is answered; aiohttp would close without a word.

Invariants. Bytes reach the parser in the order they came. Only bytes of a first line are ever changed, and only where
the parser says that a request begins: the payload of the one before it is at its end. Where segments are cut is a guess
by ``Content-Length`` (:func:`_body_length`); a wrong one changes nothing, as a parser takes bytes in any pieces.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.web_request import BaseRequest

from gateway.connections import LimitedHandler
from gateway.ingest.request_line import mended
from gateway.telemetry.metrics import METRICS

_REFUSED: Final = METRICS.counter("gateway_http_refused")
#: As aiohttp's own limit on a line.
_MAX_LINE: Final = 8190
#: The end of a longer head is not looked for. Each piece of one looks at the ones before it again.
_MAX_HEAD: Final = 32 * 1024


_LENGTH: Final = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


def _body_length(head: bytes) -> int | None:
    """Return the bytes of the body that a head announces; None where that takes a parser."""
    lengths = _LENGTH.findall(head)
    if len(lengths) > 1 or b"transfer-encoding" in head.lower():
        return None
    return int(lengths[0]) if lengths else 0


class Connection(LimitedHandler):
    """See the module."""

    __slots__ = ("_body", "_head", "_head_timeout_s", "_head_timer", "_held", "_is_in_head", "_left", "_waiting")

    def __init__(self, manager: web.Server, *, head_timeout_s: float, **settings: Any) -> None:  # type: ignore[type-arg,unused-ignore]
        super().__init__(manager, **settings)
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._held = b""
        self._is_in_head = False
        self._head: bytes | None = None  # of the request that comes, as far as it has; None: its end is not looked for
        self._waiting = b""  # behind more requests than aiohttp queues
        self._left = 0  # bytes of this request that have not come, as far as is known
        self._body: StreamReader | None = None

    @property
    def has_request(self) -> bool:
        """A request that is here with its whole body, and has no answer yet."""
        return super().has_request and (self._body is None or self._body.is_eof())

    @property
    def is_silent(self) -> bool:
        """Not a byte has come."""
        return self._request_count == 0 and not self._held and not self._is_in_head

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket, split anywhere; none, from aiohttp itself, when it goes on with what it has."""
        data, self._waiting = self._waiting + data, b""
        if not data:
            self._feed(data)
        while data and not self._close and not self._force_close:
            if len(self._messages) >= self._max_msg_queue_size:
                self._waiting = data  # the socket is not read until requests were answered
                return
            if not self._is_in_head and (self._body is None or self._body.is_eof()):
                data = (self._held + data).lstrip(b"\r\n")
                if b"\n" not in data and len(data) <= _MAX_LINE:
                    self._held = data
                    if data:
                        self._watch_head()
                    return
                self._held = b""
                self._is_in_head = True
                self._head = b""
                data = mended(data)
            if self._is_in_head:
                self._left = self._seen_to_end(data)
            end = self._left if self._left > 0 else len(data)
            self._left = max(0, self._left - len(data))
            piece, data = data[:end], data[end:]
            data = self._feed(piece) + data

    def _seen_to_end(self, data: bytes) -> int:
        """Return where in ``data``, or how far behind it, the request ends; 0 where that is not known, or not yet."""
        if self._head is None:
            return 0
        before, head = len(self._head), self._head + data
        end = head.find(b"\r\n\r\n", max(0, before - 3))
        if end < 0:
            self._head = head if len(head) <= _MAX_HEAD else None
            return 0
        length = _body_length(head[: end + 2])
        self._head = None
        return 0 if length is None else end + 4 + length - before

    def _feed(self, piece: bytes) -> bytes:
        """Give a piece of a request to the parser; bytes that it put aside for another protocol come back."""
        parsed = self._request_count
        super().data_received(piece)
        if self._request_count != parsed:
            self._is_in_head = False
            self._body = self._messages[-1][1] if self._messages else None
            self._unwatch_head()
        elif self._is_in_head:
            self._watch_head()
        tail = b""
        if self._upgraded and self._parser is not None:
            self._upgraded = False
            self._parser.set_upgraded(False)
            tail, self._message_tail = self._message_tail, b""
        return tail

    def _watch_head(self) -> None:
        if self._head_timer is None and self._head_timeout_s:
            self._head_timer = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def _unwatch_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        _REFUSED.labels("timeout").inc()
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.force_close()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp leaves asyncio's choice out
        """The other side has sent all it will. What it sent whole is still answered; the connection ends with that."""
        is_waiting = self._waiter is not None and not self._waiter.done()
        if is_waiting or self._body is None or not self._body.is_eof():
            return False
        self.close()
        return True

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A bug of ours. What a sender did, such as to go away or to send a body that cannot be read, is none."""
        if isinstance(kw.get("exc_info"), (ConnectionError, web.RequestPayloadError)):
            return
        super().log_exception(*args, **kw)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The other side went away, or we closed."""
        self._unwatch_head()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the parser refused (400), or a bug of ours (500): only the second is worth a stack trace."""
        if status >= 500:
            self.log_exception("a request could not be handled", exc_info=exc)
        else:
            _REFUSED.labels("malformed").inc()
        response = web.Response(status=status, text="error", headers={"Server": "gateway"})
        response.force_close()
        return response
