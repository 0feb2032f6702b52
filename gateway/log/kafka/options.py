"""Settings of all Kafka clients of the gateway: addresses, security, names of topics, time limits.

aiokafka's defaults wait 40 seconds for a request and for ever in ``stop()``; here every wait has a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiokafka import TopicPartition

from gateway.config.sections import Kafka, Topics
from gateway.log.kafka.aiokafka_workarounds import patch_clients
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
        patch_clients()
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

    def partition(self, name: str) -> TopicPartition:
        """Return the partition in Kafka of a partition's name, ``<topic>-<number>``."""
        topic, _, number = name.rpartition("-")
        return TopicPartition(self.kafka_name(topic), int(number))


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


@dataclass(frozen=True, slots=True)
class WriterPolicy:
    """Numbers of a writer.

    Args:
        max_batch_bytes: of one partition in one request. A quarter of a broker's default limit: above, little is
            gained per record; ten times less doubles the cost of a backlog.
        topic_bytes: records of one topic, waiting or on their way; past it the topic has no room.
        total_bytes: past it, of all topics together, each has ``least_bytes``.
        least_bytes: what a topic may hold whatever the others hold: one batch keeps a partition busy.
        stalled_s: without an acknowledgement for this long Kafka, or a topic, counts as away.
        rebootstrap_s: and for this long, we look whether a fresh client gets through.
        grace_s: if it does for this long, the producer is replaced; it is also the longest that a request takes
            whose connection died silently.
        settle_s: for answers to other partitions after a producer failed.
        resolve_s: for a topic's partitions.
        forget_s: after its last failure a topic's trouble is forgotten, when nothing waits for that topic any more.
        look_s: between looks at the above.
    """

    max_batch_bytes: int = 256 * 1024
    topic_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 16 * 1024 * 1024
    least_bytes: int = 256 * 1024
    stalled_s: float = 5.0
    rebootstrap_s: float = 45.0
    grace_s: float = 15.0
    settle_s: float = 3.0
    resolve_s: float = 3.0
    forget_s: float = 60.0
    look_s: float = 1.0
    close_s: float = 3.0


@dataclass(frozen=True, slots=True)
class ReaderPolicy:
    """Times of a reader, in seconds.

    Args:
        session_s: without a heartbeat for this long a member counts as dead, and others get its partitions.
        beat_s: between heartbeats: the group pauses until the last member has noticed that it must join again. Two
            small requests a second, for all subscribers.
        regroup_s: the group waits this long for a member to join again; less than the limit of a request.
        revoke_s: for ``on_revoked``, which its owner limits to 3.8 s.
        join_s: joining waits so long for partitions, then continues without.
        request_s: for one offset look-up or seek.
        probe_s: an idle reader checks after this time that Kafka is available.
        rebootstrap_s: unavailable for this long while a new client can connect: the consumer is replaced.
        close_s: for aiokafka's stop, which waits for others while the group assigns partitions.
        cut_s: for the work that this stop did not finish.
    """

    session_s: float = 15.0
    beat_s: float = 0.5
    regroup_s: float = 8.0
    revoke_s: float = 4.0
    join_s: float = 50.0
    request_s: float = 10.0
    probe_s: float = 10.0
    rebootstrap_s: float = 60.0
    close_s: float = 4.0
    cut_s: float = 2.0
    fetch_max_bytes: int = 4 * 1024 * 1024
    max_partition_fetch_bytes: int = 1024 * 1024

    @property
    def lease_s(self) -> float:
        """Time after its last heartbeat at which a member releases its partitions: before the group reassigns them.

        Cancelling attempts needs up to two seconds then, and the next owner of the partitions needs as long until its
        first attempt. If it were much earlier, all processes would release their partitions when a coordinator dies
        (nine seconds until another one replaces it).
        """
        return max(self.session_s * 0.8, self.session_s - 1.0)
