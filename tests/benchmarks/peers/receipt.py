"""The event that each side written by hand in Python makes of a receipt: an envelope and named fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import orjson

TOPIC = "peers.by-hand"
PATH = "/callbacks/sms-dr"


def decode(body: bytes) -> tuple[bytes, bytes]:
    """Return the key and the value of the record for a form body.

    Raises:
        KeyError: a field is missing.
        ValueError: the body is no text, or a field is no number.
    """
    return event(dict(parse_qsl(body.decode())))


def event(form: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return the key and the value of the record for a decoded form.

    Raises:
        KeyError: a field is missing.
        ValueError: a field is no number.
    """
    message_id = form["messageid"]
    made = {
        "specversion": "1.0",
        "id": message_id,
        "source": "/by-hand/sms-dr",
        "type": "sms.dr",
        "subject": message_id,
        "time": datetime.now(UTC),
        "datacontenttype": "application/json",
        "data": {
            "channel": "sms",
            "message_id": message_id,
            "to": "+" + form["phone"],
            "status_code": form["status"],
            "delivered": form["status"] == "2",
            "result": form["result"],
            "segments": int(form["size"]),
            "sent_at": form["sendtime"],
            "done_at": form["drtime"],
            "ext": form.get("ext"),
            "price": {"unit": form["price"], "currency": form["currency"], "rate_to_cny": form["rate"]},
        },
    }
    return message_id.encode(), orjson.dumps(made)
