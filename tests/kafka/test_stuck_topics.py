"""One topic cannot be written, whatever the reason: the others do not notice, and it goes on when it can."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from structlog.testing import capture_logs

from gateway.config.sections import Kafka, Topics
from gateway.errors import JournalFull
from gateway.log import Entry, Record
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.kafka import KafkaOptions, topics
from gateway.log.kafka.errors import AUTHORISATION, NOT_ENOUGH_REPLICAS, REFUSED, UNKNOWN_TOPIC
from gateway.log.kafka.health import CONNECTION
from gateway.log.kafka.options import WriterPolicy
from gateway.publisher import GROUP, Publisher, cursor_name
from gateway.telemetry.metrics import METRICS
from tests.broker import security
from tests.broker.cluster import Cluster
from tests.kafka.surgery import configure, create
from tests.kafka.traffic import TOPIC, Load, compare, event, journal, published, stored
from tests.waiting import until

pytestmark = pytest.mark.kafka

_OTHERS: Final = ("call.event", "task.status", "message.status")
#: So small that a topic that cannot be written is left behind at once, and its queue is known to be bounded.
_SMALL: Final = WriterPolicy(topic_bytes=200_000, look_s=0.1)
#: What one step of reading may bring beyond a budget: a thousand events of these tests.
_STEP_BYTES: Final = 1_200_000

Change = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is the matter with :data:`TOPIC`.

    Args:
        word: by which it is known.
        begin, end: have it and repair it.
    """

    word: str
    begin: Change
    end: Change


async def _nothing() -> None:
    """It is so from the start."""


def _refused_records(options: KafkaOptions) -> Trouble:
    """All records are of the past, and none of that is taken."""

    async def begin() -> None:
        await configure(options, TOPIC, {"message.timestamp.before.max.ms": "0"})

    async def end() -> None:
        await configure(options, TOPIC, {"message.timestamp.before.max.ms": str(2**63 - 1)})

    return Trouble(REFUSED, begin, end)


def _missing(options: KafkaOptions) -> Trouble:
    async def end() -> None:
        await create(options, TOPIC, 3)

    return Trouble(UNKNOWN_TOPIC, _nothing, end)


_TROUBLES: Final = {"refused": _refused_records, "missing": _missing}


class Publishing:
    """A publisher under load on all topics, and what it said of each."""

    def __init__(self, log: Journal, options: KafkaOptions, policy: WriterPolicy) -> None:
        self.counts: Counter[str] = Counter()
        self.topic_bytes = policy.topic_bytes
        self.publisher = Publisher(log, options, writer_policy=policy, on_published=self._published)
        self.loads = {topic: Load(log, rate=200.0, topic=topic) for topic in (TOPIC, *_OTHERS)}

    def _published(self, topic: str, _partition: int, _offset: int, records: Sequence[Entry | Record]) -> None:
        self.counts[topic] += len(records)

    async def others_keep_up(self, count: int) -> None:
        """Return when so many more events of each other topic were accepted, and published."""
        for topic in _OTHERS:
            await self.loads[topic].more(count)
        accepted = {topic: len(self.loads[topic].accepted) for topic in _OTHERS}
        await until(lambda: all(self.counts[topic] >= accepted[topic] for topic in _OTHERS), within_s=30)

    async def compare_all(self, options: KafkaOptions) -> None:
        """Everything that was accepted is there, in order, once."""
        for topic, load in self.loads.items():
            result = compare(load.accepted, await stored(options, topic))
            found = (topic, result.missing, result.invented, result.out_of_order, result.repeated)
            assert found == (topic, 0, 0, [], 0)


@asynccontextmanager
async def publishing(folder: Path, options: KafkaOptions, policy: WriterPolicy = _SMALL) -> AsyncIterator[Publishing]:
    """At the end the loads stop, and all is published."""
    async with journal(folder) as log:
        made = Publishing(log, options, policy)
        await made.publisher.start()
        try:
            async with AsyncExitStack() as stack:
                for load in made.loads.values():
                    await stack.enter_async_context(load)
                yield made
            await published(made.publisher)
            assert made.publisher.state.is_ready
        finally:
            await made.publisher.stop()


async def _stuck(made: Publishing, trouble: Trouble) -> None:
    """The trouble comes, lasts, and goes; meanwhile the others go on, with the same producer."""
    publisher = made.publisher
    await trouble.begin()
    await until(lambda: publisher.state.problems.keys() == {TOPIC})
    await until(lambda: not publisher.has_attached(TOPIC))
    producer = publisher._writer._producer
    before = made.counts[TOPIC]
    await made.others_keep_up(600)
    assert (publisher.state.problems.keys(), made.counts[TOPIC]) == ({TOPIC}, before)
    assert publisher.state.problems[TOPIC].word == trouble.word
    states = {topic.name: topic for topic in await publisher.topics()}
    assert states[TOPIC].problem == publisher.state.problems[TOPIC]
    assert states[TOPIC].lag > states[TOPIC].bytes / 2000
    assert all(topic.bytes < made.topic_bytes + _STEP_BYTES for topic in states.values())
    await trouble.end()
    await until(lambda: publisher.has_attached(TOPIC))
    assert publisher._writer._producer is producer


@pytest.mark.parametrize("what", _TROUBLES)
async def test_a_topic_that_cannot_be_written_costs_the_others_nothing(
    what: str, kafka: str, prefix: str, tmp_path: Path
) -> None:
    """It is named, once; its memory is bounded; then all of it arrives, in order and once, by the same producer."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3, create_topics=False)
    trouble = _TROUBLES[what](options)
    await topics.create(options, [*_OTHERS, *([] if what == "missing" else [TOPIC])])
    with capture_logs() as lines:
        async with publishing(tmp_path, options) as made:
            if what != "missing":
                await made.loads[TOPIC].until(100)
            await _stuck(made, trouble)
    await made.compare_all(options)
    said = [(line["event"], line["word"]) for line in lines if line.get("topic") == TOPIC and "word" in line]
    assert said == [("kafka.unavailable", trouble.word), ("kafka.available", trouble.word)]


async def test_too_few_replicas_in_sync(three_nodes: Cluster, prefix: str, tmp_path: Path) -> None:
    """One of three brokers dies, and one topic needs them all: it is named, and when the broker is back, so is it."""
    servers = tuple(three_nodes.bootstrap.split(","))
    options = KafkaOptions(servers, prefix=prefix, partitions=3, replication_factor=3, create_topics=False)
    await topics.create(options, _OTHERS)
    await topics.create(replace(options, topic_config={"min.insync.replicas": "3"}), [TOPIC])

    async def begin() -> None:
        await asyncio.to_thread(three_nodes.node(3).kill)

    async def end() -> None:
        state = made.publisher.state
        assert state.word == NOT_ENOUGH_REPLICAS
        assert "min.insync.replicas" in state.reason
        labels = {"client": "publisher", "word": NOT_ENOUGH_REPLICAS}
        assert METRICS.registry.get_sample_value("gateway_kafka_problems", labels) == 1
        await asyncio.to_thread(three_nodes.node(3).start)

    # A busy machine takes a second for an acknowledgement of three brokers: with less room nobody would catch up.
    async with publishing(tmp_path, options, replace(_SMALL, topic_bytes=1_000_000)) as made:
        await made.loads[TOPIC].until(100)
        await _stuck(made, Trouble(NOT_ENOUGH_REPLICAS, begin, end))
    await made.compare_all(options)


async def test_a_right_that_is_taken_away_and_given_back(secure_kafka: Cluster, prefix: str, tmp_path: Path) -> None:
    """As for any other reason: the topic waits, and the others go on."""
    plain = KafkaOptions((secure_kafka.bootstrap,), prefix=prefix, partitions=3)
    await topics.create(plain, [TOPIC, *_OTHERS])
    settings = Kafka.model_validate(
        {
            "bootstrap_servers": secure_kafka.secure_bootstrap,
            "security": {
                "protocol": "SASL_SSL",
                "ca_file": str(secure_kafka.ca_file),
                "sasl_mechanism": "PLAIN",
                "username": security.STRANGER,
                "password": security.STRANGER_PASSWORD,
            },
        }
    )
    options = replace(KafkaOptions.of(settings, Topics(prefix=prefix)), create_topics=False)
    admin = AdminClient({"bootstrap.servers": secure_kafka.bootstrap})
    for topic in (TOPIC, *_OTHERS):
        await asyncio.to_thread(_grant, admin, prefix + topic)

    async def begin() -> None:
        await asyncio.to_thread(_revoke, admin, prefix + TOPIC)

    async def end() -> None:
        await asyncio.to_thread(_grant, admin, prefix + TOPIC)

    async with publishing(tmp_path, options) as made:
        await made.loads[TOPIC].until(100)
        await _stuck(made, Trouble(AUTHORISATION, begin, end))
    await made.compare_all(plain)


def _grant(admin: AdminClient, topic: str) -> None:
    binding = AclBinding(*_acl(topic, AclOperation.WRITE, AclPermissionType.ALLOW))
    for future in admin.create_acls([binding]).values():
        future.result()


def _revoke(admin: AdminClient, topic: str) -> None:
    for future in admin.delete_acls([AclBindingFilter(*_acl(topic, AclOperation.ANY, AclPermissionType.ANY))]).values():
        future.result()


def _acl(topic: str, operation: AclOperation, permission: AclPermissionType) -> tuple[object, ...]:
    user = f"User:{security.STRANGER}"
    return ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, user, "*", operation, permission


async def test_a_restart_goes_on_where_each_topic_stood(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The others repeat nothing although the journal keeps all that the stuck one has not published."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3, create_topics=False)
    await topics.create(options, _OTHERS)
    given = [event(n, f"key-{n % 20}", (TOPIC, *_OTHERS)[n % 4], filling=1000) for n in range(4000)]
    for half in (given[:2000], given[2000:]):
        async with journal(tmp_path) as log:
            publisher = Publisher(log, options, writer_policy=_SMALL)
            await publisher.start()
            await log.append(half)
            await _others_published(publisher)
            await publisher.stop()
            positions = log.positions()
            assert positions[GROUP, EVENTS] == positions[cursor_name(TOPIC), EVENTS] == 0
            assert positions[cursor_name(_OTHERS[-1]), EVENTS] >= given.index(half[-1])
    await create(options, TOPIC, 3)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
        assert log.positions()[GROUP, EVENTS] == len(given)
    for topic in (TOPIC, *_OTHERS):
        result = compare([entry for entry in given if entry.topic == topic], await stored(options, topic))
        assert (topic, result.missing, result.out_of_order, result.repeated) == (topic, 0, [], 0)


async def _others_published(publisher: Publisher) -> None:
    async def are_empty() -> bool:
        return not sum(topic.lag for topic in await publisher.topics() if topic.name != TOPIC)

    await until(are_empty)


async def test_a_full_journal_keeps_what_a_stuck_topic_has_not_published(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """It takes no more, loses nothing of any topic, and has room again as soon as the topic can be written."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3, create_topics=False)
    await topics.create(options, ["call.event"])
    log = Journal(tmp_path, Retention(2 * 1024 * 1024, 86_400.0, protected=GROUP, publish_grace_records=0))
    await log.start()
    publisher = Publisher(log, options, writer_policy=_SMALL)
    await publisher.start()
    given: list[Entry] = []
    with pytest.raises(JournalFull):
        while True:
            entry = event(len(given), f"key-{len(given) % 5}", (TOPIC, "call.event")[len(given) % 2], filling=5000)
            await log.append([entry])
            given.append(entry)
    await _others_published(publisher)
    await create(options, TOPIC, 3)
    await published(publisher)
    await publisher.stop()
    await log.append([event(len(given), "k", "call.event", filling=5000)])
    await log.stop()
    for topic in (TOPIC, "call.event"):
        result = compare([entry for entry in given if entry.topic == topic], await stored(options, topic))
        assert (topic, result.missing, result.out_of_order, result.repeated) == (topic, 0, [], 0)


async def test_topics_that_no_configuration_names_are_published(kafka: str, prefix: str, tmp_path: Path) -> None:
    """As those of a callback that was taken out of it, also those that come to light while the publisher runs.

    Each has its position before any other topic passes its first event.
    """
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    async with journal(tmp_path) as log:
        await log.append([event(0, "k", "shop.order"), event(1, "k")])
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await log.append([event(2, "k"), event(3, "k", "shop.return"), event(4, "k")])
        await published(publisher)
        await until(lambda: publisher.has_attached("shop.return"))
        assert {log.positions()[cursor_name(topic), EVENTS] for topic in (TOPIC, "shop.order", "shop.return")} == {5}
        await publisher.stop()
    for topic, count in ((TOPIC, 3), ("shop.order", 1), ("shop.return", 1)):
        assert (topic, len(await stored(options, topic))) == (topic, count)


async def test_a_missing_topic_says_nothing_of_kafka_as_a_whole(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Nor does another topic's acknowledgement end its problem."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, create_topics=False)
    await topics.create(options, ["call.event"])
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=_SMALL)
        await publisher.start()
        await log.append([event(0, "k")])
        await until(lambda: publisher.state.problems.keys() == {TOPIC})
        await log.append([event(1, "k", "call.event")])

        async def only_that_one() -> bool:
            return await publisher.lag() == 1

        await until(only_that_one, within_s=30)
        assert publisher.state.problems.keys() == {TOPIC}
        assert CONNECTION not in publisher.state.problems
        assert "create the topic" in publisher.state.reason
        await publisher.stop()
