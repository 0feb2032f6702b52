"""JSON Schema of a topic: every event that can come from it, told apart by ``type``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.schema.events import Schema, event_schemas, topics

#: The schemas use only keywords that draft 7 and draft 2020-12 share. Registries know draft 7 best: Apicurio 3.0 checks
#: no compatibility in the newer one.
DRAFT: Final = "http://json-schema.org/draft-07/schema#"


def topic_schemas(other_topics: Mapping[str, Sequence[str]] | None = None) -> dict[str, Schema]:
    """Return the schema of each topic by its name, without a prefix.

    Args:
        other_topics: topics of other senders' callbacks that the configuration adds, with their event types.
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
    """Return the schema of an event of another sender: our attributes, and in ``data`` what the sender sent."""
    attributes: dict[str, Any] = dict(next(iter(event_schemas().values()))["properties"])
    data: Schema = {"type": "object", "properties": {"raw": {"description": "The sender's fields as received"}}}
    attributes |= {"type": {"const": kind}, "source": {"type": "string", "format": "uri-reference"}, "data": data}
    required = [name for name in attributes if name not in ("account", "dataschema")]
    return {"title": kind, "type": "object", "properties": attributes, "required": required}
