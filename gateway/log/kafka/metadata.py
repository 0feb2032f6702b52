"""Metadata requests of our clients do not create topics.

A broker with ``auto.create.topics.enable`` (Kafka's default) creates a topic when a client asks for its metadata,
unless the request says otherwise (KIP-361, ``allow_auto_topic_creation`` of Metadata version 4). aiokafka 0.14 speaks
version 5, always sends ``true``, and has no option for it: a mistyped name in ``gateway tail`` or in a subscriber would
leave a topic behind. Topics are created by :func:`gateway.log.kafka.topics.create` alone.

To be removed with the version of aiokafka that has an option like Kafka's ``allow.auto.create.topics``.
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
    """Make aiokafka's clients of this process, present and later ones, ask without creating. May be called again."""
    modules: tuple[Any, ...] = (aiokafka.client, aiokafka.admin.client)
    for module in modules:
        module.MetadataRequest = _WithoutCreation
