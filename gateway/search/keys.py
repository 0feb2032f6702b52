"""What an event can be found by, and what a typed text can mean. Pure.

Texts are compared without case. A phone number is found by its last digits, as people leave out country codes and
write zeros before national numbers: the last :data:`TAIL` of them are the key, and the rest of what was typed is
checked on the event.

To parse an event costs twice what all the rest of indexing does. So of events that our tables describe, the few
members that are keys are looked for in the bytes: the tables say which a type can have, and that no other member has
such a name. What is not as expected there (a list, an escape, a number in an odd form) is parsed like everything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final
from zlib import crc32

import orjson
import structlog

from gateway.callbacks import CALLBACKS
from gateway.fanout import attempts
from gateway.log import Record
from gateway.search.run import Keys, Kind, hashed
from gateway.telemetry import redaction

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
#: Whether a field is a phone number.
_IS_PHONE: Final = {**dict.fromkeys(_ID_FIELDS, False), **dict.fromkeys(_PHONE_FIELDS, True)}
#: Digits that are enough to look for; eight tell numbers of one country apart well enough for an index.
TAIL: Final = 8
#: Longer texts are no ids.
_MAX_TEXT: Final = 200
#: Of a field with a list of numbers or ids.
_MAX_ITEMS: Final = 50
_NOT_DIGITS: Final = re.compile(r"[\s()./-]+")
_PHONE: Final = re.compile(r"^\+?[0-9]{6,20}$")


#: Where a head begins and ends in the bytes of an event of ours: source and type, which many events share.
_HEAD_AT: Final = len('{"specversion":"1.0","id":""') + 32
_HEAD_END: Final = b',"subject":"'

_log = structlog.get_logger("gateway.search")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do with events that begin alike.

    Args:
        head: source and type in the bytes of an event of ours; empty: it is none.
        members: to look for: ``"name":"``, its length, whether it is a phone number; None: parse the event.
    """

    head: bytes
    kind: Kind
    members: tuple[tuple[bytes, int, bool], ...] | None


def keys_of_events(records: Sequence[Record], first: int) -> Keys:
    """What events can be found by. One that cannot be understood keeps nobody out: it has its id and key.

    Args:
        first: what places count from.
    """
    _, offsets, _, topics, keys, ids, values, _ = zip(*records, strict=True)
    places = [offset - first for offset in offsets]
    hashes = [*map(crc32, map(str.encode, ids)), *map(crc32, map(str.encode, map(str.casefold, keys)))]
    of, kinds = places * 2, []
    plan = _Plan(b"", Kind(), None)
    for place, topic, value in zip(places, topics, values, strict=True):
        if topic != plan.kind.topic or not plan.head or not value.startswith(plan.head, _HEAD_AT):
            plan = _plan_of(topic, value)
        kinds.append(plan.kind)
        try:
            for one in _hashes(value, plan):
                hashes.append(one)
                of.append(place)
        except Exception as exc:
            _log.exception("search.no_keys", offset=first + place, error=redaction.fault(exc))
    return Keys(places, hashes, of, kinds)


def keys_of_attempts(records: Sequence[Record], first: int) -> Keys:
    """What records of attempts can be found by: the ids of the events."""
    found = [(hashed(text), record.offset - first) for record in records for text in attempts.event_ids(record)]
    return Keys([record.offset - first for record in records], [one for one, _ in found], [place for _, place in found])


def _hashes(value: bytes, plan: _Plan) -> list[int]:
    """Of what an event can be found by beside its id and key."""
    found: list[int] = []
    data = value.find(b"{", _HEAD_AT)
    for member, length, is_phone in plan.members or ():
        at = value.find(member, data) + length
        if at < length:
            continue
        text = value[at : value.find(b'"', at)]
        if is_phone and (digits := text.removeprefix(b"+")).isdigit() and digits[:2] != b"00":
            found.append(crc32(b"~" + digits[-TAIL:]))
        elif not is_phone and text.isascii() and b"\\" not in text:
            found.append(crc32(text.lower()))
        else:
            break
    else:
        if plan.members is not None:
            return found
    return list(map(hashed, _texts_of(_without_raw(value, data) if plan.head else parsed(value))))


def _without_raw(value: bytes, data: int) -> Mapping[str, Any]:
    """An event of ours with its data only: less than half of the work."""
    try:
        return {"data": orjson.loads(value[data : value.rfind(b',"raw":')] + b"}")}
    except orjson.JSONDecodeError:
        return parsed(value)


def _plan_of(topic: str, value: bytes) -> _Plan:
    end = value.find(_HEAD_END, _HEAD_AT) + len(_HEAD_END)
    return _known(topic, value[_HEAD_AT:end]) or _Plan(b"", _kind(topic, parsed(value)), None)


@lru_cache(maxsize=1024)
def _known(topic: str, head: bytes) -> _Plan | None:
    """The plan for events of ours with this head; None when it is no such head."""
    event = parsed(b'{"":""' + head.removesuffix(_HEAD_END) + b"}")
    if event.keys() != {"", "source", "type"}:
        return None
    names = _names().get(event["type"])
    if names is None:
        return _Plan(head, _kind(topic, event), None)
    members = tuple((b'"%s":"' % name.encode(), len(name) + 4, _IS_PHONE[name]) for name in sorted(names))
    return _Plan(head, _kind(topic, event), members)


@cache
def _names() -> Mapping[str, Set[str]]:
    """Members that are keys, by type of event, but for the id that is always the record's key.

    Without types in which one may be a list or stand further inside, or where a member has names that no table knows.
    """
    found: dict[str, set[str]] = {}
    odd: set[str] = set()
    for shape in (shape for callback in CALLBACKS.values() for shape in callback.shapes):
        members: Mapping[str, Any] = shape.schema()["properties"]
        text = orjson.dumps(members).decode()
        names = _IS_PHONE.keys() & members.keys()
        is_plain = all(members[name]["type"] == "string" and text.count(f'"{name}":{{') == 1 for name in names)
        if not is_plain or text.count('"type":"object"') > text.count('"properties":'):
            odd.add(shape.type)
        is_key = {name for name in names if shape.key == (name,) and not _IS_PHONE[name]}
        found.setdefault(shape.type, set()).update(names - is_key)
    return {type_: names for type_, names in found.items() if type_ not in odd}


def _kind(topic: str, event: Mapping[str, Any]) -> Kind:
    return Kind(topic, str(event.get("type")), callback_of(event))


def texts_of(record: Record) -> set[str]:
    """Everything one event can be found by; an event that is not JSON has its id and key."""
    return ({record.id, record.key.casefold()} | _texts_of(parsed(record.value))) - {""}


def _texts_of(event: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    subject = event.get("subject")
    if type(subject) is str:
        found.add(subject.casefold())
    data = event.get("data")
    if type(data) is not dict:
        return found
    for field in _IS_PHONE.keys() & data.keys():
        for text in _texts(data[field]):
            if not _IS_PHONE[field]:
                found.add(text.casefold())
            elif digits := digits_of(text):
                found.add("~" + digits[-TAIL:])
    return found


def asked(text: str) -> list[str]:
    """The keys to look for, given what a person typed; the first is the likeliest."""
    plain = text.strip().casefold()
    if not plain:
        return []
    digits = digits_of(plain)
    if not digits:
        return [plain]
    return [plain, f"~{digits.lstrip('0')[-TAIL:]}"]


def matches(record: Record, text: str) -> bool:
    """Whether this is what was typed: keys are hashed in the index, and a tail of digits is not the number."""
    plain = text.strip().casefold()
    if plain[:1] != "~" and plain in texts_of(record):
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
