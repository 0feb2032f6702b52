"""A publisher whose topic is deleted, or deleted and created again, while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.log.kafka import KafkaOptions
from gateway.log.kafka.backlog import Backlog
from gateway.log.kafka.health import Availability
from gateway.log.kafka.options import WriterPolicy
from gateway.log.kafka.record_format import partition_of
from gateway.publisher import Publisher
from gateway.telemetry.metrics import METRICS
from tests.kafka.surgery import create, delete, recreate
from tests.kafka.traffic import TOPIC, Load, compare, event, journal, published, stored
from tests.waiting import until


class _Ticket:
    is_cancelled = False

    def done(self, count: int) -> None:
        raise AssertionError(count)


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_what_waits_moves_to_the_partitions_of_its_keys(partitions: int) -> None:
    """With fewer partitions nothing is lost or doubled, and each key keeps its order."""
    backlog = Backlog(WriterPolicy(), Availability("test"))
    entries = [event(number, f"key-{number % 13}") for number in range(200)]
    backlog.submit(entries[:100], _Ticket())
    topic = backlog.topics[TOPIC]
    assert backlog.place(topic, 6)
    backlog.submit(entries[100:], _Ticket())
    held = backlog.due(0.0)
    assert backlog.place(topic, partitions)
    assert [lane.pending for lane in held if lane.pending] == []
    waiting = {lane.partition: [entry for entry, _, _ in lane.pending] for lane in backlog.due(0.0)}
    assert sorted(entry.id for lane in waiting.values() for entry in lane) == sorted(entry.id for entry in entries)
    for number, lane in waiting.items():
        assert {partition_of(entry.key.encode(), partitions) for entry in lane} == {number}
        for key in {entry.key for entry in lane}:
            order = [entry.id for entry in lane if entry.key == key]
            assert order == [entry.id for entry in entries if entry.key == key]


def _told(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["group"], line["topic"]) for line in lines if line["event"] == "kafka.recreated"]


@pytest.mark.kafka
@pytest.mark.timeout(120)
@pytest.mark.parametrize("partitions", [1, 4, 7])
async def test_a_publisher_goes_on_into_a_recreated_topic(
    kafka: str, prefix: str, tmp_path: Path, partitions: int
) -> None:
    """With fewer, as many or more partitions, under load: all that was accepted since is there; and it is said."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=4, create_topics=False)
    await create(options, TOPIC, 4)
    counter = METRICS.counter("gateway_kafka_recreated_topics").labels("publisher")
    before = counter._value.get()
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        with structlog.testing.capture_logs() as lines:
            async with Load(log, rate=300.0) as load:
                await load.more(600)
                await recreate(options, TOPIC, partitions)
                first = len(load.accepted)
                await load.more(900)
            await published(publisher, within_s=60)
        await publisher.stop()
    since = load.accepted[first:]
    result = compare(since, await stored(options))
    # In the first moments some of what was accepted before reaches the new topic too.
    assert result.missing == 0
    if partitions <= 4:  # with more, a key's events are in two partitions for a while
        assert result.out_of_order == []
    assert _told(lines) == [("publisher", TOPIC)]
    assert counter._value.get() - before == 1


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_a_publisher_goes_on_after_an_idle_topic_shrank(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Nothing was on its way when the topic was created again with fewer partitions: the next events go there.

    It is reported, although the topic was there for less time than passes between two looks.
    """
    options = KafkaOptions((kafka,), prefix=prefix, partitions=6)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        await log.append([event(number, f"key-{number}") for number in range(50)])
        await published(publisher)
        given = [event(number, f"key-{number}") for number in range(100, 150)]
        with structlog.testing.capture_logs() as lines:
            await recreate(options, TOPIC, 1)
            await log.append(given)
            await published(publisher)
            await until(lambda: _told(lines))  # the next look, at most three seconds later
        await publisher.stop()
    assert _told(lines) == [("publisher", TOPIC)]
    result = compare(given, await stored(options))
    assert (result.missing, result.invented, result.repeated) == (0, 0, 0)


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_a_publisher_creates_a_topic_that_was_deleted(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Where it may create topics, a deleted one is there again within seconds."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        async with Load(log, rate=200.0) as load:
            await load.more(200)
            await delete(options, TOPIC)
            first = len(load.accepted)
            await load.more(400)
        await published(publisher)
        await publisher.stop()
    assert compare(load.accepted[first:], await stored(options)).missing == 0
