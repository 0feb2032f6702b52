"""JSON Schema of every event type and topic, and AsyncAPI of the topics, from the schema tables of the callbacks.

The schemas use only keywords that draft 7 and draft 2020-12 have in common, so AsyncAPI and OpenAPI contain the same
schema. AsyncAPI 3.0: https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway import __version__
from gateway.callbacks import CALLBACKS, rejected
from gateway.config.settings import Settings
from gateway.event import CONTENT_TYPE

Schema = dict[str, Any]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
#: The schemas use only keywords that draft 7 and draft 2020-12 have in common. Registries support draft 7 best:
#: Apicurio 3.0 does not check compatibility in the newer draft.
_TOPIC_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_DESCRIPTIONS = {
    "sms.dr": "Final states of sent SMS",
    "call.event": "Calls: records and live states",
    "order.status": "Finished orders, each with its last call, which `call.event` has, too: do not add both up",
    "task.status": "Dialling tasks changing state",
    "message.incoming": "Messages from customers",
    "message.status": "Progress of sent messages",
    "channel.event": "Templates, accounts and numbers of a channel",
    "number.check": "Results of number checks",
    "verify.status": "One-click logins",
    "email.dr": "Receipts of verification mails",
    "callbacks.rejected": "Authentic callbacks that were not understood, kept whole",
}


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
        "$schema": _TOPIC_DRAFT,
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


def asyncapi(settings: Settings) -> dict[str, Any]:
    """Return the AsyncAPI document with the topic names and brokers of a configuration."""
    schemas = event_schemas()
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "id": "urn:nxcloud-gateway:topics",
        "info": {
            "title": "NXCloud gateway: topics",
            "version": __version__,
            "description": "Events as CloudEvents 1.0. Delivery is at least once: drop repeats by `id`. Events of one "
            "`partitionkey`, which is the record's key, keep their order.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic: _channel(topic, types, settings) for topic, types in topics().items()},
        "operations": {
            f"publish.{topic}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": _DESCRIPTIONS.get(topic, topic),
            }
            for topic in topics()
        },
        "components": {
            "messages": {event_type: _message(event_type, schema) for event_type, schema in schemas.items()},
            "schemas": schemas,
        },
    }
    if settings.kafka is not None:
        document["servers"] = {
            f"broker{position}": {"host": server, "protocol": _protocol(settings)}
            for position, server in enumerate(settings.kafka.bootstrap_servers)
        }
    return document


def _channel(topic: str, types: list[str], settings: Settings) -> dict[str, Any]:
    kafka = settings.kafka
    channel: dict[str, Any] = {
        "address": f"{settings.topics.prefix}{topic}",
        "description": _DESCRIPTIONS.get(topic, topic),
        "messages": {one: {"$ref": f"#/components/messages/{one}"} for one in types},
    }
    if kafka is not None:
        channel["bindings"] = {"kafka": {"partitions": kafka.partitions, "replicas": kafka.replication_factor}}
    return channel


def _message(event_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": event_type,
        "title": schema["title"],
        "contentType": CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{event_type}"},
        "correlationId": {"location": "$message.payload#/id"},
        "bindings": {"kafka": {"key": {"type": "string", "description": "The event's partitionkey"}}},
    }


def _protocol(settings: Settings) -> str:
    assert settings.kafka is not None
    return "kafka-secure" if settings.kafka.security.protocol.endswith("SSL") else "kafka"
