"""Metadata requests of the gateway's clients that do not create topics.

A broker with ``auto.create.topics.enable`` (Kafka's default) creates a topic when a client asks for its metadata,
unless the request forbids it (KIP-361, ``allow_auto_topic_creation`` of Metadata version 4). aiokafka 0.14 uses
version 5, always sends ``true``, and has no option for it: a mistyped name in ``gateway tail`` or in a subscriber would
create a topic. Only :func:`gateway.log.kafka.topics.create` creates topics.

Remove this module with the version of aiokafka that has an option like Kafka's ``allow.auto.create.topics``.
"""

from __future__ import annotations

from typing import Any

import aiokafka.admin.client
import aiokafka.client
from aiokafka.protocol.metadata import MetadataRequest


class _WithoutCreation(MetadataRequest):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


def forbid_topic_creation() -> None:
    """Make all present and later clients of this process send requests that create no topic. May be called again."""
    modules: tuple[Any, ...] = (aiokafka.client, aiokafka.admin.client)
    for module in modules:
        module.MetadataRequest = _WithoutCreation
