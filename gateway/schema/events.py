"""JSON Schema of every event type, from the schema tables of the callbacks.

The schemas use only keywords that draft 7 and draft 2020-12 have in common, so AsyncAPI and OpenAPI contain the same
schema.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.callbacks import CALLBACKS, rejected

Schema = dict[str, Any]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_TIME: Final[Schema] = {"type": "string", "format": "date-time"}


def event_schemas() -> dict[str, Schema]:
    """Return the schema of a whole event by event type, in the order of the callbacks; the rejected one is last."""
    found: dict[str, Schema] = {}
    for callback in CALLBACKS.values():
        for schema in callback.schemas:
            data = schema.json_schema()
            if schema.type in found:
                data = _either(found[schema.type]["properties"]["data"], data)
            sources = [f"/nxcloud/{name}" for name in _callbacks_with(schema.type)]
            found[schema.type] = _event(schema.type, schema.title, sources, data)
    found[rejected.TYPE] = _event(rejected.TYPE, "Callback not understood", None, dict(rejected.SCHEMA))
    return found


def topics() -> dict[str, list[str]]:
    """Return the event types of each topic; topic names have no prefix."""
    found: dict[str, list[str]] = {}
    for schema in (one for callback in CALLBACKS.values() for one in callback.schemas):
        types = found.setdefault(schema.topic, [])
        if schema.type not in types:
            types.append(schema.type)
    found[rejected.TOPIC] = [rejected.TYPE]
    return found


def _callbacks_with(event_type: str) -> list[str]:
    return [callback.name for callback in CALLBACKS.values() if event_type in callback.types]


def _event(event_type: str, title: str, sources: list[str] | None, data: Schema) -> Schema:
    source: Schema = {"type": "string", "format": "uri-reference"}
    if sources is not None:
        source = {"enum": sources} if len(sources) > 1 else {"const": sources[0]}
    properties: Schema = {
        "specversion": {"const": "1.0"},
        "id": {
            "type": "string",
            "pattern": "^[0-9a-f]{32}$",
            "description": "The same callback again gives the same id: drop repeats by it",
        },
        "source": source,
        "type": {"const": event_type},
        "subject": {"type": "string", "minLength": 1, "description": "What it is about"},
        "time": {
            **_TIME,
            "description": "When it happened, according to the sender; arrival where the sender gives none. UTC",
        },
        "recordedtime": {**_TIME, "description": "When it arrived, UTC"},
        "partitionkey": {"type": "string", "minLength": 1, "description": "Events of one key keep their order"},
        "account": {"type": "string", "description": "The vendor account, where one is configured for the path"},
        "dataschema": {
            "type": "string",
            "format": "uri",
            "description": "Names the schema: an address below `topics.schema_base_url`, else a urn",
        },
        "datacontenttype": {"const": "application/json"},
        "data": data,
    }
    required = [name for name in properties if name != "account"]
    return {"title": title, "type": "object", "properties": properties, "required": required}


def _either(one: Schema, other: Schema) -> Schema:
    """Return the schema of an event type that two callbacks, or two schemas of one callback, produce."""
    known = one.get("anyOf", [one])
    return one if other in known else {"anyOf": [*known, other]}
