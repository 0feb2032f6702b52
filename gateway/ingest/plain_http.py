"""Plain HTTP: read the head of a plain POST, and write its answer. aiohttp processes all other requests.

Every HTTP parser reads a plain head in the same way. A head that two parsers could read differently, as in request
smuggling, is not plain; it is not refused here, but passed to aiohttp. A head is plain if it has exactly this form:

* ``POST /path?query HTTP/1.1`` with single spaces, the path without ``%``. Raw spaces and non-ASCII characters of the
  target are escaped first (:func:`mended`), as on the ordinary path;
* lines ``Name: value`` with one space and CRLF: the name is a token; the value is not empty, has no spaces at its ends,
  and only visible ASCII and spaces. So there is no line folding, bare CR or LF, NUL, tab, space before the colon, or
  character that two parsers could decode differently;
* no name twice; ``Host`` and ``Content-Length`` are present, and the length has a few digits;
* no header that changes how the body or the connection is read; ``Connection`` is ``keep-alive``, ``close`` or absent.

The vendor documents targets with raw spaces for older accounts (``…&drtime=2021-02-26 10:01:15&…``: pages "SMS Delivery
Receipt Callback", "Voice Receipt Callback", "OTA API callback"), and Java's ``HttpURLConnection`` sends spaces and
non-ASCII characters of a URL raw. RFC 9112 section 3.2 allows a server to refuse them, and aiohttp's parser does; a
receipt that is sent once would be lost.

Only a request line that is otherwise well-formed is changed: a method, one space, a target that starts with ``/``, one
space, a version at the end of the line. ``http://`` and a plain host may precede the ``/``, as proxies send it (RFC
9112 section 3.2.2); only the part behind them is escaped. A target that contains a version (``/a HTTP/1.1 HTTP/1.1``)
is ambiguous, as in request smuggling; it stays unchanged, and the parser refuses it.

Sources: RFC 9112 sections 3, 5, 6 and 11.2; RFC 9110 section 5.6.2 (token).
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

from gateway.callbacks.answers import Answer
from gateway.ingest.endpoints import Endpoint, Endpoints

#: Bytes; aiohttp reads longer heads. With ten times more a sender could fill the cache; callbacks have 300 bytes.
MOST_HEAD_BYTES: Final = 4096
#: Cached heads, at most 4 MiB. The heads of one sender differ only in the length.
_REMEMBERED: Final = 1024
#: Part of the names of headers with the platform's signatures. Signed heads are not cached: each is different.
_SIGNATURE: Final = "sign"
#: The same limit as aiohttp's; callbacks have far fewer.
_MOST_HEADERS: Final = 64
#: Digits of ``Content-Length``; every body of the fast path has fewer.
_MOST_DIGITS: Final = 7

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: RFC 3986's characters of paths and queries, without ``%`` in the path.
_TARGET: Final = re.compile(r"(/[0-9A-Za-z\-._~!$&'()*+,;=:@/]*)(?:\?([0-9A-Za-z\-._~!$&'()*+,;=:@/?%]*))?")
#: Headers that change how body or connection are read (llhttp reads ``Proxy-Connection`` as ``Connection``).
_NOT_PLAIN: Final = frozenset(
    {"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te", "proxy-connection"}
)
_IS_LAST: Final = {"keep-alive": False, "close": True}
_HOST: Final = rb"https?://(?:[0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{3,7}) ((?:" + _HOST + rb")?/[^\r\n]*) (HTTP/1\.[01])\r?\n")
_RAW: Final = re.compile(rb"[ \x80-\xff]")
_VERSION_INSIDE: Final = re.compile(rb" HTTP/\d", re.IGNORECASE)
#: Constant answers: a few words of success, each with and without ``Connection: close``.
_MOST_PREPARED: Final = 64
_CLOSE: Final = "Connection: close\r\n"


class PlainHead(NamedTuple):
    """Content of a plain head.

    Args:
        endpoint: row of the path.
        path: without the query.
        query: the part after ``?``, as received or escaped.
        headers: names in lower case. All requests with this head share the dictionary: do not change it.
        length: length of the body, bytes.
        is_last: the sender asks to close the connection after the answer.
    """

    endpoint: Endpoint
    path: str
    query: bytes
    headers: dict[str, str]
    length: int
    is_last: bool


class PlainHeads:
    """Reads heads, and caches plain ones.

    Args:
        endpoints: the known paths; a head with another path is not plain.
        most_body: largest body of a plain request, bytes.
    """

    def __init__(self, endpoints: Endpoints, most_body: int) -> None:
        self._endpoints = endpoints
        self._most_body = most_body
        self._read: dict[bytes, PlainHead] = {}
        self._names: dict[str, str] = {}

    def read(self, head: bytes) -> PlainHead | None:
        """Return the content of a head, or None if it is not plain.

        Args:
            head: without the empty line at its end.
        """
        found = self._read.get(head)
        if found is None:
            found = self._parsed(head)
            if found is not None and _SIGNATURE not in found.headers and found.endpoint.credentials.signature is None:
                if len(self._read) >= _REMEMBERED:
                    self._read.clear()
                self._read[head] = found
        return found

    def _parsed(self, head: bytes) -> PlainHead | None:
        if len(head) > MOST_HEAD_BYTES:
            return None
        head = mended(head)
        if not head.isascii():
            return None
        text = head.decode("ascii")
        first, *lines = text.split("\r\n")
        method, _, rest = first.partition(" ")
        target, _, version = rest.partition(" ")
        found = _TARGET.fullmatch(target)
        if found is None or method != "POST" or version != "HTTP/1.1":
            return None
        headers = self._headers(lines)
        if headers is None:
            return None
        endpoint = self._endpoints.find(found[1])
        if endpoint is None or "POST" not in endpoint.callback.methods:
            return None
        length, is_last = headers["content-length"], _IS_LAST.get(headers.get("connection", "keep-alive").lower())
        if is_last is None or not length.isdigit() or len(length) > _MOST_DIGITS or int(length) > self._most_body:
            return None
        return PlainHead(endpoint, found[1], (found[2] or "").encode(), headers, int(length), is_last)

    def _headers(self, lines: list[str]) -> dict[str, str] | None:
        if len(lines) > _MOST_HEADERS or not "".join(lines).isprintable():
            return None
        names = self._names
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            lower = names.get(name) or self._name(name)
            if not lower or not value or value[0] == " " or value[-1] == " ":
                return None
            headers[lower] = value
        if len(headers) != len(lines) or "content-length" not in headers or "host" not in headers:
            return None
        return headers if _NOT_PLAIN.isdisjoint(headers) else None

    def _name(self, name: str) -> str:
        """Return a header name in lower case; empty if it is not a token."""
        if _TOKEN.fullmatch(name) is None:
            return ""
        if len(self._names) < _REMEMBERED:
            self._names[name] = name.lower()
        return name.lower()


def mended(data: bytes) -> bytes:
    """Return ``data`` with its first line escaped; ``data`` itself if no change is needed or safe.

    Args:
        data: bytes from the beginning of a request, with at least the end of its first line.
    """
    end = data.find(b"\n")
    if end < 0 or (data.count(b" ", 0, end) == 2 and data[:end].isascii()):
        return data
    line = _REQUEST_LINE.match(data)
    if line is None:
        return data
    target = line[2]
    if _VERSION_INSIDE.search(target):
        return data
    escaped = _RAW.sub(lambda match: b"%%%02X" % match[0][0], target)
    return b"%b %b %b%b" % (line[1], escaped, line[3], data[line.end(3) :])


class ResponseWriter:
    """Serialises answers exactly as aiohttp would, constant ones once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._date = ""
        self._prepared: dict[tuple[int, bool], tuple[Answer, bytes]] = {}

    def answer(self, answer: Answer, *, is_last: bool) -> bytes:
        """Return status line, headers and body.

        Args:
            answer: cached if it has no headers of its own.
            is_last: add ``Connection: close``.
        """
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True)
            self._prepared.clear()
        if answer.headers:
            return self._made(answer, is_last)
        # Looked up by identity, as hashing an answer costs as much as writing it. The cache keeps the answer alive.
        prepared = self._prepared.get((id(answer), is_last))
        if prepared is None:
            prepared = (answer, self._made(answer, is_last))
            if len(self._prepared) < _MOST_PREPARED:
                self._prepared[id(answer), is_last] = prepared
        return prepared[1]

    def _made(self, answer: Answer, is_last: bool) -> bytes:
        more = "".join([f"{name}: {_one_line(value)}\r\n" for name, value in answer.headers])
        return (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\nServer: gateway\r\n{more}"
            f"Content-Length: {len(answer.body)}\r\nDate: {self._date}\r\n"
            f"{_CLOSE if is_last else ''}\r\n"
        ).encode() + answer.body


def _one_line(value: str) -> str:
    """Return a header value that cannot become two headers.

    Raises:
        ValueError: the value contains a line end or NUL.
    """
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError("a header value with a line end")
    return value
