"""What every Kafka client of ours is made with: addresses, security, names of topics, deadlines.

aiokafka's defaults wait 40 seconds for a request and for ever in ``stop()``; here every wait has a bound.
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
#: Metadata is fetched anew after this: new partitions and moved leaders are noticed without an error.
METADATA_AGE_S: Final = 60.0
#: Of topics we create, unless ``kafka.topic_config`` says otherwise. An event holds a callback's body twice, as fields
#: and raw; of the 1 MiB that ``ingest.max_body_bytes`` lets in, Kafka's own limit (1 MB) would refuse some.
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The ``kafka`` and ``topics`` sections, ready for use.

    Args:
        bootstrap_servers: ``host:port``, at least one.
        security: arguments of aiokafka's clients, see :func:`gateway.log.kafka.security.client_arguments`.
        prefix: before every topic's and group's name in Kafka.
        topic_config: settings of topics we create, in Kafka's names.
        compression: codec of the record batches that we write; None for none.
        isolation_level: of consumers, in Kafka's words.
        schema_ids: the header with the id of a topic's schema, by topic; none for others.
        client_id: how brokers name us in their logs and quotas.
        session_s: without a heartbeat for this long a group takes a member for dead, and its partitions go to others.
        instance_id: names this process in its group, over restarts; empty: it leaves the group when it stops.
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
        """From the configuration. Reads certificate files.

        Args:
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
        """Arguments that aiokafka's producer, consumer and admin client share."""
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
        """Arguments of aiokafka's consumers: those of all clients, and how records of transactions are read."""
        return {**self.client(), "enable_auto_commit": False, "isolation_level": self.isolation_level}

    def kafka_name(self, topic: str) -> str:
        """A family's or internal topic's name in Kafka."""
        return self.prefix + topic

    def own_name(self, kafka_name: str) -> str:
        """The way back from :meth:`kafka_name`."""
        return kafka_name.removeprefix(self.prefix)


def instance_id(configured: str, host: str, admin_port: int, process: str) -> str:
    """Return what names a process in its consumer group, over restarts.

    Two processes of one name would put each other out. So it has in it what can be there only once: the admin port, and
    the number of the process among those that share it.

    Args:
        configured: ``kafka.instance_id``; empty: made of the next two.
        host: the host's name.
        admin_port: 0 is another one at each start, and makes no name.
        process: such as ``deliver`` or ``deliver-1``.

    Returns:
        Of characters that Kafka takes; empty where there is no lasting name.
    """
    if not configured and not admin_port:
        return ""
    name = configured or re.sub(r"[^a-zA-Z0-9._-]", "-", f"{host[:180]}-{admin_port}")
    _, _, number = process.rpartition("-")
    return f"{name}-{number}" if number.isdigit() else name


@dataclass(slots=True)
class Backoff:
    """Growing pauses with jitter between tries: ``first_s`` up to ``last_s``."""

    first_s: float = 0.2
    last_s: float = 5.0
    _next_s: float = 0.0

    def next_s(self) -> float:
        """The pause before the next try: half of it fixed, half of it random, so that clients do not march in step."""
        self._next_s = min(max(self._next_s * 2, self.first_s), self.last_s)
        return self._next_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """A try succeeded."""
        self._next_s = 0.0


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Run a client's ``stop()`` or the like for at most so long, then cancel it; tells whether it ended by itself.

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
