"""Events of the tests."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from gateway.log import Entry


def entry(
    subject: str, *, topic: str = "sms.dr", callback: str = "sms-dr", type_: str = "nxcloud.sms.dr", **data: Any
) -> Entry:
    """One event; the same subject and callback give the same id."""
    event_id = hashlib.blake2b(f"{callback}/{subject}".encode(), digest_size=16).hexdigest()
    event = {
        "id": event_id,
        "source": f"/nxcloud/{callback}",
        "type": type_,
        "subject": subject,
        "partitionkey": subject,
        "time": "2026-01-01T19:04:05.000000Z",
        "recordedtime": "2026-01-01T19:04:05.000000Z",
        "data": data,
    }
    return Entry(topic, subject, event_id, orjson.dumps(event))
