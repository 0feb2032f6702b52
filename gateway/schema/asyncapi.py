"""AsyncAPI 3.0 of the topics (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

from __future__ import annotations

from typing import Any

from gateway import __version__
from gateway.config.settings import Settings
from gateway.event import CONTENT_TYPE
from gateway.schema.events import event_schemas, topics

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
