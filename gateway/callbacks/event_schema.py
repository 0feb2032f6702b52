"""A schema: the table of one kind of callback item. Code, JSON Schema and documents are derived from it.

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

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal, NamedTuple

from gateway.callbacks.field_mapping import Field, FieldMapping, object_schema
from gateway.callbacks.fields import Scope
from gateway.callbacks.meanings import MEANINGS
from gateway.errors import CallbackRejected
from gateway.event import schema_urn

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


#: Default reason of a rejection.
MISSING: Final = "the identifying field is missing or empty"

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
