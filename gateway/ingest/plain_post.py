"""Read the head of a plain POST: the only kind of request that the fast path processes.

Every HTTP parser reads such a head in the same way. A head that two parsers could read differently, as in request
smuggling, is not plain; it is not refused here, but passed to aiohttp. A head is plain if it has exactly this form:

* ``POST /path?query HTTP/1.1`` with single spaces, the path without ``%``. Raw spaces and non-ASCII characters of the
  target are escaped first (:mod:`gateway.ingest.request_line`), as on the ordinary path;
* lines ``Name: value`` with one space and CRLF: the name is a token; the value is not empty, has no spaces at its ends,
  and only visible ASCII and spaces. So there is no line folding, bare CR or LF, NUL, tab, space before the colon, or
  character that two parsers could decode differently;
* no name twice; ``Host`` and ``Content-Length`` are present, and the length has a few digits;
* no header that changes how the body or the connection is read; ``Connection`` is ``keep-alive``, ``close`` or absent.

Sources: RFC 9112 sections 3, 5, 6 and 11.2; RFC 9110 section 5.6.2 (token).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.ingest.endpoints import Endpoint, Endpoints
from gateway.ingest.request_line import mended

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
            if found is not None and _SIGNATURE not in found.headers and found.endpoint.signing is None:
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
