"""One callback as it came over the wire, free of any HTTP library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple


class CallbackRequest(NamedTuple):
    """What a decoder may look at: bytes and arrival time, nothing that blocks. (A tuple, as one is made for each
    request: a frozen dataclass takes three times as long.)

    Args:
        method: ``POST`` or ``GET``.
        path: the request's path as received, without the query.
        query: raw bytes after ``?``, still percent-encoded; blanks and non-ASCII bytes may be escaped or not.
        headers: names in lower case; of a repeated header the values are joined with ``, ``.
        body: the body's bytes, decompressed, at most ``ingest.max_body_bytes``.
        received_at: arrival, timezone-aware UTC.
        peer: the caller's address after trusted proxies, such as ``203.0.113.7``; empty when not known.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    peer: str = ""


def signed_part(request: CallbackRequest, signed_headers: Iterable[str]) -> CallbackRequest:
    """Return what a signature over the body and these headers covers, and nothing else of the request.

    Method, path, query, the other headers and the address are replaced by constants, so a decoder that is given the
    result cannot depend on bytes that were not authenticated.

    Args:
        request: as received.
        signed_headers: names in lower case; a header that is missing is left out.
    """
    received = request.headers
    headers = {name: received[name].strip(" \t") for name in signed_headers if name in received}
    return CallbackRequest("POST", "", b"", headers, request.body, request.received_at)
