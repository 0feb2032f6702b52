"""Read the answer to one webhook from the bytes of its connection; no I/O.

The status line decides (RFC 9110, section 15). A flaw behind it, such as a header that is too long, a length that is
given twice or a broken chunk, does not change what the subscriber said; it only ends the connection. So a complete
status line is kept as soon as it is there, and everything behind it serves three purposes: the ``Retry-After`` header,
the first bytes of a refusal for people, and whether the connection can carry another request.

A parser made for user agents refuses such an answer as a whole, and the event would be sent again although it was
taken. That is why aiohttp's parser is not used here.

Bounds. Interim answers (1xx) are read over, :data:`MAX_INTERIM` of them. Interim answers and the head together have at
most :data:`MAX_HEAD_BYTES`, a status line :data:`_MAX_LINE` bytes, a body with its framing :data:`MAX_RESPONSE_BYTES`.
What is longer ends the reading: with the status if there is one, otherwise as :class:`NotHttp`. Time is bounded by the
caller, who may call :meth:`HttpAnswer.conclude` at any moment.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.fanout.attempt import HEAD_BYTES

#: Servers send one or two (100 Continue, 103 Early Hints). Ten times more is a peer that does not want to answer.
MAX_INTERIM: Final = 16
#: aiohttp and nginx take heads of 8 to 32 KiB. Ten times more is memory that a subscriber could claim per connection.
MAX_HEAD_BYTES: Final = 64 * 1024
#: More than this is not an answer to a webhook; the connection is closed instead of read on.
MAX_RESPONSE_BYTES: Final = 16 * 1024
#: Of a status line, its reason included.
_MAX_LINE: Final = 8 * 1024
#: Of a reason phrase; longer ones are cut.
_MAX_REASON: Final = 100
#: Of the line before a chunk, its extensions included.
_MAX_CHUNK_LINE: Final = 1024

_NAME: Final = b"HTTP/"
_STATUS_LINE: Final = re.compile(rb"(?:\r?\n)*HTTP/(\d)(?:\.(\d))?[ \t]+(\d{3})(?:[ \t]([^\n]*)|\r*)\n", re.IGNORECASE)
_HEAD_END: Final = re.compile(rb"\n\r?\n")
#: With the line end before it, which the search looks for: half the time of ``^``.
_HEADER: Final = re.compile(
    rb"\n(content-length|transfer-encoding|connection|retry-after)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE
)
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,7})[ \t]*(?:;.*)?")
#: Neither has a body, whatever its headers say (RFC 9112, section 6.3).
_WITHOUT_BODY: Final = frozenset({204, 304})
#: Of a length.
_MAX_DIGITS: Final = 15


class NotHttp(ValueError):
    """The peer said something that has no status. The message is one sentence."""


class HttpAnswer:
    """One answer, as far as it has come.

    ``status`` is 0 until a whole status line of a final answer is here. ``is_complete`` says that nothing more is
    wanted; ``is_reusable``, once complete, that the connection may carry the next request.
    """

    __slots__ = (
        "_buffer",
        "_interim",
        "_is_chunked",
        "_is_in_body",
        "_is_in_trailer",
        "_is_old",
        "_left",
        "_reason",
        "_seen",
        "body",
        "fields",
        "is_complete",
        "is_reusable",
        "retry_after",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self._reason = b""
        self.retry_after: str | None = None
        #: The first bytes of the body, at most :data:`~gateway.fanout.attempt.HEAD_BYTES`.
        self.body = b""
        #: The header lines, as they came; empty until the head is whole.
        self.fields = b""
        self.is_complete = False
        self.is_reusable = False
        self._buffer = b""
        self._interim = 0
        self._seen = 0
        self._is_old = False  # before HTTP/1.1
        self._is_in_body = self._is_chunked = self._is_in_trailer = False
        self._left = -1  # bytes of the body, or of its chunk; -1: until the connection closes, or a chunk's line is due

    @property
    def is_success(self) -> bool:
        """Whether the subscriber answered 2xx."""
        return 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """The phrase of the status line, cut; empty where it could not be shown to people, or logged."""
        reason = self._reason[:_MAX_REASON].decode("utf-8", "replace").strip()
        return reason if reason.isprintable() else ""

    def feed(self, data: bytes) -> None:
        """Process bytes from the connection, split anywhere.

        Raises:
            NotHttp: this can never become an answer.
        """
        # A segment may be larger than the wanted part, and parsing the other bytes would only cost time.
        data = data[: (MAX_RESPONSE_BYTES if self._is_in_body else MAX_HEAD_BYTES) + 1 - self._seen]
        self._seen += len(data)
        if self._is_in_body:
            self._feed_body(data)
            return
        searched = len(self._buffer)
        self._buffer = self._buffer + data if searched else data
        while self._feed_head(searched):
            searched = 0

    def conclude(self) -> None:
        """End the answer as it is: the connection closed, the time is up, or a limit is reached. May be repeated."""
        if self.status and not self._is_in_body and not self.is_complete:
            self._read_fields(self._buffer[: self._buffer.rfind(b"\n") + 1])  # a line that is cut says nothing
        self.is_complete = True
        self.is_reusable = False
        self._buffer = b""

    # -- the head -----------------------------------------------------------------------------------------------

    def _feed_head(self, searched: int) -> bool:
        """Read one head from the buffer; whether another may follow, as an interim answer was read over."""
        if not self.status:
            if not self._read_status_line():
                return False
            searched = 0
        found = _HEAD_END.search(self._buffer, max(0, searched - 2))
        if found is None:
            if self._seen > MAX_HEAD_BYTES:
                self._too_long()
            return False
        fields, rest = self._buffer[: found.start() + 1], self._buffer[found.end() :]
        if not self.status:
            self._buffer = rest
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._too_long()
            return bool(rest)
        self._buffer = b""
        rest = rest[: MAX_RESPONSE_BYTES + 1]
        self._seen = len(rest)
        self._is_in_body = True
        self._read_fields(fields)
        self._begin_body(rest)
        return False

    def _read_status_line(self) -> bool:
        """Find the status line; whether the head's end may be looked for. The line end stays in the buffer."""
        line = _STATUS_LINE.match(self._buffer, 0, _MAX_LINE)
        if line is None:
            start = self._buffer[: _MAX_LINE + 1].lstrip(b"\r\n")
            if not _NAME.startswith(start[:5].upper()) or b"\n" in start or len(self._buffer) > _MAX_LINE:
                raise NotHttp("the answer is not HTTP: it does not begin with a status line")
            return False
        status = int(line[3])
        if status < 100:
            raise NotHttp(f"the answer is not HTTP: its status is {status}")
        if status < 200 and status != 101:
            return True
        self.status = status
        self._reason = line[4] or b""
        self._is_old = line[1] == b"0" or (line[1] == b"1" and line[2] in {None, b"0"})
        self._buffer = self._buffer[line.end() - 1 :]
        return True

    def _too_long(self) -> None:
        if not self.status:
            raise NotHttp(f"more than {MAX_INTERIM} interim answers (1xx), or more than {MAX_HEAD_BYTES} bytes of them")
        self.conclude()

    def _read_fields(self, fields: bytes) -> None:
        """Read the headers that matter: how the body is framed, whether the connection may stay, when to come back.

        Args:
            fields: their lines, with the line end of the status line before them.
        """
        self.fields = fields
        lengths = coding = connection = b""
        for name, value in _HEADER.findall(fields):
            match name.lower():
                case b"content-length":
                    lengths += b"," + value
                case b"transfer-encoding":
                    coding += b"," + value
                case b"connection":
                    connection += b"," + value.lower()
                case _:
                    self.retry_after = value.decode("latin-1").strip()
        self.is_reusable = b"keep-alive" in connection if self._is_old else b"close" not in connection
        if self.status in _WITHOUT_BODY:
            self._left = 0
            # A receiver that announces a body may send it.
            self.is_reusable &= self.status == 304 or (not coding and lengths in (b"", b",0"))
        elif coding:
            self._is_chunked = coding[1:].strip().lower() == b"chunked"
            self.is_reusable &= self._is_chunked and not lengths
        else:
            self._read_lengths(lengths[1:])

    def _read_lengths(self, text: bytes) -> None:
        """Read the length of the body; the same length twice is accepted, too, but is a flaw."""
        if text.isdigit() and len(text) <= _MAX_DIGITS:  # the hot path
            self._left = int(text)
            return
        values = {value.strip() for value in text.split(b",")}
        length = values.pop()
        if values or not length.isdigit() or len(length) > _MAX_DIGITS:
            self.is_reusable = False
        else:
            self._left = int(length)
            self.is_reusable &= b"," not in text

    # -- the body -----------------------------------------------------------------------------------------------

    def _begin_body(self, rest: bytes) -> None:
        if self._left > MAX_RESPONSE_BYTES:
            self.is_reusable = False
        if self.status == 101 or (self.is_success and not self.is_reusable):
            self.conclude()
        elif self._left == 0:
            self._end_body(rest)
        elif rest:
            self._feed_body(rest)

    def _feed_body(self, data: bytes) -> None:
        if self._is_chunked:
            self._feed_chunks(self._buffer + data)
        elif self._left < 0:
            self._keep(data)
        else:
            taken = data[: self._left]
            self._keep(taken)
            self._left -= len(taken)
            if self._left == 0:
                self._end_body(data[len(taken) :])
        is_enough = len(self.body) == HEAD_BYTES and not self.is_reusable
        if not self.is_complete and (is_enough or self._seen > MAX_RESPONSE_BYTES):
            self.conclude()

    def _feed_chunks(self, data: bytes) -> None:
        at = 0
        while not self.is_complete:
            if self._left > 0:
                part = data[at : at + self._left]
                self._keep(part)
                at += len(part)
                self._left -= len(part)
                if not part:
                    break
                continue
            end = data.find(b"\n", at)
            if end < 0:
                break
            line, at = data[at:end].rstrip(b"\r"), end + 1
            self._take_chunk_line(line)
        self._buffer = data[at:]
        if self.is_complete:
            self.is_reusable &= not self._buffer
        elif self._left <= 0 and len(self._buffer) > _MAX_CHUNK_LINE:
            self.conclude()

    def _take_chunk_line(self, line: bytes) -> None:
        """Process the line before a chunk, the empty one behind it (``_left`` is 0 then), or one of the trailer."""
        if self._is_in_trailer:
            self.is_complete = not line
        elif self._left == 0:
            if line:
                self.conclude()
            self._left = -1
        elif size := _CHUNK_SIZE.fullmatch(line):
            self._left = int(size[1], 16)
            if self._left == 0:
                self._is_in_trailer = True
        else:
            self.conclude()

    def _end_body(self, rest: bytes) -> None:
        self.is_complete = True
        self.is_reusable &= not rest

    def _keep(self, data: bytes) -> None:
        if len(self.body) < HEAD_BYTES:
            self.body += data[: HEAD_BYTES - len(self.body)]
