"""Request number n: its bytes, and the events that must come of it. Pure; the number alone decides."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

#: Each client has numbers and keys of its own and sends one request after the other: what makes an order of a key.
CLIENTS: Final = 12
_KEYS: Final = 10

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_MARK: Final = re.compile(rb"lp\.(\d{1,12})\.(\d{1,2})\.")

#: Configuration of the one callback that is not built in.
SHOP: Final = {"decoder": "json", "topic": "shop.order", "key": "$.order.id"}
TOPICS: Final = ("sms.dr", "shop.order", "message.status", "callbacks.rejected")


class Item(NamedTuple):
    """One event to come: the request's number and the event's place in it."""

    number: int
    place: int


class Expected(NamedTuple):
    """What is known of an event before it exists. ``key`` is empty where the gateway chooses it."""

    topic: str
    key: str


@dataclass(frozen=True, slots=True)
class Callback:
    """One request.

    Args:
        expected: its events, in order.
        status: the answer of success: 400 for what is kept as rejected.
    """

    number: int
    path: str
    content_type: str
    body: bytes
    expected: tuple[Expected, ...]
    status: int = 200


def callback(number: int) -> Callback:
    """The request with this number: receipts for the most part, orders, batches, and some that cannot be understood."""
    draw = zlib.crc32(b"%d" % number) % 100
    key = f"k{number % CLIENTS}-{number // CLIENTS % _KEYS}"
    if draw < 70:
        body = f"messageid={key}&phone=1555{number % 10**7:07d}&status=2&drtime=2024-01-02 03:04:09&ext={_mark(number)}"
        return Callback(number, "/callbacks/sms-dr", _FORM, body.encode(), (Expected("sms.dr", key),))
    if draw < 85:
        body_bytes = orjson.dumps({"order": {"id": key}, "mark": _mark(number)})
        return Callback(number, "/callbacks/shop", _JSON, body_bytes, (Expected("shop.order", key),))
    if draw < 95:
        return _batch(number, key)
    body = f"phone=1555{number % 10**7:07d}&status=2&ext={_mark(number)}"
    return Callback(number, "/callbacks/sms-dr", _FORM, body.encode(), (Expected("callbacks.rejected", ""),), 400)


def mark_of(value: bytes) -> Item | None:
    """Whose event these bytes are; None for what we never sent."""
    found = _MARK.search(value)
    return Item(int(found[1]), int(found[2])) if found else None


def _batch(number: int, key: str) -> Callback:
    """Three statuses in one push: three events, stored together or not at all."""
    statuses = [
        {"id": f"{key}-{place}", "status": "sent", "timestamp": "1704164649", "recipient_id": "15550000001",
         "biz_opaque_callback_data": _mark(number, place)}
        for place in range(3)
    ]  # fmt: skip
    expected = tuple(Expected("message.status", f"{key}-{place}") for place in range(3))
    return Callback(number, "/callbacks/whatsapp", _JSON, orjson.dumps({"statuses": statuses}), expected)


def _mark(number: int, place: int = 0) -> str:
    return f"lp.{number}.{place}."
