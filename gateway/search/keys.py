"""Compute the keys of an event, and the keys of a search text. Pure.

Texts are compared without case. The key of a phone number is its last :data:`TAIL` digits, because people omit country
codes and write zeros before national numbers. The other digits of the search text are compared with the event.

Parsing an event costs twice as much as the remaining work of indexing. Therefore, for events that the callback tables
describe, the keys are searched in the bytes: the tables define the members of each type, and no other member has such a
name. An event with another form there (a list, an escape, an unusual number) is parsed.
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
from gateway.search.index import EventKind, Keys, hashed
from gateway.telemetry import redaction

#: Fields of ``data`` that have ids.
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
#: Fields of ``data`` that have phone numbers.
_PHONE_FIELDS: Final = ("to", "from", "to_real", "phone", "business_phone")
#: Whether a field is a phone number.
_IS_PHONE: Final = {**dict.fromkeys(_ID_FIELDS, False), **dict.fromkeys(_PHONE_FIELDS, True)}
#: Digits of a phone number in a key; eight distinguish the numbers of one country well enough for an index.
TAIL: Final = 8
#: Characters of an id; longer texts are not ids.
_MAX_TEXT: Final = 200
#: Indexed items of a field with a list of numbers or ids.
_MAX_ITEMS: Final = 50
_NOT_DIGITS: Final = re.compile(r"[\s()./-]+")
_PHONE: Final = re.compile(r"^\+?[0-9]{6,20}$")


#: Begin and end of the head in an event's bytes: source and type, which many events have in common.
_HEAD_AT: Final = len('{"specversion":"1.0","id":""') + 32
_HEAD_END: Final = b',"subject":"'

_log = structlog.get_logger("gateway.search")


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to compute the keys of events with the same head.

    Args:
        head: source and type in the event's bytes; empty for an event of another producer.
        kind: of the events.
        members: searched members: ``"name":"``, its length, whether it is a phone number; None: parse the event.
    """

    head: bytes
    kind: EventKind
    members: tuple[tuple[bytes, int, bool], ...] | None


def keys_of_events(records: Sequence[Record], first: int) -> Keys:
    """Return the keys of events. An event that cannot be parsed has its id and key, and does not affect others.

    Args:
        records: of a stream of events.
        first: offset that the places are relative to.
    """
    _, offsets, _, topics, keys, ids, values, _ = zip(*records, strict=True)
    places = [offset - first for offset in offsets]
    hashes = [*map(crc32, map(str.encode, ids)), *map(crc32, map(str.encode, map(str.casefold, keys)))]
    of, kinds = places * 2, []
    plan = _Plan(b"", EventKind(), None)
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
    """Return the keys of attempt records: the ids of their events.

    Args:
        records: of the stream of attempts.
        first: offset that the places are relative to.
    """
    found = [(hashed(text), record.offset - first) for record in records for text in attempts.event_ids(record)]
    return Keys([record.offset - first for record in records], [one for one, _ in found], [place for _, place in found])


def _hashes(value: bytes, plan: _Plan) -> list[int]:
    """Return the hashes of an event's keys other than its id and key."""
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
    """Parse only the data of an event of the gateway: less than half of the work."""
    try:
        return {"data": orjson.loads(value[data : value.rfind(b',"raw":')] + b"}")}
    except orjson.JSONDecodeError:
        return parsed(value)


def _plan_of(topic: str, value: bytes) -> _Plan:
    end = value.find(_HEAD_END, _HEAD_AT) + len(_HEAD_END)
    return _known(topic, value[_HEAD_AT:end]) or _Plan(b"", _kind(topic, parsed(value)), None)


@lru_cache(maxsize=1024)
def _known(topic: str, head: bytes) -> _Plan | None:
    """Return the plan for events with this head; None if it is not the head of a gateway's event."""
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
    """Return the members that are keys, by event type, without the id that is always the record's key.

    Types are excluded if such a member may be a list or nested, or if a member has names that no table defines.
    """
    found: dict[str, set[str]] = {}
    odd: set[str] = set()
    for schema in (schema for callback in CALLBACKS.values() for schema in callback.schemas):
        members: Mapping[str, Any] = schema.json_schema()["properties"]
        text = orjson.dumps(members).decode()
        names = _IS_PHONE.keys() & members.keys()
        is_plain = all(members[name]["type"] == "string" and text.count(f'"{name}":{{') == 1 for name in names)
        if not is_plain or text.count('"type":"object"') > text.count('"properties":'):
            odd.add(schema.type)
        is_key = {name for name in names if schema.key == (name,) and not _IS_PHONE[name]}
        found.setdefault(schema.type, set()).update(names - is_key)
    return {type_: names for type_, names in found.items() if type_ not in odd}


def _kind(topic: str, event: Mapping[str, Any]) -> EventKind:
    return EventKind(topic, str(event.get("type")), callback_of(event))


def texts_of(record: Record) -> set[str]:
    """Return all keys of an event; an event that is not JSON has its id and key."""
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
    """Return the keys of a search text, the most likely one first."""
    plain = text.strip().casefold()
    if not plain:
        return []
    digits = digits_of(plain)
    if not digits:
        return [plain]
    return [plain, f"~{digits.lstrip('0')[-TAIL:]}"]


def matches(record: Record, text: str) -> bool:
    """Return whether a record matches a search text. Hashes collide, and the key of a number is only its tail.

    Args:
        record: found by the index.
        text: as typed.
    """
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
    """Return the digits of a phone number in any notation; empty if the text is not a phone number."""
    if text[:1] == "+" and text[1:].isdigit() and text.isascii() and 6 < len(text) <= 21:
        return text[1:]  # as the gateway writes them
    compact = _NOT_DIGITS.sub("", text)
    if not _PHONE.match(compact):
        return ""
    digits = compact.lstrip("+")
    return digits.removeprefix("00") if compact.startswith("00") else digits


def callback_of(event: Mapping[str, Any]) -> str:
    """Return the name of an event's callback."""
    return str(event.get("source", "")).rpartition("/")[2]


def parsed(value: bytes) -> dict[str, Any]:
    """Return an event as a dictionary; empty if the bytes are not a JSON object."""
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _texts(value: Any) -> list[str]:
    """Return the texts of a field, or of its list, without texts that are too long for an id."""
    if isinstance(value, str):
        return [value] if len(value) <= _MAX_TEXT else []
    items = value[:_MAX_ITEMS] if isinstance(value, list) else [value]
    return [str(item)[:_MAX_TEXT] for item in items if isinstance(item, (str, int))]
