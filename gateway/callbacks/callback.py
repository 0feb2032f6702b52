"""A callback: one path of the vendor's pushes, from request to events. Pure: no clock, no disk, no HTTP library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from gateway.callbacks import bounds, times
from gateway.callbacks.answers import Answers
from gateway.callbacks.fields import Scope
from gateway.callbacks.payload import Layout, Payload, enclosed, read
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.shape import Certainty, Shape
from gateway.errors import CallbackRejected
from gateway.event import Event, event_id, schema_url


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """What a path's configuration says about the callbacks that come in by it.

    Args:
        zone: of vendor times that carry none.
        account: name of the vendor account, part of each event and of its id; None where none is configured.
        credential_fields: names of query and form fields that hold the gateway's own token. They are no part of
            ``raw``, of ids, or of anything stored.
        own_numbers: our DID numbers, digits only. They tell a DID receipt from an incoming message where no signed
            header does (protocol.md, section 2).
        max_items: items of one callback; more reject it.
        max_event_bytes: bytes of the events of one callback together; more reject it.
        country: country code, digits, of phone numbers that carry none; empty where the path names no country.
        schema_base_url: address below which the schemas of topics are published, without a slash at its end; empty:
            events name the urn of their type.
    """

    zone: tzinfo = field(default_factory=lambda: ZoneInfo("Asia/Shanghai"))
    account: str | None = None
    credential_fields: frozenset[str] = frozenset()
    own_numbers: frozenset[str] = frozenset()
    max_items: int = bounds.MAX_ITEMS
    max_event_bytes: int = bounds.MAX_EVENT_BYTES
    country: str = ""
    schema_base_url: str = ""


class Decoded(NamedTuple):
    """What one request became.

    Args:
        events: at least one, in the order sent; stored and answered as one unit.
        drift: short labels of what protocol.md does not know: ``field:<name>``, ``<our field>:<code>``,
            ``value:<name>`` for a value that could not be read, ``duplicate:<name>`` for a name that one JSON
            object has more than once, ``query:<name>`` for one whose value in the query is another than in the body,
            ``charset:<name>`` for a character set that is not declared, ``layout:<word>`` for a callback that is packed
            as no page describes. At most 16.
    """

    events: tuple[Event, ...]
    drift: tuple[str, ...] = ()


#: One future event: the shape whose table reads it, the vendor's fields as that table names them, ``data.raw``,
#: and where in the body it stood, such as ``statuses[1]``, for errors (empty where the path says it all).
Item = tuple[Shape, dict[str, Any], Any, str]


#: Takes a payload apart: which shapes, decided by content, in the order sent.
Split = Callable[[Payload, CallbackRequest, DecodeContext, Scope], Sequence[Item]]


@dataclass(frozen=True, slots=True)
class Callback:
    """One built-in callback.

    Args:
        name: as in its path and in its events' ``source``.
        title: for people.
        layout: what the vendor documents, ``form`` or ``json``; the other one is understood too.
        answers: what the vendor is told.
        signature: the vendor's signature scheme that it can carry, or None.
        shapes: all kinds of items that may come.
        split: decides by content which of them came.
        identity: what an item's id is made of, where a repeat does not have all bytes of the first; None for the whole
            payload and the item's position in it.
    """

    name: str
    title: str
    layout: Layout
    answers: Answers
    signature: Literal["general", "callbot"] | None
    shapes: tuple[Shape, ...]
    split: Split
    identity: Callable[[Item], bytes] | None = None
    source: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", f"/nxcloud/{self.name}")

    @property
    def methods(self) -> frozenset[str]:
        """POST, and GET for forms: a page shows a bare URL with no method (protocol.md, section 1)."""
        return frozenset({"POST", "GET"}) if self.layout == "form" else frozenset({"POST"})

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics its events go to."""
        return tuple(dict.fromkeys(shape.topic for shape in self.shapes))

    @property
    def types(self) -> tuple[str, ...]:
        """The types its events have."""
        return tuple(dict.fromkeys(shape.type for shape in self.shapes))

    @property
    def certainty(self) -> Certainty:
        """The least sure of its shapes."""
        return max((shape.certainty for shape in self.shapes), key=("confirmed", "partial", "inferred").index)

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        """Turn one request into events, in the order sent. The same request again gives the same ids.

        Raises:
            CallbackRejected: a missing identifying field, not the declared format, an unknown shape, too many items.
        """
        try:
            payload = read(request, self.layout, context.credential_fields)
            try:
                return self._decoded(payload, request, context)
            except CallbackRejected as exc:
                inner = enclosed(payload)
                if inner is None:
                    raise
                try:
                    return self._decoded(inner, request, context)
                except CallbackRejected:
                    raise exc from None
        except RecursionError as exc:
            raise CallbackRejected("nested too deeply") from exc

    def _decoded(self, payload: Payload, request: CallbackRequest, context: DecodeContext) -> Decoded:
        scope = Scope(context.zone, context.max_items, context.country)
        for name in payload.duplicates:
            scope.note("duplicate", name)
        for kind, value in payload.notes:
            scope.note(kind, value)
        items = self.split(payload, request, context, scope)
        if not items:
            raise CallbackRejected("no item in it is of a known shape")
        bounds.check_items(len(items), context.max_items)
        arrival = times.recorded(request.received_at)
        if self.identity is not None:
            events = [self._event(item, 0, self.identity(item), arrival, scope, context) for item in items]
            return Decoded(tuple(events), tuple(scope.drift))
        if len(items) == 1:
            event = self._event(items[0], 0, payload.canonical, arrival, scope, context)
            return Decoded((event,), tuple(scope.drift))
        # Hashed once, else each id would hash the whole payload again.
        digest = hashlib.blake2b(payload.canonical).digest()
        events = [self._event(item, position, digest, arrival, scope, context) for position, item in enumerate(items)]
        return Decoded(tuple(events), tuple(scope.drift))

    def _event(
        self, item: Item, position: int, canonical: bytes, arrival: str, scope: Scope, context: DecodeContext
    ) -> Event:
        shape, fields, raw, place = item
        try:
            data = shape.normalise(fields, scope)
        except CallbackRejected as exc:
            if not place:
                raise
            raise CallbackRejected(exc.reason, f"{place}.{exc.field.partition('.')[2]}") from None
        subject = shape.subject(data)
        time = arrival
        for name in shape.time:
            if name in data:
                time = data[name]
                break
        data["raw"] = raw
        return Event(
            event_id(self.name, context.account, position, canonical),
            self.source,
            shape.type,
            shape.topic,
            subject,
            subject,
            time,
            arrival,
            data,
            context.account,
            schema_url(context.schema_base_url, shape.topic) if context.schema_base_url else shape.dataschema,
        )


def only(shape: Shape) -> Split:
    """The split of a callback with one shape and one item."""

    def split(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[Item]:
        return ((shape, payload.fields, payload.raw, ""),)

    return split
