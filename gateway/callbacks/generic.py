"""Webhooks of other senders: by configuration, or with a decoder of the user.

By configuration, a sender's JSON or form becomes one event, with all its fields in ``data.raw``::

    shop-orders: {decoder: json, topic: shop.order, key: $.order.id}

A body with a list of items becomes one event for each item, with the item in ``data.raw``; the paths are relative to
the item, and ``$$`` is the whole body::

    shop-stock: {decoder: json, topic: shop.stock, each: $.changes, key: $.sku, time: $$.sent_at}

A decoder is a function in any installed package, registered in the entry point group ``gateway.decoders``::

    # pyproject.toml of the package
    [project.entry-points."gateway.decoders"]
    parcels = "acme_gateway:decode"

    # acme_gateway.py
    import orjson
    from gateway.callbacks.generic import DecodedEvent
    from gateway.errors import CallbackRejected

    def decode(request, context):
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError as exc:
            raise CallbackRejected("not JSON") from exc
        return [DecodedEvent(key=parcel["id"], data={"parcel": parcel}) for parcel in body["parcels"]]

    # config.yaml
    parcels: {decoder: parcels, topic: parcel.status}

The function gets the authentic part of the request. For a path with a signature this is only the body: method, path,
query, headers and address are empty, because a signature does not cover them.

The function runs before the answer, so it has to be pure and quick. After any exception the request is stored in
``callbacks.rejected``. Ids, times and the other attributes are set by this module, so a repeat gets the same ids.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, ClassVar, Final, Literal, NamedTuple

import orjson

from gateway.callbacks import jsontext, times
from gateway.callbacks.answers import CODE_ANSWERS, MISSING, Answers
from gateway.callbacks.callback import Certainty, DecodeContext, Decoded, scope_of
from gateway.callbacks.jsontext import JsonPath
from gateway.callbacks.payload import CallbackRequest, Layout, Payload, read
from gateway.errors import CallbackRejected
from gateway.event import Event, event_id

__all__ = ["ENTRY_POINTS", "DecodedEvent", "Decoder", "DecoderCallback", "GenericCallback", "JsonPath", "load_decoder"]

ENTRY_POINTS: Final = "gateway.decoders"
#: Name under which a body that is a list is parsed as an object.
_BODY: Final = JsonPath("$['$']")


class _OtherSender:
    """Base of the callbacks of other senders."""

    __slots__ = ()

    name: str
    topic: str
    type: str
    signature: ClassVar[None] = None
    certainty: ClassVar[Certainty] = "confirmed"

    @property
    def title(self) -> str:
        """Title for documents and the console."""
        return f"Webhook {self.name}"

    @property
    def topics(self) -> tuple[str, ...]:
        """The one topic."""
        return (self.topic,)

    @property
    def types(self) -> tuple[str, ...]:
        """The default event type."""
        return (self.type or self.topic,)

    def event(
        self, found: DecodedEvent, position: int, canonical: bytes, arrival: str, context: DecodeContext
    ) -> Event:
        """Return the event of an item.

        Args:
            found: key, type and id are text.
            position: of the item.
            canonical: the id is derived from it, unless the sender has its own.
            arrival: time of arrival.
            context: configuration of the path.
        """
        own_id, key = str(found.id), str(found.key)
        canonical = b"id\0" + own_id.encode() if own_id else canonical
        return Event(
            id=event_id(self.name, context.account, 0 if own_id else position, canonical),
            source=f"/callbacks/{self.name}",
            type=found.type or self.type or self.topic,
            topic=self.topic,
            subject=key,
            partitionkey=key,
            time=_time(found.time, context) or arrival,
            recordedtime=arrival,
            data=dict(found.data),
            account=context.account,
        )


@dataclass(frozen=True, slots=True)
class GenericCallback(_OtherSender):
    """A sender by configuration: one event for each request, or for each item of a list in it.

    Args:
        name: name of the callback; ``source`` is ``/callbacks/<name>``.
        decoder: layout of its requests.
        topic: topic of its events.
        type: type of its events; by default the topic's name.
        key: path of the ordering key, by which events can also be found; for a form ``$.<field>``.
        id: path of the sender's event id: the same id is the same event, even if other fields differ. Without it the
            event's id is derived from the whole payload and the item's position.
        time: path of the event's time; without it the time of arrival.
        type_path: path of the type, in place of ``type``.
        each: path of the list in a JSON body whose items become events; ``$`` if the body is the list.
        answers: creates the answers.
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

    @property
    def methods(self) -> frozenset[str]:
        """POST, and GET for forms."""
        return frozenset({"POST", "GET"}) if self.decoder == "form" else frozenset({"POST"})

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        """Return events with the sender's fields in ``data.raw``, in the order sent.

        Args:
            request: the authentic part of the request.
            context: configuration of the path.

        Raises:
            CallbackRejected: the layout is wrong, ``each`` is not a list, or an item has no value at ``key``, ``id`` or
                the path of the type: then no item becomes an event.
        """
        payload = self._read(request, context)
        scope = scope_of(payload, context)
        arrival = times.recorded(request.received_at)
        if self.each is None:
            item = _Item(payload.fields, payload.raw, "")
            event = self._event(item, 0, payload.fields, payload.canonical, arrival, context)
            return Decoded((event,), tuple(scope.drift))
        # Hashed once; otherwise each id would hash the whole payload again.
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
        """Return the future events, in the order sent."""
        path, name = (self.each, self.each.name) if isinstance(self.each, JsonPath) else (_BODY, "")
        fields = path.value(payload.fields)
        if not isinstance(fields, list):
            raise CallbackRejected("a list is expected", name)
        if not fields:
            raise CallbackRejected("the list is empty", name)
        context.check_items(len(fields))
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
        kind = _needed(self.type_path, item, body) if self.type_path else ""
        return self.event(
            DecodedEvent(subject, {"raw": item.raw}, kind, own_id, time), position, canonical, arrival, context
        )


class _Item(NamedTuple):
    """One future event.

    Args:
        fields: parsed fields.
        raw: as received, for ``data.raw``.
        place: place in the body, such as ``events[3].``, for errors; empty for the whole body.
    """

    fields: Any
    raw: Any
    place: str


@dataclass(frozen=True, slots=True)
class DecodedEvent:
    """One event of a user's decoder.

    Invalid values reject the callback: values other than text (a key or an id may be an integer, which is converted),
    half of a surrogate pair, data that is not JSON or is nested more than 250 levels deep.

    Args:
        key: subject and ordering key; not empty.
        data: the event's ``data``, any JSON object.
        type: event type; by default the topic's name.
        id: the sender's event id; without it the id is derived from the request, the position, the key and the type.
        time: RFC 3339, or any form of vendor times; without it the time of arrival.
    """

    key: str | int
    data: Mapping[str, Any]
    type: str = ""
    id: str | int = ""
    time: str | int | float = ""


#: A user's decoder: pure, quick, raises CallbackRejected for a request that it cannot decode.
Decoder = Callable[[CallbackRequest, DecodeContext], Iterable[DecodedEvent]]


@dataclass(frozen=True, slots=True)
class DecoderCallback(_OtherSender):
    """A sender with a user's decoder; arguments as of :class:`GenericCallback`."""

    name: str
    decoder: Decoder
    topic: str
    type: str = ""
    answers: Answers = CODE_ANSWERS
    methods: frozenset[str] = frozenset({"POST", "GET"})

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        """Return the events of the decoder, which may not be more than ``context.max_items``.

        Args:
            request: the authentic part of the request.
            context: configuration of the path.

        Raises:
            CallbackRejected: raised by the decoder, or in place of any other exception of it.
        """
        try:
            found = list(islice(self.decoder(request, context), context.max_items + 1))
            context.check_items(len(found))
            if not found:
                raise CallbackRejected(f"decoder of {self.name} found nothing")
            digest = hashlib.blake2b(request.query + b"\0" + request.body).digest()
            arrival = times.recorded(request.received_at)
            data = _plain([one.data for one in found], context)
            return Decoded(
                tuple(self._event(one, data[at], at, digest, arrival, context) for at, one in enumerate(found))
            )
        except CallbackRejected as exc:  # the text is foreign, too
            said = f"decoder of {self.name} rejected it"
            raise CallbackRejected(_storable(exc.reason), _storable(exc.field), logged=said) from exc
        except Exception as exc:  # foreign code: its fault must not lose the request
            raise CallbackRejected(f"decoder of {self.name} failed: {type(exc).__name__}") from exc

    def _event(
        self,
        found: DecodedEvent,
        data: dict[str, Any],
        position: int,
        digest: bytes,
        arrival: str,
        context: DecodeContext,
    ) -> Event:
        key, own_id = _text(found.key, "key"), _text(found.id, "id")
        if not key:
            raise CallbackRejected(MISSING, "key")
        kind = _text(found.type, "type") or self.type or self.topic
        # Key and type may come from headers, which may be the only difference between two requests.
        canonical = digest + orjson.dumps([key, kind])
        return self.event(DecodedEvent(key, data, kind, own_id, found.time), position, canonical, arrival, context)


def load_decoder(name: str) -> Decoder:
    """Return the decoder that an installed package registers under a name in ``gateway.decoders``.

    Raises:
        LookupError: no installed package registers the name, or several do.
        TypeError: the registered object is not callable.
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
    """Return a decoder's attribute as text that can be stored; empty for None.

    The events of many callbacks share one append, so a value that cannot be stored has to be rejected before it.
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


def _plain(found: Sequence[Mapping[str, Any]], context: DecodeContext) -> list[dict[str, Any]]:
    """Copy a decoder's data to plain JSON values, so that later changes by the decoder have no effect.

    Args:
        found: data of each event. Each may be the whole body, so the size of the copies is limited.
        context: has the limit of their size.
    """
    plain: list[dict[str, Any]] = []
    size = 0
    for data in found:
        try:
            text = orjson.dumps([[[[dict(data)]]]])[jsontext.SPARE_LEVELS : -jsontext.SPARE_LEVELS]
            size += len(text)
            context.check_bytes(size)
            plain.append(orjson.loads(text))
        except (TypeError, ValueError) as exc:
            raise CallbackRejected(f"the decoder gave data that cannot be JSON: {exc}", "data") from exc
    return plain


def _storable(text: object) -> str:
    """Return a text that UTF-8 can encode; lone surrogates become escapes."""
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
