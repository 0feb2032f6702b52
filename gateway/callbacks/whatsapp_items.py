"""Split a WhatsApp callback into items, each with its schema and its part of the body.

One body may have several items of several kinds (protocol.md, trap 7). The ``raw`` of each event is the envelope with
only its item, so no data is lost and the total size is about that of the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.callbacks.callback import DecodeContext, EventSchema, RawItem
from gateway.callbacks.field_mapping import as_list, as_object
from gateway.callbacks.fields import Scope
from gateway.callbacks.jsontext import parse
from gateway.callbacks.payload import CallbackRequest, Payload, bodies_of_items
from gateway.callbacks.whatsapp import MESSAGE_SCHEMA, STATUS_SCHEMA
from gateway.callbacks.whatsapp_events import BY_NAME, CALL, ECHO, ECHO_LISTS, ECHOES, OTHER
from gateway.errors import CallbackRejected

#: List in the body → schema of its items.
_LISTS: Final[Mapping[str, EventSchema]] = {"statuses": STATUS_SCHEMA, "messages": MESSAGE_SCHEMA, "calls": CALL}

#: The two fields of an event.
_EVENT: Final = frozenset({"field", "value"})

#: Fields of an entry in Meta's envelope that describe its changes: of items, and of other events. (The platform passes
#: them on in flat form.)
_ENTRY: Final = ((("wabaId", "id"),), (("wabaId", "id"), ("time", "time")))
_SCALARS: Final = (str, int, orjson.Fragment)

#: Fields that the events of several messages have in common; the vendor's are few.
_AROUND_ECHOES: Final = frozenset(
    {"messaging_product", "metadata", "business_phone", "merchant_phone", "wabaId", "time"}
)


def classify(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
    """Split a payload into items, in the order sent. Lists inside a known event belong to the event."""
    fields = payload.fields
    if _is_known(fields.get("field")):
        return _events(payload, request, context, scope)
    if "entry" in fields:
        return _of_meta(payload, request, context, scope)
    found = [(name, as_list(fields[name])) for name in fields if name in _LISTS]
    count = sum(len(items) for _, items in found)
    context.check_items(count)
    if count == 0:
        return _events(payload, request, context, scope) or _bare(fields, payload)
    envelope = {name: value for name, value in fields.items() if name not in _LISTS}
    people = _people(envelope.pop("contacts", None), [item for _, items in found for item in items])
    if count > 1:
        envelope = STATUS_SCHEMA.mapping.documented(envelope, scope)
        people = {
            name: STATUS_SCHEMA.mapping.documented({"contacts": contact}, scope)["contacts"]
            for name, contact in people.items()
        }
        _check_repeats(envelope, people, found, context)
    raws = iter([payload.raw] if count == 1 else _raws(payload, [name for name, _ in found]))
    return [
        (_LISTS[name], _view(envelope, people, name, item, index), next(raws), f"{name}[{index}]")
        for name, items in found
        for index, item in enumerate(items)
    ]


def _view(envelope: dict[str, Any], people: Mapping[str, Any], name: str, item: Any, index: int) -> dict[str, Any]:
    """Return the fields for a table: the item in place of its list, and its contact."""
    if type(item) is not dict:
        raise CallbackRejected("an object is expected", f"{name}[{index}]")
    view = {**envelope, name: item}
    contact = _contact_of(item, people)
    if contact is not None:
        view["contacts"] = contact
    return view


def _contact_of(item: dict[str, Any], people: Mapping[str, Any]) -> Any:
    if not people:
        return None
    return people.get(_party(item)) or people.get("")


def _party(item: Any) -> str:
    """Return the WhatsApp id of the person at the other end."""
    return str(item.get("from") or item.get("recipient_id") or "") if type(item) is dict else ""


def _people(contacts: object, items: Sequence[Any]) -> dict[str, Any]:
    """Return contacts by WhatsApp id; a single contact of items of a single person also under an empty id."""
    listed = [contact for contact in as_list(contacts) if type(contact) is dict]
    people = {str(contact["wa_id"]): contact for contact in listed if contact.get("wa_id")}
    if len(listed) == 1 and len(set(map(_party, items))) == 1:
        people[""] = listed[0]
    return people


def _check_repeats(
    envelope: dict[str, Any],
    people: Mapping[str, Any],
    found: Sequence[tuple[str, list[Any]]],
    context: DecodeContext,
) -> None:
    """Reject a small body whose events would be large in total, because each repeats the shared fields."""
    around = len(orjson.dumps(envelope))
    sizes = {id(contact): len(orjson.dumps(contact)) for contact in people.values()}
    total = 0
    for _, items in found:
        for item in items:
            contact = _contact_of(item, people) if type(item) is dict else None
            total += around + (sizes[id(contact)] if contact is not None else 0)
            context.check_bytes(total)


def _raws(payload: Payload, names: Iterable[str]) -> list[orjson.Fragment]:
    """Return the body of each item of the lists of these names, byte for byte."""
    whole = dict(payload.lossless())
    lists = [(name, as_list(whole.pop(name))) for name in names]
    return [orjson.Fragment(orjson.dumps(body)) for body in bodies_of_items(whole, lists)]


def _is_known(name: object) -> bool:
    return type(name) is str and name in BY_NAME


def _events(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
    """Return the events of ``field`` and ``value``: one for each value of a list."""
    values = as_list(payload.fields.get("value"))
    context.check_items(len(values))
    if len(values) < 2:
        return _event(payload, request, context, scope)
    for name in payload.fields:
        if name not in _EVENT:
            scope.note("field", name)
    items: list[RawItem] = []
    for index, (value, raw) in enumerate(zip(values, _raws(payload, ["value"]), strict=True)):
        if type(value) is not dict:
            raise CallbackRejected("an object with fields is expected", f"value[{index}]")
        if not value:
            scope.note("value", "value")
            continue
        fields = {"field": payload.fields.get("field"), "value": value}
        items += _event(Payload(fields, raw, payload.canonical, orjson.dumps(raw)), request, context, scope)
        context.check_items(len(items))
    return items


def _event(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
    """Return the event of one ``field`` and ``value``, or the items inside the value."""
    name = payload.fields.get("field")
    if not name or type(name) is not str:
        return ()
    fields = payload.fields
    if _is_known(name) and fields.get("value") in (None, ""):
        # Flat layout: all other fields are the value.
        fields = {"field": name, "value": {key: value for key, value in fields.items() if key not in _EVENT}}
    value = as_object(fields.get("value"))
    if value is None:
        return ()
    if not _is_known(name) and any(as_list(value.get(items)) for items in _LISTS):
        text = orjson.dumps(as_object(payload.lossless()["value"]))
        return classify(Payload(value, payload.raw, payload.canonical, text), request, context, scope)
    if name == ECHOES:
        echoes = _echoes(value, payload, context)
        if echoes:
            return echoes
    if name not in BY_NAME:
        scope.note("event", name)
    return ((BY_NAME.get(name, OTHER), fields, payload.raw, ""),)


def _of_meta(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
    """Return the items in Meta's envelope: entries of an account with changes, each with ``field`` and ``value``."""
    entries = [entry for entry in as_list(payload.lossless()["entry"]) if type(entry) is dict]
    context.check_items(len(entries))
    kind = payload.fields.get("object")
    kind_bytes = len(orjson.dumps(kind))
    items: list[RawItem] = []
    total = 0
    for entry in entries:
        changes = as_list(entry.get("changes"))
        context.check_items(len(items) + len(changes))
        around = kind_bytes + len(orjson.dumps([entry.get("id"), entry.get("time")]))
        context.check_bytes(total + around * len(changes))
        for change in changes:
            found = _of_change(payload, entry, change, request, context, scope)
            context.check_items(len(items) + len(found))
            name = change.get("field") if found else None
            total += (around + len(orjson.dumps(name))) * len(found)
            context.check_bytes(total)
            is_whole = len(found) == 1 or _is_known(name)
            for schema, view, raw, place in found:
                part = raw if is_whole else {"field": name, "value": raw}
                outer = {"object": kind, "entry": [{"id": entry.get("id"), "changes": [part]}]}
                items.append((schema, view, orjson.Fragment(orjson.dumps(outer)), place))
    scope.note("layout", "meta")
    if len(items) == 1:
        schema, fields, _, place = items[0]
        return ((schema, fields, payload.raw, place),)
    return items


def _of_change(
    payload: Payload,
    entry: dict[str, Any],
    change: Any,
    request: CallbackRequest,
    context: DecodeContext,
    scope: Scope,
) -> Sequence[RawItem]:
    """Return the items of one change, each with its part of the change."""
    value = as_object(change.get("value")) if type(change) is dict else None
    if value is None:
        scope.note("value", "value", below="entry.changes.")
        return ()
    text = orjson.dumps(change)
    fields = {**parse(text).fields}
    # An entry has the account's id and, of an event, the time.
    names = _ENTRY[_is_known(change.get("field"))]
    around = {ours: entry[theirs] for ours, theirs in names if type(entry.get(theirs)) in _SCALARS}
    fields["value"] = {**orjson.loads(orjson.dumps(around)), **(as_object(fields["value"]) or {})}
    return classify(Payload(fields, orjson.Fragment(text), payload.canonical, text), request, context, scope)


def _echoes(value: dict[str, Any], payload: Payload, context: DecodeContext) -> Sequence[RawItem]:
    """Return the messages sent from the phone app, each with the fields around all; none if the value has no list."""
    name = next((name for name in ECHO_LISTS if as_list(value.get(name))), None)
    if name is None:
        return ()
    echoes = as_list(value[name])
    context.check_items(len(echoes))
    around = {key: inner for key, inner in value.items() if key not in ECHO_LISTS}
    if len(echoes) == 1:
        raws = [payload.raw]
    else:
        around = {key: inner for key, inner in around.items() if key in _AROUND_ECHOES}
        context.check_bytes(len(orjson.dumps(around)) * len(echoes))
        raws = _echo_raws(name, payload)
    items: list[RawItem] = []
    for index, (echo, raw) in enumerate(zip(echoes, raws, strict=True)):
        if type(echo) is not dict:
            raise CallbackRejected("an object is expected", f"value.{name}[{index}]")
        fields = {"field": ECHOES, "value": around, "messages": echo}
        items.append((ECHO, fields, raw, f"value.{name}[{index}]"))
    return items


def _echo_raws(name: str, payload: Payload) -> list[Any]:
    """Return the body of each echo: the fields around the messages, and a list with this message only."""
    whole = payload.lossless()
    value = as_object(whole.get("value", whole)) or {}
    lists = [(name, as_list(value.pop(name)))]
    return [orjson.Fragment(orjson.dumps({"field": ECHOES, "value": one})) for one in bodies_of_items(value, lists)]


def _bare(fields: dict[str, Any], payload: Payload) -> Sequence[RawItem]:
    """Return an item without an envelope."""
    if fields.get("call_id"):
        return ((CALL, {"calls": fields}, payload.raw, ""),)
    if fields.get("id") and fields.get("status"):
        return ((STATUS_SCHEMA, {"statuses": fields}, payload.raw, ""),)
    if fields.get("id") and fields.get("from"):
        return ((MESSAGE_SCHEMA, {"messages": fields}, payload.raw, ""),)
    return ()
