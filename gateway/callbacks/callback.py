"""A callback: one path of the vendor's pushes, from request to events. Pure: no clock, no disk, no HTTP library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from gateway.callbacks import times
from gateway.callbacks.answers import Answers
from gateway.callbacks.fields import Scope
from gateway.callbacks.payload import Layout, Payload, read
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.shape import Certainty, Shape
from gateway.errors import CallbackRejected
from gateway.event import Event, event_id


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """What a path's configuration says about the callbacks that come in by it.

    Args:
        zone: of vendor times that carry none.
        account: name of the vendor account, part of each event and of its id; None where none is configured.
        credential_fields: names of query and form fields that hold the gateway's own token. They are no part of
            ``raw``, of ids, or of anything stored.
        own_numbers: our DID numbers, digits only. They tell a DID receipt from an incoming message where the
            callback does not (protocol.md, section 2).
    """

    zone: tzinfo = field(default_factory=lambda: ZoneInfo("Asia/Shanghai"))
    account: str | None = None
    credential_fields: frozenset[str] = frozenset()
    own_numbers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one request became.

    Args:
        events: at least one, in the order sent; stored and answered as one unit.
        drift: short labels of what protocol.md does not know: ``field:<name>``, ``<our field>:<code>``,
            ``value:<name>`` for a value that could not be read. At most 16.
    """

    events: tuple[Event, ...]
    drift: tuple[str, ...] = ()


class Item(NamedTuple):
    """One future event.

    Args:
        shape: which table reads it.
        fields: the vendor's fields, as the shape's table names them.
        raw: for ``data.raw``.
        place: where in the body it stood, such as ``statuses[1]``, in place of the path's first name in errors.
    """

    shape: Shape
    fields: dict[str, Any]
    raw: Any
    place: str = ""


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
    """

    name: str
    title: str
    layout: Layout
    answers: Answers
    signature: Literal["general", "callbot"] | None
    shapes: tuple[Shape, ...]
    split: Split

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
            CallbackRejected: a missing identifying field, not the declared format, an unknown shape.
        """
        try:
            payload = read(request, self.layout, context.credential_fields)
            scope = Scope(context.zone)
            items = self.split(payload, request, context, scope)
            canonical = payload.canonical
            if len(items) != 1:
                if not items:
                    raise CallbackRejected("no item in it is of a known shape")
                # Else each id would hash the whole payload again.
                canonical = hashlib.blake2b(canonical).digest()
            arrival = times.utc(request.received_at, "microseconds")
            source = f"/nxcloud/{self.name}"
            events = []
            for position, (shape, fields, raw, place) in enumerate(items):
                data = _normalised(shape, fields, scope, place)
                subject = shape.subject(data)
                time = arrival
                for name in shape.time:
                    if name in data:
                        time = data[name]
                        break
                data["raw"] = raw
                events.append(
                    Event(
                        id=event_id(self.name, context.account, position, canonical),
                        source=source,
                        type=shape.type,
                        topic=shape.topic,
                        subject=subject,
                        partitionkey=subject,
                        time=time,
                        recordedtime=arrival,
                        data=data,
                        account=context.account,
                    )
                )
            return Decoded(tuple(events), tuple(scope.drift))
        except RecursionError as exc:
            raise CallbackRejected("nested too deeply") from exc


def only(shape: Shape) -> Split:
    """The split of a callback with one shape and one item."""

    def split(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[Item]:
        return (Item(shape, payload.fields, payload.raw),)

    return split


def _normalised(shape: Shape, fields: dict[str, Any], scope: Scope, place: str) -> dict[str, Any]:
    try:
        return shape.normalise(fields, scope)
    except CallbackRejected as exc:
        if not place:
            raise
        raise CallbackRejected(exc.reason, f"{place}.{exc.field.partition('.')[2]}") from None
