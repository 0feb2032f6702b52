"""Topics: create and list them, wait for missing ones, distinguish one from a later one of the same name.

They are created by ``gateway topics create``, at start, and ``dlq.<subscriber>`` with its first record. The functions
that do so raise ``KafkaAway`` if Kafka cannot be reached, or refuses.

Kafka gives each topic an id at its creation (KIP-516, Kafka 2.8). An incarnation is ``<cluster id>/<topic id>``. It is
stored in the metadata of committed offsets. It has the cluster id because tools that copy a group to another cluster
(MirrorMaker 2) copy the metadata too, and the topic there is another one with translated offsets: incarnations of two
clusters cannot be compared. A broker without ids returns no incarnation, and nothing is concluded.
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import structlog
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.clock import within
from gateway.config.settings import FAMILIES
from gateway.config.values import suggestion
from gateway.log.kafka.errors import (
    CLIENT_ERRORS,
    TOO_OLD,
    UNKNOWN_TOPIC,
    KafkaAway,
    Problem,
    away,
    first_word,
    problem_of,
)
from gateway.log.kafka.options import OPEN_S, KafkaOptions
from gateway.log.kafka.outage import limit_logs
from gateway.log.kafka.requests import NO_ID, topic_ids
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: For one request to the controller; a cluster that elects one takes some seconds.
_REQUEST_S: Final = 15.0
_CLOSE_S: Final = 2.0
#: Between checks of topics that do not exist, at least; aiokafka checks only once a minute.
_LOOK_S: Final = 5.0
#: The same for each topic: the answer has each of them, and hundreds (of dead letters) cost a percent of a processor.
_LOOK_EACH_S: Final = 0.05
#: The same for a topic that this process has just created: the brokers learn of it one after the other.
_SOON_S: Final = 0.2
#: Topics of the gateway itself that hold no events: attempts, subscribers and their states, the audit record.
OWN_STATE: Final = "fanout."
#: Of these the last record of a key counts, whatever its age.
COMPACTED: Final = frozenset({"fanout.state", "fanout.subscribers"})
#: Most installations never write one of these.
_RARE: Final = frozenset({"fanout.replays", "fanout.subscribers", "fanout.audit"})
_OWN_PREFIXES: Final = ("retry.", "replay.", "dlq.", OWN_STATE)
#: How long :meth:`TopicIds.recent` uses an answer; a recreated topic is noticed within it and a fetch. One request each
#: time for all readers of a log; a tenth would cost a percent of a processor with hundreds of topics.
MAX_AGE_S: Final = 3.0
#: For one such request: reading continues without an answer, because other parts notice an outage.
ASK_S: Final = 2.0
_MARK: Final = "topic-id:"
#: No error, and a partition without a leader (LEADER_NOT_AVAILABLE), which does not concern the topic.
_KNOWN: Final = (0, 5)


def is_own(topic: str) -> bool:
    """Return whether a topic is the gateway's own, and not one of events."""
    return topic.startswith(_OWN_PREFIXES) or topic == "replay"


def is_created_by_writing(topic: str) -> bool:
    """Return whether a topic is there from its first record on, and holds nothing until then."""
    return topic.startswith("dlq.") or topic in _RARE


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic as the cluster has it.

    Args:
        name: without the prefix.
        kafka_name: with it.
        partitions: their number.
        replication_factor: the least of its partitions.
        under_replicated: partitions with fewer replicas in sync than they should have.
        leaderless: partitions that cannot be written or read now.
    """

    name: str
    kafka_name: str
    partitions: int
    replication_factor: int
    under_replicated: int
    leaderless: int


@asynccontextmanager
async def admin(options: KafkaOptions) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client for a short job."""
    limit_logs()
    client = AIOKafkaAdminClient(**options.client())
    try:
        try:
            async with asyncio.timeout(OPEN_S):
                await client.start()
            yield client
        except CLIENT_ERRORS as exc:
            raise away(exc, "Kafka", client._client) from exc
    finally:
        await within(_CLOSE_S, client.close())


async def create(options: KafkaOptions, topics: Collection[str]) -> list[str]:
    """Create those that are not there yet, with the configured partitions, replication and settings.

    Returns the names of those that were created. A topic that is there is left as it is, whatever its partitions.
    """
    wanted = [
        NewTopic(
            options.kafka_name(topic),
            options.partitions,
            options.replication_factor,
            topic_configs=config_of(options, is_compacted=topic in COMPACTED),
        )
        for topic in sorted(topics)
    ]
    if not wanted:
        return []
    async with admin(options) as client:
        async with asyncio.timeout(_REQUEST_S):
            answer = await client.create_topics(wanted, timeout_ms=int(_REQUEST_S * 1000))
        created = []
        refused: dict[str, Problem] = {}
        for name, code, *message in answer.topic_errors:
            error = errors.for_code(code)
            if error is errors.NoError:
                created.append(options.own_name(name))
            elif error is not errors.TopicAlreadyExistsError:
                said = message[0] if message and message[0] else ""
                refused[name] = problem_of(error(said) if said else error())
    if refused:
        worst = first_word(problem.word for problem in refused.values())
        text = "; ".join(f"topic {name}: {problem}" for name, problem in refused.items())
        raise KafkaAway(text, Problem(worst, text))
    return created


def config_of(options: KafkaOptions, *, is_compacted: bool) -> dict[str, str]:
    """Return the settings of a topic that we create: ``kafka.topic_config``, and what it cannot do without."""
    return dict(options.topic_config) | ({"cleanup.policy": "compact"} if is_compacted else {})


async def describe(options: KafkaOptions) -> list[TopicInfo]:
    """Return the cluster's topics with the configured prefix, by name, without Kafka's internal ones (``__…``)."""
    async with admin(options) as client, asyncio.timeout(_REQUEST_S):
        found = await client.describe_topics()
    infos = []
    for topic in found:
        name, partitions = topic["topic"], topic["partitions"]
        if not name.startswith(options.prefix) or name.startswith("__") or not partitions:
            continue
        infos.append(
            TopicInfo(
                name=options.own_name(name),
                kafka_name=name,
                partitions=len(partitions),
                replication_factor=min(len(item["replicas"]) for item in partitions),
                under_replicated=sum(len(item["isr"]) < len(item["replicas"]) for item in partitions),
                leaderless=sum(item["leader"] < 0 for item in partitions),
            )
        )
    return sorted(infos, key=lambda info: info.name)


async def missing(options: KafkaOptions, names: Collection[str]) -> dict[str, str]:
    """Return those of the topics that do not exist, each with the end of a sentence on which name may be meant."""
    if not names:
        return {}
    async with admin(options) as client, asyncio.timeout(_REQUEST_S):
        found = await client.describe_topics([options.kafka_name(name) for name in sorted(names)])
    unknown = errors.UnknownTopicOrPartitionError.errno
    absent = [options.own_name(topic["topic"]) for topic in found if topic["error_code"] == unknown]
    if not absent:
        return {}
    there = [info.name for info in await describe(options)]
    return {name: suggestion(name, [*there, *FAMILIES]) for name in absent}


class MissingTopics:
    """The missing topics of one reader: reported, waited for, never created.

    The gateway creates its own topics. A topic of dead letters exists from its first record on; until then it is read
    as empty and is not reported. Any other topic may be mistyped, or may be created later by its owner. The reader
    reads the existing topics; one that is created later is read from its beginning, because all of its records are new.

    Args:
        group: label of the gauge and of log lines.
    """

    def __init__(self, group: str, options: KafkaOptions) -> None:
        self._group = group
        self._options = options
        #: Problem by topic, for ``/readyz`` and the console.
        self.problems: dict[str, Problem] = {}
        #: Time since which there are problems, Unix seconds.
        self.since = 0.0
        self._looked_at = 0.0
        self._empty: frozenset[str] = frozenset()
        self._created: frozenset[str] = frozenset()

    def found(self, hints: Mapping[str, str]) -> None:
        """Replace the missing topics, each with the end of a sentence about the nearest name; log new ones."""
        self._empty = frozenset(filter(is_created_by_writing, hints))
        hints = {topic: hint for topic, hint in hints.items() if topic not in self._empty}
        for topic, hint in hints.items():
            if topic not in self.problems:
                _log.warning(
                    "kafka.topic_missing",
                    group=self._group,
                    topic=self._options.kafka_name(topic),
                    word=UNKNOWN_TOPIC,
                    advice=f"correct the name, or create the topic: it is read as soon as it exists{hint}",
                )
        self.since = self.since if self.problems else time.time()
        self.problems = {
            topic: Problem(UNKNOWN_TOPIC, f"does not exist, and is read as soon as it does{hint}")
            for topic, hint in hints.items()
        }
        self._show()

    def of(self, kafka_names: Collection[str]) -> list[str]:
        """Return the missing ones of these names in Kafka."""
        absent = self._absent()
        return [name for name in kafka_names if self._options.own_name(name) in absent]

    def others(self, kafka_names: Collection[str]) -> list[str]:
        """Return the existing ones of these names in Kafka."""
        absent = self._absent()
        return [name for name in kafka_names if self._options.own_name(name) not in absent]

    def expect(self, topics: Collection[str]) -> bool:
        """Look often for those of these topics that are missing: they were created just now. Return whether any is."""
        self._created |= self._absent().intersection(topics)
        return bool(self._created)

    def next_look_s(self) -> float:
        """Return after how many seconds to look again; infinity if nothing is missing."""
        if self._created:
            return _SOON_S
        return max(_LOOK_S, _LOOK_EACH_S * len(absent)) if (absent := self._absent()) else inf

    def look(self, consumer: Any, on_metadata: Callable[[], None]) -> None:
        """Forget topics that the consumer knows now; request new metadata now and then. Quick, and never blocks.

        Args:
            consumer: of the reader.
            on_metadata: called when the requested metadata is there.
        """
        if not (absent := self._absent()):
            return
        there = {name for name in absent if consumer.partitions_for_topic(self._options.kafka_name(name))}
        self._empty -= there
        self._created -= there
        for name in sorted(there & self.problems.keys()):
            del self.problems[name]
            _log.info("kafka.topic_found", group=self._group, topic=self._options.kafka_name(name))
        if there:
            self._show()
        now = time.monotonic()
        if absent - there and now - self._looked_at >= self.next_look_s():
            self._looked_at = now
            consumer._client.force_metadata_update().add_done_callback(lambda _: on_metadata())

    def _absent(self) -> frozenset[str]:
        return self._empty | self.problems.keys()

    def close(self) -> None:
        """Remove the gauge of a closed reader. May be called twice."""
        self.problems = {}
        self._show()

    def _show(self) -> None:
        METRICS.gauge("gateway_kafka_missing_topics").labels(self._group).set(len(self.problems))


# -- incarnations ----------------------------------------------------------------------------------------------------


async def incarnations(client: Any, topics: Collection[str]) -> dict[str, str]:
    """Return the incarnation of each topic, by its name in Kafka; empty if the broker returns none.

    Topics that the broker does not know, or that the user may not see, are left out.

    Args:
        client: aiokafka's client of a started consumer or producer.
        topics: names in Kafka; the request never creates them.

    Raises:
        KafkaError: no answer.
    """
    node = client.get_random_node()
    if node is None:
        raise errors.NodeNotReadyError("no broker is known")
    try:
        answer = await client.send(node, topic_ids(topics))
    except TOO_OLD:
        return dict.fromkeys(topics, "")
    return {
        name: "" if topic_id == NO_ID else f"{answer.cluster_id}/{urlsafe_b64encode(topic_id).decode().rstrip('=')}"
        for code, name, topic_id, *_ in answer.topics
        if code in _KNOWN
    }


class TopicIds:
    """Shared knowledge of the readers of one log: incarnations of topics, and partitions that lost their end."""

    def __init__(self) -> None:
        self._recent: dict[str, str] = {}
        self._wanted: set[str] = set()
        self._asked_at = -MAX_AGE_S
        self._asking = asyncio.Lock()
        #: Partitions that end, by a broker's answer, before an offset at which they were read.
        self.truncated: set[Any] = set()
        #: A number that changes with each :meth:`truncate`: all cursors of the partition are placed again.
        self.truncations = 0

    def truncate(self, partitions: Collection[Any]) -> None:
        """Note partitions that lost their end, by aiokafka's names."""
        self.truncated.update(partitions)
        self.truncations += 1

    async def now(self, client: Any, topics: Collection[str]) -> Mapping[str, str]:
        """Request incarnations now; see :func:`incarnations`."""
        found = await incarnations(client, topics)
        self._keep(topics, found)
        return found

    def knows(self, topic: str) -> bool:
        """Return whether a broker has answered with the topic's incarnation, or that it has none."""
        return topic in self._recent

    async def changed(self, client: Any, topics: Collection[str]) -> list[str]:
        """Return the topics that were deleted and created again since the last call; one caller gets each of them.

        Raises:
            KafkaError: no answer.
        """
        found = await incarnations(client, topics)
        changed = [topic for topic, now in found.items() if is_another(self._recent.get(topic, ""), now)]
        self._keep(topics, found)
        return changed

    def _keep(self, topics: Collection[str], found: Mapping[str, str]) -> None:
        self._wanted.update(topics)
        self._recent |= found

    async def recent(self, client: Any) -> Mapping[str, str]:
        """Return the incarnations of all topics ever requested, at most ``MAX_AGE_S`` old, or from before an outage.

        One reader sends the request for all, and waits at most ``ASK_S``.
        """
        if not self._asking.locked() and time.monotonic() - self._asked_at >= MAX_AGE_S:
            async with self._asking:
                self._asked_at = time.monotonic()
                with suppress(errors.KafkaError, OSError, TimeoutError):
                    async with asyncio.timeout(ASK_S):
                        self._recent = await incarnations(client, self._wanted)
        return self._recent


def mark(incarnation: str) -> str:
    """Return the metadata of an offset that was committed for this incarnation (empty: not known)."""
    return _MARK + incarnation


def marked(metadata: str | None) -> str | None:
    """Return the incarnation from an offset's metadata; None when it was not committed by :func:`mark`."""
    return metadata.removeprefix(_MARK) if metadata and metadata.startswith(_MARK) else None


def is_another(one: str, other: str) -> bool:
    """Return whether these are certainly two topics of one name, one after the other, in one cluster."""
    return bool(one and other) and one != other and one.partition("/")[0] == other.partition("/")[0]
