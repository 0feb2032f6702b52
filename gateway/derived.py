"""Values derived from the configuration for the wired parts: folders, bounds, names, topics."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gateway import publisher
from gateway.config.settings import FAMILIES, Settings, Subscriber
from gateway.fanout import attempts
from gateway.log.journal import Retention
from gateway.log.kafka import KafkaOptions
from gateway.log.kafka.options import instance_id


def journal_folder(settings: Settings) -> Path:
    """Return where the journal is."""
    return Path(settings.journal.dir)


def retention(settings: Settings) -> Retention:
    """Return what the journal keeps."""
    kept = Retention(
        int(settings.journal.max_bytes),
        settings.journal.retention,
        ages={attempts.TOPIC: settings.admin.attempts_retention},
    )
    if settings.kafka is None:
        return kept
    # The topics keep what was published; here only what the window of known ids is rebuilt from.
    return replace(kept, protected=publisher.GROUP, publish_grace_records=settings.ingest.dedup_window)


def delivery_connections(subscribers: Sequence[Subscriber]) -> int:
    """Return how many connections to subscribers there can be at once."""
    return sum(one.concurrency for one in subscribers if one.kind == "webhook")


def event_topics(settings: Settings) -> list[str]:
    """Return the topics that events of this configuration can go to."""
    own = [row.topic or name for name, rows in settings.ingest.callbacks.items() for row in rows if row.decoder]
    return list(dict.fromkeys([*FAMILIES, *own]))


def kafka_options(settings: Settings, process: str) -> KafkaOptions | None:
    """Return how a process reaches Kafka; None without Kafka.

    Args:
        settings: the whole configuration.
        process: name of the process on this machine, such as ``deliver``.
    """
    kafka = settings.kafka
    if kafka is None:
        return None
    name = instance_id(kafka.instance_id, socket.gethostname(), settings.admin.port, process)
    return KafkaOptions.of(kafka, settings.topics, instance_id=name)
