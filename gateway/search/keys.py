"""What an event can be found by, and what a typed text can mean. Pure.

Texts are compared without case. A phone number is found by its last digits, as people leave out country codes and
write zeros before national numbers: the last :data:`TAIL` of them are the key, and the rest of what was typed is
checked on the event.

Kinds (topic, type, callback) are apart from ids: thousands of events share one, so the index notes them by the block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from gateway.log import Record

#: Fields of ``data`` that name things; the platform's own names for them are all in there.
_ID_FIELDS: Final = (
    "message_id",
    "parent_message_id",
    "platform_message_id",
    "call_id",
    "task_id",
    "external_task_id",
    "contact_id",
    "journey_id",
    "bind_id",
    "external_bind_id",
    "to_user_id",
    "from_user_id",
    "order_id",
    "request_id",
    "batch_id",
    "record_id",
)
#: Fields of ``data`` that hold phone numbers.
_PHONE_FIELDS: Final = ("to", "from", "to_real", "phone", "business_phone")
#: Whether a field is a phone number; one look for each field there is costs half of a look for each that may be.
_IS_PHONE: Final = {**dict.fromkeys(_ID_FIELDS, False), **dict.fromkeys(_PHONE_FIELDS, True)}
#: Digits that are enough to look for; eight tell numbers of one country apart well enough for an index.
TAIL: Final = 8
#: Longer texts are no ids.
_MAX_TEXT: Final = 200
#: Of a field with a list of numbers or ids.
_MAX_ITEMS: Final = 50
_NOT_DIGITS: Final = re.compile(r"[\s()./-]+")
_PHONE: Final = re.compile(r"^\+?[0-9]{6,20}$")


class Keys(NamedTuple):
    """What one record can be found by.

    Args:
        ids: of this record, or of few.
        kinds: shared with many.
    """

    ids: set[str]
    kinds: tuple[str, ...] = ()


def keys_of(record: Record) -> Keys:
    """Everything one event can be found by; an event that is not JSON has its id, key and topic."""
    event = parsed(record.value)
    found = {record.id, record.key.casefold()[:_MAX_TEXT]}
    subject = event.get("subject")
    if type(subject) is str:
        found.add(subject.casefold()[:_MAX_TEXT])
    data = event.get("data")
    if type(data) is dict:
        for field in data:
            is_phone = _IS_PHONE.get(field)
            if is_phone is not None:
                for text in _texts(data[field]):
                    if not is_phone:
                        found.add(text.casefold())
                    elif digits := digits_of(text):
                        found.add("~" + digits[-TAIL:])
    found.discard("")
    return Keys(found, _kinds(record.topic, str(event.get("type")), str(event.get("source"))))


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
    return [plain, f"~{digits.lstrip('0')[-TAIL:]}"]


def matches(record: Record, text: str) -> bool:
    """Whether this is what was typed: keys are hashed in the index, and a tail of digits is not the number."""
    plain = text.strip().casefold()
    if plain[:1] != "~" and plain in keys_of(record).ids:
        return True
    digits = digits_of(plain).lstrip("0")
    data = parsed(record.value).get("data")
    if not digits or not isinstance(data, dict):
        return False
    phones = [text for field in _PHONE_FIELDS if field in data for text in _texts(data[field])]
    return any(digits_of(text).endswith(digits) for text in phones)


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
