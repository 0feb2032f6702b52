"""One simulated request of the platform, before it is signed for a path."""

from __future__ import annotations

from dataclasses import dataclass

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class TrafficRequest:
    """A request, byte for byte.

    Args:
        callback: name of its callback.
        query: raw bytes after ``?``; spaces and non-ASCII characters may be raw, as the platform sends them.
        content_type: None sends no such header.
        body: bytes of the body; empty if all fields are in the query.
        action: action of the general signature, which is the kind of a DID callback.
        biz_type: business type of the general signature.
    """

    callback: str
    query: bytes = b""
    content_type: str | None = None
    body: bytes = b""
    action: str = ""
    biz_type: str = ""
