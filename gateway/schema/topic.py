"""JSON Schema of a topic: a union of its event types, distinguished by ``type``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.schema.events import Schema, event_schemas, topics

#: The schemas use only keywords that draft 7 and draft 2020-12 have in common. Registries support draft 7 best:
#: Apicurio 3.0 does not check compatibility in the newer draft.
DRAFT: Final = "http://json-schema.org/draft-07/schema#"


def topic_schemas(other_topics: Mapping[str, Sequence[str]] | None = None) -> dict[str, Schema]:
    """Return the schema of each topic by its name, without a prefix.

    Args:
        other_topics: configured topics of other senders' callbacks, with their event types.
    """
    schemas = event_schemas()
    found = {topic: _union(topic, [schemas[kind] for kind in kinds]) for topic, kinds in topics().items()}
    for topic, kinds in (other_topics or {}).items():
        # A callback of another sender may share a topic with built-in ones.
        known = found[topic]["oneOf"] if topic in found else []
        found[topic] = _union(topic, [*known, *(_foreign(kind) for kind in kinds)])
    return found


def _union(topic: str, schemas: Iterable[Schema]) -> Schema:
    one_of = list(schemas)
    kinds = [schema["properties"]["type"]["const"] for schema in one_of]
    return {
        "$schema": DRAFT,
        "title": f"Events of the topic {topic}",
        "type": "object",
        "properties": {"type": {"enum": kinds}},
        "required": ["type"],
        "oneOf": one_of,
    }


def _foreign(kind: str) -> Schema:
    """Return the schema of another sender's event: the gateway's attributes, and the sender's fields in ``data``."""
    attributes: dict[str, Any] = dict(next(iter(event_schemas().values()))["properties"])
    data: Schema = {"type": "object", "properties": {"raw": {"description": "The sender's fields as received"}}}
    attributes |= {"type": {"const": kind}, "source": {"type": "string", "format": "uri-reference"}, "data": data}
    required = [name for name in attributes if name not in ("account", "dataschema")]
    return {"title": kind, "type": "object", "properties": attributes, "required": required}
