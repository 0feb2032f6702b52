"""The head of a plain POST: the one kind of request that the fast path takes.

Everybody reads such a head the same way, and that is the point: what could be read in two ways (request smuggling
lives on it) is not plain, and not refused here either; it goes to aiohttp. Plain is, byte for byte:

* ``POST /path?query HTTP/1.1`` with single blanks, the path free of ``%``; raw blanks and letters of the target are
  mended first (:mod:`gateway.ingest.request_line`), as on the ordinary way;
* lines that end in CRLF and read ``Name: value`` with one blank: the name a token, the value not empty, without blanks
  at its ends, and nothing but visible ASCII and blanks. So no line folding, bare CR or LF, NUL, tab, blank before the
  colon, or letter that two readers could decode differently;
* no name twice, ``Host`` and ``Content-Length`` there, the length a few digits;
* none of the headers that change how the body or the connection is read; ``Connection`` says ``keep-alive`` or
  ``close``, or is not there.

Sources: RFC 9112 sections 3, 5, 6 and 11.2; RFC 9110 section 5.6.2 (token).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.ingest.endpoints import Endpoint, Endpoints
from gateway.ingest.request_line import mended

#: A longer head is aiohttp's. Ten times more and a sender could fill the memory of heads; callbacks have 300 bytes.
MOST_HEAD_BYTES: Final = 4096
#: Heads remembered, at most 4 MiB of them. A sender's head is the same each time but for the length.
_REMEMBERED: Final = 1024
#: Unless the platform signs (protocol.md, parts A and B), or the path asks for a signature of any kind: such a head
#: never comes again.
_SIGNATURE: Final = "sign"
#: As aiohttp's limit, and far above what senders of callbacks have.
_MOST_HEADERS: Final = 64
#: Seven digits are more than any body that is taken here has.
_MOST_DIGITS: Final = 7

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: RFC 3986's characters of paths and queries, without ``%`` in the path.
_TARGET: Final = re.compile(r"(/[0-9A-Za-z\-._~!$&'()*+,;=:@/]*)(?:\?([0-9A-Za-z\-._~!$&'()*+,;=:@/?%]*))?")
#: They change how body or connection are read (llhttp takes ``Proxy-Connection`` for ``Connection``).
_NOT_PLAIN: Final = frozenset(
    {"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer", "te", "proxy-connection"}
)
_IS_LAST: Final = {"keep-alive": False, "close": True}


class PlainHead(NamedTuple):
    """What a head says.

    Args:
        endpoint: the path's row.
        path: without the query.
        query: after ``?``, as received or mended.
        headers: names in lower case. Shared by all requests with this head: nobody may change it.
        length: bytes of the body.
        is_last: the sender wants the connection closed behind the answer.
    """

    endpoint: Endpoint
    path: str
    query: bytes
    headers: dict[str, str]
    length: int
    is_last: bool


class PlainHeads:
    """Reads heads, and remembers those that were plain.

    Args:
        endpoints: the paths; a path that is none of them is not plain.
        most_body: bytes; a longer body is not plain.
    """

    def __init__(self, endpoints: Endpoints, most_body: int) -> None:
        self._endpoints = endpoints
        self._most_body = most_body
        self._read: dict[bytes, PlainHead] = {}
        self._names: dict[str, str] = {}

    def read(self, head: bytes) -> PlainHead | None:
        """The meaning of a head, given without the empty line that ends it; None for one that is not plain."""
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
        """A header's name in lower case; empty for what is none."""
        if _TOKEN.fullmatch(name) is None:
            return ""
        if len(self._names) < _REMEMBERED:
            self._names[name] = name.lower()
        return name.lower()
