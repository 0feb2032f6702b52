"""Webhooks of other senders: by configuration alone, or by a decoder of one's own.

By configuration, a sender's JSON or form becomes one event, its fields kept whole in ``data.raw``::

    shop-orders: {decoder: json, topic: shop.order, key: $.order.id}

A body that holds a list of items becomes one event for each, with the item in ``data.raw``; the paths are relative to
the item, and ``$$`` is the whole body::

    shop-stock: {decoder: json, topic: shop.stock, each: $.changes, key: $.sku, time: $$.sent_at}

A decoder of one's own is a function in any installed package, named in the entry point group
``gateway.decoders``::

    # pyproject.toml of the package
    [project.entry-points."gateway.decoders"]
    parcels = "acme_gateway:decode"

    # acme_gateway.py
    import orjson
    from gateway.callbacks.generic import Found
    from gateway.errors import CallbackRejected

    def decode(request, context):
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError as exc:
            raise CallbackRejected("not JSON") from exc
        return [Found(key=parcel["id"], data={"parcel": parcel}) for parcel in body["parcels"]]

    # config.yaml
    parcels: {decoder: parcels, topic: parcel.status}

The function gets the authentic part of the request. Where the path has a signature, that is the body alone: method,
path, query, headers and address are empty, as a signature does not cover them.

It is called in the accept path, so it must be pure and quick. Whatever it raises puts the request into
``callbacks.rejected``; ids, times and the rest of the event are made here, so a repeat gets the same ids.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import orjson

from gateway.callbacks import bounds, jsontext, times
from gateway.callbacks.answers import CODE_ANSWERS, Answers
from gateway.callbacks.callback import DecodeContext, Decoded
from gateway.callbacks.fields import Scope
from gateway.callbacks.jsonpath import JsonPath
from gateway.callbacks.payload import Layout, Payload, read
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.shape import MISSING, Certainty
from gateway.errors import CallbackRejected
from gateway.event import Event, event_id

__all__ = ["ENTRY_POINTS", "Decoder", "DecoderCallback", "Found", "GenericCallback", "JsonPath", "load_decoder"]

ENTRY_POINTS: Final = "gateway.decoders"
#: Where a body that is a list is put, to be read as an object.
_BODY: Final = JsonPath("$['$']")


@dataclass(frozen=True, slots=True)
class GenericCallback:
    """A sender known by configuration alone: one request, one event, or one for each item of a list in it.

    Args:
        name: of the callback; ``source`` is ``/callbacks/<name>``.
        decoder: layout of its requests.
        topic: where its events go.
        type: of its events; the topic's name where none is given.
        key: path of the field that events are ordered by and found by; for a form ``$.<field>``.
        id: path of the sender's own id of the event: the same id again is the same event, whatever else differs.
            Without it the whole payload makes the id, together with the item's position.
        time: path of the time it happened; arrival without it.
        type_path: path of the type, in place of ``type``.
        each: path of the list in a JSON body whose items become events; ``$`` where the body is the list.
        answers: what the sender is told.
    """

    name: str
    decoder: Layout
    topic: str
    key: JsonPath
    type: str = ""
    id: JsonPath | None = None
    time: JsonPath | None = None
    type_path: JsonPath | None = None
    each: JsonPath | Literal["$"] | None = None
    answers: Answers = CODE_ANSWERS
    signature: None = None
    certainty: Certainty = "confirmed"

    @property
    def title(self) -> str:
        """For people."""
        return f"Webhook {self.name}"

    @property
    def methods(self) -> frozenset[str]:
        """POST, and GET for forms."""
        return frozenset({"POST", "GET"}) if self.decoder == "form" else frozenset({"POST"})

    @property
    def topics(self) -> tuple[str, ...]:
        """The one topic."""
        return (self.topic,)

    @property
    def types(self) -> tuple[str, ...]:
        """The type of events that name none."""
        return (self.type or self.topic,)

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        """Make events that hold the sender's fields in ``data.raw``, in the order sent.

        Raises:
            CallbackRejected: not the declared layout, no list at ``each``, or no value at ``key``, ``id`` or the path
                of the type: then none of the items becomes an event.
        """
        payload = self._read(request, context)
        scope = Scope(context.zone)
        for name in payload.duplicates:
            scope.note("duplicate", name)
        for kind, value in payload.notes:
            scope.note(kind, value)
        arrival = times.recorded(request.received_at)
        if self.each is None:
            item = _Item(payload.fields, payload.raw, "")
            event = self._event(item, 0, payload.fields, payload.canonical, arrival, context)
            return Decoded((event,), tuple(scope.drift))
        # Hashed once, else each id would hash the whole payload again.
        digest = hashlib.blake2b(payload.canonical).digest()
        events: dict[str, Event] = {}
        for position, item in enumerate(self._items(payload, context)):
            event = self._event(item, position, payload.fields, digest, arrival, context)
            if event.id in events:  # only by an id of the sender's own, which says that it is the same event
                scope.note("duplicate", self.id.name if self.id else "")
            events.setdefault(event.id, event)
        return Decoded(tuple(events.values()), tuple(scope.drift))

    def _read(self, request: CallbackRequest, context: DecodeContext) -> Payload:
        if self.each == "$":
            body = request.body.removeprefix(codecs.BOM_UTF8).strip()
            if not body.startswith(b"["):
                raise CallbackRejected("a JSON array is expected")
            request = request._replace(body=b'{"$":' + body + b"}")
        payload = read(request, self.decoder, context.credential_fields)
        if self.decoder == "json" and payload.text is None:
            raise CallbackRejected("a JSON object is expected")
        if self.each == "$" and (len(payload.fields) != 1 or not {"$", "?"}.isdisjoint(payload.duplicates)):
            raise CallbackRejected("not JSON: more behind the array")
        return payload

    def _items(self, payload: Payload, context: DecodeContext) -> Sequence[_Item]:
        """Return what becomes events, in the order sent."""
        path, name = (self.each, self.each.name) if isinstance(self.each, JsonPath) else (_BODY, "")
        fields = path.value(payload.fields)
        if not isinstance(fields, list):
            raise CallbackRejected("a list is expected", name)
        if not fields:
            raise CallbackRejected("the list is empty", name)
        bounds.check_items(len(fields), context.max_items)
        raws = path.value(payload.lossless())
        return [
            _Item(item, raw, f"{name}[{position}].")
            for position, (item, raw) in enumerate(zip(fields, raws, strict=True))
        ]

    def _event(
        self, item: _Item, position: int, body: Any, canonical: bytes, arrival: str, context: DecodeContext
    ) -> Event:
        subject = _needed(self.key, item, body)
        own_id = _needed(self.id, item, body) if self.id else ""
        time = self.time.find(body if self.time.is_of_body else item.fields) if self.time else ""
        return Event(
            id=event_id(
                self.name,
                context.account,
                0 if own_id else position,
                b"id\0" + own_id.encode() if own_id else canonical,
            ),
            source=f"/callbacks/{self.name}",
            type=_needed(self.type_path, item, body) if self.type_path else self.type or self.topic,
            topic=self.topic,
            subject=subject,
            partitionkey=subject,
            time=_time(time, context) or arrival,
            recordedtime=arrival,
            data={"raw": item.raw},
            account=context.account,
        )


class _Item(NamedTuple):
    """What becomes one event.

    Args:
        fields: parsed.
        raw: as received, for ``data.raw``.
        place: where in the body it was, such as ``events[3].``, for errors; empty for the whole body.
    """

    fields: Any
    raw: Any
    place: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a decoder of one's own finds: one event to be.

    What no event can be made of rejects the callback: other values than text (a key or an id may be a whole number,
    which is taken as its text), half of a surrogate pair, data that is not JSON or is nested more than 250 levels deep.

    Args:
        key: what it is about; events of one key keep their order. Never empty.
        data: the event's ``data``, anything that JSON can hold.
        type: of the event; the topic's name where none is given. Text.
        id: the sender's own id of it; without one the request, the position, the key and the type make the id.
        time: RFC 3339, or any form that vendors use; arrival without it.
    """

    key: str | int
    data: Mapping[str, Any]
    type: str = ""
    id: str | int = ""
    time: str | int | float = ""


#: A decoder of one's own: pure, quick, raises CallbackRejected for what it does not understand.
Decoder = Callable[[CallbackRequest, DecodeContext], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class DecoderCallback:
    """A sender understood by a decoder of one's own; arguments as :class:`GenericCallback`."""

    name: str
    decoder: Decoder
    topic: str
    type: str = ""
    answers: Answers = CODE_ANSWERS
    methods: frozenset[str] = frozenset({"POST", "GET"})
    signature: None = None
    certainty: Certainty = "confirmed"

    @property
    def title(self) -> str:
        """For people."""
        return f"Webhook {self.name}"

    @property
    def topics(self) -> tuple[str, ...]:
        """The one topic."""
        return (self.topic,)

    @property
    def types(self) -> tuple[str, ...]:
        """The type of events whose decoder names none."""
        return (self.type or self.topic,)

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        """The events that the decoder finds.

        No more are taken than ``context.max_items``, however many it would give.

        Raises:
            CallbackRejected: by the decoder's word, or in place of any other exception of it: the request is kept.
        """
        try:
            found = list(islice(self.decoder(request, context), context.max_items + 1))
            bounds.check_items(len(found), context.max_items)
            if not found:
                raise CallbackRejected(f"decoder of {self.name} found nothing")
            digest = hashlib.blake2b(request.query + b"\0" + request.body).digest()
            arrival = times.recorded(request.received_at)
            data = _plain([one.data for one in found], context.max_event_bytes)
            return Decoded(
                tuple(self._event(one, data[at], at, digest, arrival, context) for at, one in enumerate(found))
            )
        except CallbackRejected as exc:  # the words are somebody else's, too
            said = f"decoder of {self.name} rejected it"
            raise CallbackRejected(_storable(exc.reason), _storable(exc.field), logged=said) from exc
        except Exception as exc:  # somebody else's code: its fault must not lose the request
            raise CallbackRejected(f"decoder of {self.name} failed: {type(exc).__name__}") from exc

    def _event(
        self, found: Found, data: dict[str, Any], position: int, digest: bytes, arrival: str, context: DecodeContext
    ) -> Event:
        key, own_id = _text(found.key, "key"), _text(found.id, "id")
        if not key:
            raise CallbackRejected(MISSING, "key")
        type_ = _text(found.type, "type") or self.type or self.topic
        # Key and type may come from headers, in which two requests can differ alone.
        canonical = b"id\0" + own_id.encode() if own_id else digest + orjson.dumps([key, type_])
        return Event(
            id=event_id(self.name, context.account, 0 if own_id else position, canonical),
            source=f"/callbacks/{self.name}",
            type=type_,
            topic=self.topic,
            subject=key,
            partitionkey=key,
            time=_time(found.time, context) or arrival,
            recordedtime=arrival,
            data=data,
            account=context.account,
        )


def load_decoder(name: str) -> Decoder:
    """The decoder that an installed package offers under this name in ``gateway.decoders``.

    Raises:
        LookupError: no installed package offers it, or more than one does.
        TypeError: what it offers cannot be called.
    """
    offered = {point.value: point for point in entry_points(group=ENTRY_POINTS, name=name)}
    if len(offered) != 1:
        known = sorted({point.name for point in entry_points(group=ENTRY_POINTS)})
        count = "more than one installed package offers" if offered else "no installed package offers"
        raise LookupError(f"{count} the decoder {name!r}; there are: {', '.join(known) or 'none'}")
    (point,) = offered.values()
    loaded = point.load()
    if not callable(loaded):
        raise TypeError(f"{point.value} is not a function")
    decoder: Decoder = loaded
    return decoder


def _text(value: object, name: str) -> str:
    """What a decoder gave as an attribute, as text that can be stored; empty for None.

    The events of many callbacks share one append, so what cannot be stored must not get as far as that.
    """
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and name != "type":
        return str(int(value))
    if not isinstance(value, str):
        raise CallbackRejected(f"the decoder gave {type(value).__name__} where text is needed", name)
    if not value.isascii() and _storable(value) != value:
        raise CallbackRejected("the decoder gave half of a surrogate pair", name)
    return value


def _plain(found: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Copy what a decoder gave as data to plain JSON values: what it does with its own later changes nothing.

    Args:
        found: data of each event. All of them may be the one body, so the copies are bounded.
        most: bytes of all together.
    """
    plain: list[dict[str, Any]] = []
    size = 0
    for data in found:
        try:
            text = orjson.dumps([[[[dict(data)]]]])[jsontext.SPARE_LEVELS : -jsontext.SPARE_LEVELS]
            size += len(text)
            bounds.check_bytes(size, most)
            plain.append(orjson.loads(text))
        except (TypeError, ValueError) as exc:
            raise CallbackRejected(f"the decoder gave data that cannot be JSON: {exc}", "data") from exc
    return plain


def _storable(text: object) -> str:
    """A text that UTF-8 can hold."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _needed(path: JsonPath, item: _Item, body: Any) -> str:
    value = path.find(body if path.is_of_body else item.fields).strip()
    if not value:
        raise CallbackRejected(MISSING, item.place + path.name if item.place and not path.is_of_body else path.text)
    return value


def _time(value: object, context: DecodeContext) -> str | None:
    try:
        return times.rfc3339(value, context.zone)
    except ValueError:
        return None
