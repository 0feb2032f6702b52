"""What an event can be found by, and what a typed text can mean. Pure.

Texts are compared without case. A phone number is found by all its digits and, as people leave out country codes
and write zeros before national numbers, by its last digits: the last :data:`TAIL` of them are a key of their own, and
the rest of what was typed is checked on the event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from gateway.log import Record

#: Fields of ``data`` that name things; the platform's own names for them are all in there.
_ID_FIELDS: Final = frozenset(
    {
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
    }
)
#: Fields of ``data`` that hold phone numbers.
_PHONE_FIELDS: Final = frozenset(
    {"to", "from", "phone", "number", "business_phone", "show_phone", "effective_called_number"}
)
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
    event = parsed(record.value)
    found = {record.id, record.key.casefold()[:_MAX_TEXT]}
    found.update(_kinds(record.topic, str(event.get("type")), str(event.get("source"))))
    subject = event.get("subject")
    if isinstance(subject, str):
        found.add(subject.casefold()[:_MAX_TEXT])
    data = event.get("data")
    if isinstance(data, dict):
        for field in _ID_FIELDS & data.keys():
            found.update(text.casefold() for text in _texts(data[field]))
        for field in _PHONE_FIELDS & data.keys():
            for digits in map(digits_of, _texts(data[field])):
                if digits:
                    found.add("+" + digits)
                    found.add("~" + digits[-TAIL:])
    found.discard("")
    return found


@lru_cache(maxsize=1024)
def _kinds(topic: str, type_: str, source: str) -> tuple[str, str, str]:
    return f"topic:{topic}", f"type:{type_}", f"callback:{source.rpartition('/')[2]}"


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
    if text[:1] == "+" and text[1:].isdigit() and text.isascii() and 6 < len(text) <= 21:
        return text[1:]  # as the gateway writes them
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


def _texts(value: Any) -> list[str]:
    """The texts of a field: itself, or those of a list; long ones are no ids."""
    if isinstance(value, str):
        return [value] if len(value) <= _MAX_TEXT else []
    items = value[:_MAX_ITEMS] if isinstance(value, list) else [value]
    return [str(item)[:_MAX_TEXT] for item in items if isinstance(item, (str, int))]
