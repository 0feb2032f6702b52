"""One callback of the vendor and the schemas of its items, from request to events. Pure: no clock, disk, HTTP library.

A schema is the table of one kind of item. Code, JSON Schema and documents are derived from it.
A further schema is a table and a line in ``CALLBACKS``::

    FAX = EventSchema(
        type="nxcloud.fax.dr", topic="fax.dr", title="Fax receipt", page=VendorPage("Fax Receipt Callback", "0"),
        required="fax_id", time=("done_at",),
        fields=(
            Field("fax_id", "faxId", identifier),
            *phone_number("to", "phone"),
            *coded("status", "status_code", "status", words({"1": "delivered", "2": "failed"}, MESSAGE_STATUS)),
            Field("price.unit", "price", money),
            Field("done_at", "finishTime", local_time),
        ),
    )
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import tzinfo
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from gateway.callbacks import times
from gateway.callbacks.answers import MISSING, Answers
from gateway.callbacks.field_mapping import Field, FieldMapping, object_schema
from gateway.callbacks.fields import MAX_ITEMS, Scope
from gateway.callbacks.payload import CallbackRequest, Layout, Payload, enclosed, read
from gateway.callbacks.vocabulary import MEANINGS
from gateway.errors import CallbackRejected
from gateway.event import Event, event_id, schema_url, schema_urn

#: Default of ``ingest.max_event_bytes``.
MAX_EVENT_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DecodeContext:
    """Configuration of a path that a decoder uses.

    The work on a callback is linear in its size, and its events fit into memory. A body of 1 MiB can contain 350,000
    items of three bytes, each an event of several hundred bytes, so the limits are checked before the work: items are
    counted before the first one is decoded. A callback above a limit is rejected: it is stored completely, and can be
    decoded again after the setting was raised.

    Args:
        zone: time zone of vendor times without one.
        account: name of the vendor account, part of each event and of its id; None if not configured.
        credential_fields: names of query and form fields with the gateway's own token. They are excluded from ``raw``,
            from ids, and from all stored data.
        own_numbers: the company's DID numbers, digits only. They distinguish a DID receipt from an incoming message if
            no signed header does (protocol.md, section 2).
        max_items: limit of items in one callback; with more it is rejected.
        max_event_bytes: limit of the total size of a callback's events, bytes; with more it is rejected.
        country: country code, digits, of phone numbers without one; empty if the path has no country.
        schema_base_url: address below which the topics' schemas are published, without a slash at its end; empty:
            events have the URN of their type.
    """

    zone: tzinfo = field(default_factory=lambda: ZoneInfo("Asia/Shanghai"))
    account: str | None = None
    credential_fields: frozenset[str] = frozenset()
    own_numbers: frozenset[str] = frozenset()
    max_items: int = MAX_ITEMS
    max_event_bytes: int = MAX_EVENT_BYTES
    country: str = ""
    schema_base_url: str = ""

    def check_items(self, count: int) -> None:
        """Check the number of items found so far.

        Raises:
            CallbackRejected: there are more than ``max_items``.
        """
        if count > self.max_items:
            raise CallbackRejected(
                f"more than {self.max_items} items in one callback, see the setting ingest.max_items"
            )

    def check_bytes(self, size: int) -> None:
        """Check the total size of the events so far, bytes.

        Raises:
            CallbackRejected: it is larger than ``max_event_bytes``.
        """
        if size > self.max_event_bytes:
            raise CallbackRejected(
                f"its events have more than {self.max_event_bytes} bytes, see the setting ingest.max_event_bytes"
            )


class Decoded(NamedTuple):
    """Result of decoding one request.

    Args:
        events: at least one, in the order sent; stored and answered as one unit.
        drift: short labels of data that protocol.md does not describe: ``field:<name>``, ``<field in data>:<code>``,
            ``value:<name>`` for an unreadable value, ``duplicate:<name>`` for a repeated name in a JSON object,
            ``query:<name>`` for a value that differs between query and body, ``charset:<name>`` for an undeclared
            character set, ``layout:<word>`` for an undocumented layout. At most 16.
    """

    events: tuple[Event, ...]
    drift: tuple[str, ...] = ()


Certainty = Literal["confirmed", "partial", "inferred"]


class VendorPage(NamedTuple):
    """A page of the vendor.

    Args:
        title: of the page.
        section: section of protocol.md about it.
        certainty: certainty of this section.
    """

    title: str
    section: str
    certainty: Certainty = "confirmed"


PostProcess = Callable[[dict[str, Any], Mapping[str, Any], Scope], None]


@dataclass(frozen=True, slots=True)
class EventSchema:
    """One kind of item.

    Args:
        type: event type.
        topic: topic of its family.
        title: name in documents.
        page: the vendor's page.
        fields: the table.
        required: names in ``data`` of which at least one has to be present; otherwise the callback is rejected.
        key: names in ``data``; the first present one is ``subject`` and ``partitionkey``. Default: ``required``.
        time: names in ``data``; the first present one is the event's ``time``. Without one it is the time of arrival.
        constants: members of ``data`` with the same value in each event of this schema.
        known: vendor fields without a line, see :class:`FieldMapping`.
        post_process: functions that set members that depend on several fields, called in order with ``data``, the
            vendor's fields and the scope.
    """

    type: str
    topic: str
    title: str
    _: KW_ONLY
    page: VendorPage
    fields: tuple[Field, ...]
    required: str | tuple[str, ...]
    key: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    post_process: tuple[PostProcess, ...] = ()
    mapping: FieldMapping = field(init=False, repr=False, compare=False)
    dataschema: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mapping", FieldMapping(self.fields, self.known))
        object.__setattr__(self, "dataschema", schema_urn(self.type))
        if not self.key:
            object.__setattr__(self, "key", (self.required,) if isinstance(self.required, str) else self.required)

    def normalise(self, source: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Convert the vendor's fields to ``data``, without ``raw``.

        Args:
            source: the vendor's fields.
            scope: of the callback.

        Raises:
            CallbackRejected: the identifying field is missing; the error names the vendor's field.
        """
        data = dict(self.constants)
        self.mapping.run(source, data, scope)
        required = self.required
        if required not in data if type(required) is str else not any(lookup(data, name) for name in required):
            raise CallbackRejected(MISSING, self.vendor_name())
        for step in self.post_process:
            step(data, source, scope)
        return data

    def subject(self, data: Mapping[str, Any]) -> str:
        """Return the event's subject."""
        for name in self.key:
            value = data.get(name) or lookup(data, name)
            if value:
                return str(value)
        raise CallbackRejected(MISSING, self.vendor_name())

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of ``data``."""
        made = object_schema(self.fields)
        fixed = {name: _constant(name, value) for name, value in self.constants.items()}
        required = [self.required] if isinstance(self.required, str) else []
        return {
            "title": self.title,
            "description": f'{self.title}. Vendor page: "{self.page.title}".',
            "type": "object",
            "properties": {**made["properties"], **fixed, "raw": {"description": MEANINGS["raw"]}},
            "required": [*fixed, *required, "raw"],
        }

    def vendor_name(self) -> str:
        """Return the vendor's name of the identifying field."""
        names = (self.required,) if isinstance(self.required, str) else self.required
        return next(line.sources[0] for line in self.fields if line.name in names and line.sources[0])


def _constant(name: str, value: Any) -> dict[str, Any]:
    kind = "boolean" if isinstance(value, bool) else "string"
    return {"type": kind, "const": value, "description": MEANINGS[name]}


def lookup(data: Mapping[str, Any], name: str) -> Any:
    """Return a member of ``data`` by its name, such as ``a.b``; None if it is absent."""
    group, _, member = name.rpartition(".")
    holder = data.get(group) if group else data
    return holder.get(member) if isinstance(holder, dict) else None


#: One item: the schema that reads it, the vendor's fields with the names of its table, ``data.raw``, and its place in
#: the body, such as ``statuses[1]``, for errors (empty for the whole body).
RawItem = tuple[EventSchema, dict[str, Any], Any, str]


#: Splits a payload into items, whose schemas it selects by content, in the order sent; notes drift in the scope.
Classify = Callable[[Payload, CallbackRequest, DecodeContext, Scope], Sequence[RawItem]]


@dataclass(frozen=True, slots=True)
class Callback:
    """One built-in callback.

    Args:
        name: name in its path and in the ``source`` of its events.
        title: name in documents.
        layout: the documented layout, ``form`` or ``json``; the other one is decoded too.
        answers: creates the answers.
        schemas: all kinds of items.
        classify: makes the items of a request, with their schemas; None: one item of the only schema.
        signature: the vendor's signature scheme that a request may have, or None.
        identity: computes the part of an item that its id is derived from, if a repeat may differ in bytes; None: the
            whole payload and the item's position.
    """

    name: str
    title: str
    layout: Layout
    answers: Answers
    schemas: tuple[EventSchema, ...]
    classify: Classify | None = None
    signature: Literal["general", "callbot"] | None = None
    identity: Callable[[RawItem], bytes] | None = None
    source: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", f"/nxcloud/{self.name}")

    @property
    def methods(self) -> frozenset[str]:
        """POST, and GET for forms: a page shows a bare URL with no method (protocol.md, section 1)."""
        return frozenset({"POST", "GET"}) if self.layout == "form" else frozenset({"POST"})

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of its events."""
        return tuple(dict.fromkeys(schema.topic for schema in self.schemas))

    @property
    def types(self) -> tuple[str, ...]:
        """The types of its events."""
        return tuple(dict.fromkeys(schema.type for schema in self.schemas))

    @property
    def certainty(self) -> Certainty:
        """The lowest certainty of its schemas."""
        return max((schema.page.certainty for schema in self.schemas), key=("confirmed", "partial", "inferred").index)

    def decode(self, request: CallbackRequest, context: DecodeContext) -> Decoded:
        """Decode one request to events, in the order sent. A repeat of the request gets the same ids.

        Args:
            request: the authentic part of the request.
            context: configuration of the path.

        Raises:
            CallbackRejected: an identifying field is missing, the format is wrong, the schema is unknown, or there are
                too many items.
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

    def items(
        self, payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope
    ) -> Sequence[RawItem]:
        """Return the items of a payload, in the order sent; arguments as of :data:`Classify`."""
        if self.classify is None:
            return ((self.schemas[0], payload.fields, payload.raw, ""),)
        return self.classify(payload, request, context, scope)

    def _decoded(self, payload: Payload, request: CallbackRequest, context: DecodeContext) -> Decoded:
        scope = scope_of(payload, context)
        items = self.items(payload, request, context, scope)
        if not items:
            raise CallbackRejected("no item in it is of a known shape")
        context.check_items(len(items))
        arrival = times.recorded(request.received_at)
        if self.identity is not None:
            events = [self._event(item, 0, self.identity(item), arrival, scope, context) for item in items]
            return Decoded(tuple(events), tuple(scope.drift))
        if len(items) == 1:
            event = self._event(items[0], 0, payload.canonical, arrival, scope, context)
            return Decoded((event,), tuple(scope.drift))
        # Hashed once; otherwise each id would hash the whole payload again.
        digest = hashlib.blake2b(payload.canonical).digest()
        events = [self._event(item, position, digest, arrival, scope, context) for position, item in enumerate(items)]
        return Decoded(tuple(events), tuple(scope.drift))

    def _event(
        self, item: RawItem, position: int, canonical: bytes, arrival: str, scope: Scope, context: DecodeContext
    ) -> Event:
        schema, fields, raw, place = item
        try:
            data = schema.normalise(fields, scope)
        except CallbackRejected as exc:
            if not place:
                raise
            raise CallbackRejected(exc.reason, f"{place}.{exc.field.partition('.')[2]}") from None
        subject = schema.subject(data)
        time = arrival
        for name in schema.time:
            if name in data:
                time = data[name]
                break
        data["raw"] = raw
        return Event(
            event_id(self.name, context.account, position, canonical),
            self.source,
            schema.type,
            schema.topic,
            subject,
            subject,
            time,
            arrival,
            data,
            context.account,
            schema_url(context.schema_base_url, schema.topic) if context.schema_base_url else schema.dataschema,
        )


def one_item(select: Callable[[Payload], EventSchema]) -> Classify:
    """Return a classification for callbacks with one item, whose schema ``select`` chooses by its fields."""

    def classify(payload: Payload, request: CallbackRequest, context: DecodeContext, scope: Scope) -> Sequence[RawItem]:
        return ((select(payload), payload.fields, payload.raw, ""),)

    return classify


def scope_of(payload: Payload, context: DecodeContext) -> Scope:
    """Return the state of a conversion, with what parsing has found."""
    scope = Scope(context.zone, context.max_items, context.country)
    for name in payload.duplicates:
        scope.note("duplicate", name)
    for kind, value in payload.notes:
        scope.note(kind, value)
    return scope
