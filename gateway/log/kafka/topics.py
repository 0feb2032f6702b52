"""Create and list topics (Kafka protocol: CreateTopics, Metadata).

Used by ``gateway topics create|list``, at start, and for ``dlq.<subscriber>`` with its first record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.config.settings import FAMILIES
from gateway.config.values import suggestion
from gateway.log.kafka.errors import CLIENT_ERRORS, KafkaAway, Problem, away, first_word, problem_of
from gateway.log.kafka.log_rate_limit import limit_logs
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within

#: For one request to the controller; a cluster that elects one takes some seconds.
_REQUEST_S: Final = 15.0
_CLOSE_S: Final = 2.0
#: Topics of the gateway itself that hold no events: attempts, subscribers and their states, the audit record.
OWN_STATE: Final = "fanout."
#: Of these the last record of a key counts, whatever its age.
COMPACTED: Final = frozenset({"fanout.state", "fanout.subscribers"})
_OWN_PREFIXES: Final = ("retry.", "replay.", "dlq.", OWN_STATE)


def is_own(topic: str) -> bool:
    """Return whether a topic is the gateway's own, and not one of events."""
    return topic.startswith(_OWN_PREFIXES) or topic == "replay"


def is_created_by_writing(topic: str) -> bool:
    """Return whether a topic is there from its first record on, and holds nothing until then: dead letters."""
    return topic.startswith("dlq.")


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
    """An admin client for a short job.

    Raises:
        KafkaAway: Kafka cannot be reached, or answers with an error inside the job.
    """
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

    Raises:
        KafkaAway: Kafka cannot be reached, or refuses (rights, too few brokers for the replication factor, a setting
            it does not know); names the topic.
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
    """The cluster's topics that carry our prefix, by name; internal ones of Kafka (``__…``) are left out.

    Raises:
        KafkaAway: Kafka cannot be reached.
    """
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
    """Return those of the topics that do not exist, each with the end of a sentence on which name may be meant.

    Raises:
        KafkaAway: Kafka cannot be reached.
    """
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


async def is_reachable(options: KafkaOptions) -> bool:
    """Whether a fresh client gets an answer from the configured addresses."""
    try:
        async with admin(options):
            return True
    except KafkaAway:
        return False
