"""W3C Trace Context, section 3.2 (version 00): the only parser of ``traceparent``, and the trace of an event."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

NAME: Final = "traceparent"
_VALID: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")


def valid(value: str | None) -> str:
    """Return the value of a ``traceparent`` header; empty if it is missing or malformed."""
    return value if value is not None and _VALID.fullmatch(value) else ""


def caller(headers: Iterable[tuple[str, str]]) -> str:
    """Return the ``traceparent`` in the headers of an event; empty if it is missing or malformed."""
    for name, value in headers:
        if name == NAME:
            return valid(value)
    return ""


def trace_id(event_id: str) -> str:
    """Return the trace id of an event: a gateway's id is a trace id, and another producer's id is hashed."""
    if _TRACE_ID.fullmatch(event_id):
        return event_id
    return hashlib.blake2b(event_id.encode(errors="replace"), digest_size=16).hexdigest()
