"""One callback as received, independent of any HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple


class CallbackRequest(NamedTuple):
    """The input of a decoder: bytes and time of arrival, nothing that blocks.

    It is a tuple, because one is created for each request: a frozen dataclass takes three times as long.

    Args:
        method: ``POST`` or ``GET``.
        path: path as received, without the query.
        query: raw bytes after ``?``, percent-encoded; spaces and non-ASCII bytes may be raw.
        headers: names in lower case; the values of a repeated header are joined with ``, ``.
        body: decompressed bytes of the body, at most ``ingest.max_body_bytes``.
        received_at: time of arrival, timezone-aware UTC.
        peer: the caller's address behind trusted proxies, such as ``203.0.113.7``; empty if not known.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    peer: str = ""


def signed_part(request: CallbackRequest, signed_headers: Iterable[str]) -> CallbackRequest:
    """Return the part of a request that a signature over its body and some headers covers.

    Method, path, query, the other headers and the address are replaced by constants, so a decoder of the result cannot
    depend on unauthenticated bytes.

    Args:
        request: as received.
        signed_headers: names in lower case; missing headers are omitted.
    """
    received = request.headers
    headers = {name: received[name].strip(" \t") for name in signed_headers if name in received}
    return CallbackRequest("POST", "", b"", headers, request.body, request.received_at)
