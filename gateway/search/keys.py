"""What an event can be found by, and what a typed text can mean. Pure.

Texts are compared without case. A phone number is found by all its digits and, as people leave out country codes
and write zeros before national numbers, by its last digits: the last :data:`TAIL` of them are a key of their own, and
the rest of what was typed is checked on the event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.log import Record

#: Fields of ``data`` that name things; the platform's own names for them are all in there.
ID_FIELDS: Final = (
    "message_id",
    "parent_message_id",
    "platform_message_id",
    "call_id",
    "vos_call_id",
    "task_id",
    "external_task_id",
    "order_id",
    "request_id",
    "batch_id",
    "record_id",
)
#: Fields of ``data`` that hold phone numbers.
PHONE_FIELDS: Final = ("to", "from", "phone", "number", "business_phone", "show_phone", "effective_called_number")
#: Digits that are enough to look for; eight tell numbers of one country apart well enough for an index.
TAIL: Final = 8
#: Longer texts are no ids.
_MAX_TEXT: Final = 200
#: Of a field with a list of numbers or ids.
_MAX_ITEMS: Final = 50
_NOT_DIGITS: Final = re.compile(r"[\s()./-]+")
_PHONE: Final = re.compile(r"^\+?[0-9]{6,20}$")


def keys_of(record: Record) -> set[str]:
    """Everything one event can be found by; an event that is not JSON has its id, key and topic."""
    found = {record.id, record.key.casefold()[:_MAX_TEXT], f"topic:{record.topic}"}
    event = parsed(record.value)
    subject = event.get("subject")
    if isinstance(subject, str):
        found.add(subject.casefold()[:_MAX_TEXT])
    found.add(f"type:{event.get('type')}")
    found.add(f"callback:{callback_of(event)}")
    data = event.get("data")
    if isinstance(data, dict):
        for text in _texts(data, ID_FIELDS):
            found.add(text.casefold())
        for text in _texts(data, PHONE_FIELDS):
            digits = digits_of(text)
            if digits:
                found.add(f"+{digits}")
                found.add(f"~{digits[-TAIL:]}")
    found.discard("")
    return found


def asked(text: str) -> list[str]:
    """The keys to look for, given what a person typed; the first is the likeliest."""
    plain = text.strip().casefold()[:_MAX_TEXT]
    if not plain:
        return []
    digits = digits_of(plain)
    if not digits:
        return [plain]
    return [plain, f"+{digits}", f"~{digits.lstrip('0')[-TAIL:]}"]


def matches(record: Record, text: str) -> bool:
    """Whether this is what was typed: keys are hashed in the index, and a tail of digits is not the number."""
    plain = text.strip().casefold()
    found = keys_of(record)
    if plain in found:
        return True
    digits = digits_of(plain).lstrip("0")
    return bool(digits) and any(key.startswith("+") and key.endswith(digits) for key in found)


def digits_of(text: str) -> str:
    """The digits of a phone number however it is written; empty when it is none."""
    compact = _NOT_DIGITS.sub("", text)
    if not _PHONE.match(compact):
        return ""
    digits = compact.lstrip("+")
    return digits.removeprefix("00") if compact.startswith("00") else digits


def callback_of(event: Mapping[str, Any]) -> str:
    """Name of the callback an event came by."""
    return str(event.get("source", "")).rpartition("/")[2]


def parsed(value: bytes) -> dict[str, Any]:
    """The event as a dictionary; empty when it is none."""
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _texts(data: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[str]:
    for field in fields:
        value = data.get(field)
        if value is None:
            continue
        for item in value[:_MAX_ITEMS] if isinstance(value, list) else (value,):
            text = str(item) if isinstance(item, (str, int)) else ""
            if 0 < len(text) <= _MAX_TEXT:
                yield text
