"""Settings of all Kafka clients of the gateway: addresses, security, names of topics, time limits.

aiokafka's defaults wait 40 seconds for a request and for ever in ``stop()``; here every wait has a limit.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.config.kafka_settings import Kafka, Topics
from gateway.log.kafka.metadata import forbid_topic_creation
from gateway.log.kafka.observed_client import observe_clients
from gateway.log.kafka.record_format import schema_id_header
from gateway.log.kafka.security import client_arguments

#: A request to a broker. A hung broker (connection open, no answer) is noticed after this; ten times less would
#: mistake a broker that waits for its replicas for a dead one.
REQUEST_S: Final = 10.0
#: Connecting a client: addresses, handshake, metadata, and for a producer its id.
OPEN_S: Final = 15.0
#: Metadata is fetched again after this: new partitions and moved leaders are noticed without an error.
METADATA_AGE_S: Final = 60.0
#: Setting of topics that the gateway creates, unless ``kafka.topic_config`` has it. An event contains a callback's body
#: twice, as fields and raw; Kafka's own limit (1 MB) would refuse some events of bodies of the 1 MiB that
#: ``ingest.max_body_bytes`` accepts.
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The ``kafka`` and ``topics`` sections, ready for use.

    Args:
        bootstrap_servers: ``host:port``, at least one.
        security: arguments of aiokafka's clients, see :func:`gateway.log.kafka.security.client_arguments`.
        prefix: before every topic's and group's name in Kafka.
        topic_config: settings of topics that the gateway creates, in Kafka's names.
        compression: codec of the record batches that the gateway writes; None for none.
        isolation_level: of consumers, in Kafka's words.
        schema_ids: the header with the id of a topic's schema, by topic; none for others.
        client_id: the gateway's name in logs and quotas of brokers.
        session_s: without a heartbeat for this long a member counts as dead, and others get its partitions.
        instance_id: name of this process in its group, over restarts; empty: it leaves the group when it stops.
    """

    bootstrap_servers: tuple[str, ...]
    security: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    partitions: int = 6
    replication_factor: int = 1
    create_topics: bool = True
    topic_config: Mapping[str, str] = field(default_factory=dict)
    cloudevents: Literal["structured", "binary"] = "structured"
    compression: Literal["gzip", "snappy", "lz4", "zstd"] | None = None
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    schema_ids: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    client_id: str = "nxcloud-gateway"
    session_s: float = 15.0
    instance_id: str = ""

    @classmethod
    def of(cls, kafka: Kafka, topics: Topics | None = None, *, instance_id: str = "") -> KafkaOptions:
        """Return the options of a configuration. It reads certificate files.

        Args:
            kafka: section ``kafka``.
            topics: section ``topics``; None for its defaults.
            instance_id: see :func:`instance_id`.

        Raises:
            ConfigError: a file of ``kafka.security`` cannot be used.
        """
        return cls(
            bootstrap_servers=tuple(kafka.bootstrap_servers),
            security=client_arguments(kafka.security),
            prefix=topics.prefix if topics else "",
            partitions=kafka.partitions,
            replication_factor=kafka.replication_factor,
            create_topics=kafka.create_topics,
            topic_config={
                "max.message.bytes": str(MAX_MESSAGE_BYTES),
                **{name: str(value) for name, value in kafka.topic_config.items()},
            },
            cloudevents=kafka.cloudevents,
            compression=None if kafka.compression == "none" else kafka.compression,
            isolation_level=kafka.isolation_level,
            schema_ids={topic: schema_id_header(registered) for topic, registered in kafka.schema_ids.items()},
            session_s=kafka.session_timeout,
            instance_id=instance_id,
        )

    def client(self) -> dict[str, Any]:
        """Return the common arguments of aiokafka's producer, consumer and admin client."""
        forbid_topic_creation()
        observe_clients()
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "request_timeout_ms": int(REQUEST_S * 1000),
            "metadata_max_age_ms": int(METADATA_AGE_S * 1000),
            **self.security,
        }

    def consumer(self) -> dict[str, Any]:
        """Return the arguments of aiokafka's consumers: the common ones, and how records of transactions are read."""
        return {**self.client(), "enable_auto_commit": False, "isolation_level": self.isolation_level}

    def kafka_name(self, topic: str) -> str:
        """Return the name in Kafka of a family's or internal topic."""
        return self.prefix + topic

    def own_name(self, kafka_name: str) -> str:
        """Return the topic of a name in Kafka, the inverse of :meth:`kafka_name`."""
        return kafka_name.removeprefix(self.prefix)


def instance_id(configured: str, host: str, admin_port: int, process: str) -> str:
    """Return the name of a process in its consumer group, over restarts.

    Two processes of one name would fence each other. So it contains what exists only once on a host: the admin port,
    and the number of the process among those that share the port.

    Args:
        configured: ``kafka.instance_id``; if empty, the name has the next two.
        host: the host's name.
        admin_port: 0 is another port at each start, and gives no name.
        process: such as ``deliver`` or ``deliver-1``.

    Returns:
        The name, of characters that Kafka accepts; empty if there is no lasting name.
    """
    if not configured and not admin_port:
        return ""
    name = configured or re.sub(r"[^a-zA-Z0-9._-]", "-", f"{host[:180]}-{admin_port}")
    _, _, number = process.rpartition("-")
    return f"{name}-{number}" if number.isdigit() else name


@dataclass(slots=True)
class Backoff:
    """Growing pauses with jitter between attempts, ``first_s`` up to ``last_s`` seconds."""

    first_s: float = 0.2
    last_s: float = 5.0
    _next_s: float = 0.0

    def next_s(self) -> float:
        """Return the pause before the next attempt, seconds: half fixed, half random, so that clients are spread."""
        self._next_s = min(max(self._next_s * 2, self.first_s), self.last_s)
        return self._next_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again with the shortest pause, after a success."""
        self._next_s = 0.0


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Run a client's ``stop()`` or similar work for a limited time, then cancel it; return whether it ended itself.

    Its errors are of no use to anyone who wants it gone, and are dropped. When we are cancelled, so is it.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        is_done = task.done()
        if not is_done:
            task.cancel()
    with suppress(Exception, asyncio.CancelledError):
        if is_done:
            task.result()
    return is_done
