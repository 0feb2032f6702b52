"""One connection: aiohttp's request handler with five changes.

* Request lines with raw spaces are escaped before the parser reads them (:mod:`gateway.ingest.plain_http`). The first
  line of a request is held until it is complete; it has the same limit as every other line. Empty lines before it are
  dropped (RFC 9112, section 2.2).
* The parser receives one request at a time. The parser drops a request that it has read if the bytes behind it in the
  same segment are malformed, and it drops the bytes behind a request to upgrade. Requests to upgrade are answered as
  ordinary requests, because the server speaks HTTP/1 only (RFC 9110, section 7.8).
* A connection is closed if the head of a request is not complete in time. aiohttp has only the keep-alive time-out,
  which has to be much longer.
* Requests that aiohttp's parser refuses are answered in one line and counted, and not logged with a stack trace. The
  same applies to bodies that cannot be read to their end, and to senders that disconnect.
* A sender that closes its side after a request gets an answer; aiohttp would close the connection without one.

Invariants. Bytes reach the parser in the order of arrival. Only bytes of a first line are changed, and only where a
request begins: the payload of the previous request is at its end. Segments are cut by ``Content-Length``
(:func:`_body_length`); a wrong cut has no effect, because the parser accepts bytes in any pieces.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.web_request import BaseRequest

from gateway.connections import LimitedHandler
from gateway.ingest.plain_http import mended
from gateway.telemetry.metrics import METRICS

_REFUSED: Final = METRICS.counter("gateway_http_refused")
#: Bytes of a line; the same limit as aiohttp's.
_MAX_LINE: Final = 8190
#: Bytes of a head whose end is searched. Each piece causes another search of the pieces before it.
_MAX_HEAD: Final = 32 * 1024


_LENGTH: Final = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,15})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


def _body_length(head: bytes) -> int | None:
    """Return the body length that a head declares, in bytes; None if only a parser can read it."""
    lengths = _LENGTH.findall(head)
    if len(lengths) > 1 or b"transfer-encoding" in head.lower():
        return None
    return int(lengths[0]) if lengths else 0


class Connection(LimitedHandler):
    """Handle one connection; the module describes the changes to aiohttp's handler.

    Args:
        manager: aiohttp's server.
        head_timeout_s: time for the head of a request, seconds; 0 disables the limit.
        settings: keyword arguments of aiohttp's handler.
    """

    __slots__ = ("_body", "_head", "_head_timeout_s", "_head_timer", "_held", "_is_in_head", "_left", "_waiting")

    def __init__(self, manager: web.Server, *, head_timeout_s: float, **settings: Any) -> None:  # type: ignore[type-arg,unused-ignore]
        super().__init__(manager, **settings)
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._held = b""
        self._is_in_head = False
        self._head: bytes | None = None  # received part of the current head; None: its end is not searched
        self._waiting = b""  # bytes behind more requests than aiohttp queues
        self._left = 0  # missing bytes of this request, if known
        self._body: StreamReader | None = None

    @property
    def has_request(self) -> bool:
        """Whether a complete request has no answer yet."""
        return super().has_request and (self._body is None or self._body.is_eof())

    @property
    def is_silent(self) -> bool:
        """Whether no byte was received."""
        return self._request_count == 0 and not self._held and not self._is_in_head

    def data_received(self, data: bytes) -> None:
        """Process bytes from the socket, split anywhere. aiohttp itself calls it without bytes to continue."""
        data, self._waiting = self._waiting + data, b""
        if not data:
            self._feed(data)
        while data and not self._close and not self._force_close:
            if len(self._messages) >= self._max_msg_queue_size:
                self._waiting = data  # the socket is not read until requests are answered
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
        """Return the offset of the request's end, which may be behind ``data``; 0 if it is not known yet."""
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
        """Pass a piece of a request to the parser; return the bytes that it kept for another protocol."""
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
        """Handle the end of the peer's data: answer a complete request, then close the connection."""
        is_waiting = self._waiter is not None and not self._waiter.done()
        if is_waiting or self._body is None or not self._body.is_eof():
            return False
        self.close()
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the connection after either side has closed it."""
        self._unwatch_head()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer as the base class does, and count what the parser refused."""
        if status < 500:
            _REFUSED.labels("malformed").inc()
        return super().handle_error(request, status, exc, message)
