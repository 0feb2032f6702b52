"""One request of the platform as it goes over the wire, before it is signed for a path."""

from __future__ import annotations

from dataclasses import dataclass

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class TrafficRequest:
    """What is sent, byte for byte.

    Args:
        callback: name of the callback it belongs to.
        query: raw bytes behind ``?``; blanks and letters beyond ASCII may stand in it unescaped, as the platform does.
        content_type: None sends no such header.
        body: the body's bytes; empty where all fields are in the query.
        action: of the general signature; says what a DID callback holds.
        biz_type: of the general signature.
    """

    callback: str
    query: bytes = b""
    content_type: str | None = None
    body: bytes = b""
    action: str = ""
    biz_type: str = ""
