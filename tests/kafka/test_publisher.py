"""The publisher against a broker that works, dies, hangs, refuses."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaOptions, topics
from gateway.log.kafka.options import WriterPolicy
from gateway.publisher import DEAD_LETTERS, GROUP, Publisher, PublisherPolicy
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, Load, compare, event, journal, published, stored
from tests.log.contract import read
from tests.waiting import until

pytestmark = pytest.mark.kafka
#: Outages are told apart from busy moments quickly, so that a test need not wait.
_IMPATIENT = WriterPolicy(stalled_s=2.0, look_s=0.1)


def _options(bootstrap: str, prefix: str = "", **more: Any) -> KafkaOptions:
    return KafkaOptions(tuple(bootstrap.split(",")), prefix=prefix, partitions=3, **more)


async def test_everything_is_published_once_and_in_order(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Each accepted event stands in its topic once, each key in the order of acceptance, at the time of acceptance."""
    options = _options(kafka, prefix)
    async with journal(tmp_path) as log:
        given = [event(n, f"key-{n % 40}") for n in range(5000)]
        for start in range(0, 5000, 500):
            await log.append(given[start : start + 500])
        accepted_at = time.time()
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
    arrived = await stored(options)
    result = compare(given, arrived)
    assert (result.missing, result.invented, result.out_of_order, result.repeated) == (0, 0, [], 0)
    assert {record.id: record.value for record in arrived} == {entry.id: entry.value for entry in given}
    assert all(record.appended_at <= accepted_at for record in arrived)


async def test_the_cursor_is_where_kafka_has_acknowledged(kafka: str, prefix: str, tmp_path: Path) -> None:
    """After a restart nothing that was acknowledged is sent again, and nothing that was not is left out."""
    options = _options(kafka, prefix)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        given = [event(n, f"key-{n}") for n in range(100)]
        await log.append(given)
        await published(publisher)
        await publisher.stop()
        given.append(event(100, "key-100"))
        await log.append(given[100:])
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
        assert log.positions()[GROUP, "events"] == 101
    result = compare(given, await stored(options))
    assert (result.missing, result.repeated) == (0, 0)


async def test_stop_and_start_may_come_twice_and_in_any_order(kafka: str, prefix: str, tmp_path: Path) -> None:
    """A stop before the start, a second start and a second stop do nothing."""
    async with journal(tmp_path) as log:
        never = Publisher(log, _options(kafka, prefix))
        await never.stop()
        await never.start()
        assert not never.state.is_ready
        publisher = Publisher(log, _options(kafka, prefix))
        await publisher.start()
        await publisher.start()
        await until(lambda: publisher.state.is_ready)
        await publisher.stop()
        await publisher.stop()


async def test_a_broker_that_is_away_at_the_start(broker: Cluster, tmp_path: Path) -> None:
    """Started with no broker: it says so once, accepts, and publishes everything when the broker comes."""
    with capture_logs() as logs:
        async with journal(tmp_path) as log:
            await asyncio.to_thread(broker.node(1).stop)
            options = _options(broker.bootstrap)
            publisher = Publisher(log, options, writer_policy=_IMPATIENT)
            await publisher.start()
            async with Load(log) as load:
                await load.until(1500)
                assert not publisher.state.is_ready
                assert "127.0.0.1" in publisher.state.reason
                await asyncio.to_thread(broker.node(1).start)
                await until(lambda: publisher.state.is_ready)
                await load.more(200)
            await published(publisher)
            await publisher.stop()
        result = compare(load.accepted, await stored(options))
    assert (result.missing, result.invented, result.out_of_order, result.repeated) == (0, 0, [], 0)
    said = [line["event"] for line in logs if line["event"].startswith("kafka.") and not line.get("topic")]
    assert said[: said.index("kafka.available")].count("kafka.unavailable") == 1


async def test_the_only_broker_is_killed_and_restarted_under_load(broker: Cluster, tmp_path: Path) -> None:
    """SIGKILL three times under load: nothing lost, per key in order of first appearance, no copy beyond the first."""
    options = _options(broker.bootstrap)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=_IMPATIENT)
        await publisher.start()
        async with Load(log, rate=2000) as load:
            for _ in range(3):
                await load.more(1500)
                await asyncio.to_thread(broker.node(1).kill)
                await until(lambda: not publisher.state.is_ready)
                await asyncio.to_thread(broker.node(1).start)
                await until(lambda: publisher.state.is_ready)
        await published(publisher)
        await publisher.stop()
    result = compare(load.accepted, await stored(options))
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    assert result.repeated <= len(load.accepted) * 0.001


async def test_a_hung_broker(broker: Cluster, tmp_path: Path) -> None:
    """SIGSTOP: connections stay open and nothing answers. It is told, and nothing is lost when it goes on."""
    options = _options(broker.bootstrap)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=_IMPATIENT)
        await publisher.start()
        async with Load(log) as load:
            await load.until(500)
            broker.node(1).suspend()
            await until(lambda: not publisher.state.is_ready)
            await load.more(1000)
            broker.node(1).resume()
            await until(lambda: publisher.state.is_ready)
        await published(publisher)
        await publisher.stop()
    result = compare(load.accepted, await stored(options))
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    assert result.repeated <= len(load.accepted) * 0.001


async def test_stop_ends_in_time_while_kafka_is_away(broker: Cluster, tmp_path: Path) -> None:
    """With batches on their way and the broker dead, a stop takes no longer than it promises; a restart goes on."""
    options = _options(broker.bootstrap)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=_IMPATIENT)
        await publisher.start()
        async with Load(log) as load:
            await load.until(500)
            await asyncio.to_thread(broker.node(1).kill)
            await load.more(500)
        started = time.monotonic()
        await publisher.stop(drain_s=3.0)
        assert time.monotonic() - started < 8.0
        await asyncio.to_thread(broker.node(1).start)
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
    result = compare(load.accepted, await stored(options))
    assert (result.missing, result.out_of_order) == (0, [])


async def test_memory_is_bounded_while_kafka_is_away(broker: Cluster, tmp_path: Path) -> None:
    """What is read and not acknowledged stays below its bound plus one fetch, however much waits in the journal."""
    options = _options(broker.bootstrap)
    policy = WriterPolicy(stalled_s=0.5, look_s=0.1, topic_bytes=1_000_000)
    async with journal(tmp_path) as log:
        await asyncio.to_thread(broker.node(1).stop)
        given = [event(n, f"key-{n}", filling=1000) for n in range(10_000)]
        for start in range(0, 10_000, 1000):
            await log.append(given[start : start + 1000])
        publisher = Publisher(log, options, writer_policy=policy)
        await publisher.start()
        await until(lambda: publisher._writer.backlog.topic(TOPIC).bytes > 800_000)
        await until(lambda: "connect" in publisher.state.reason.lower())
        assert publisher._writer.backlog.topic(TOPIC).bytes < 1_000_000 + 1000 * 2100
        await asyncio.to_thread(broker.node(1).start)
        await published(publisher)
        await publisher.stop()
    assert compare(given, await stored(options)).missing == 0


async def test_a_missing_topic_holds_only_its_own_events(kafka: str, prefix: str, tmp_path: Path) -> None:
    """With ``create_topics`` off a missing topic is named, others flow on, and its events follow when it is created."""
    options = _options(kafka, prefix, create_topics=False)
    await topics.create(options, ["call.event"])
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=_IMPATIENT)
        await publisher.start()
        given = [event(n, f"key-{n}") for n in range(50)]
        others = [event(n, f"key-{n}", "call.event") for n in range(100, 150)]
        await log.append(given + others)
        await until(lambda: TOPIC in publisher.state.problems)
        assert "does not exist" in publisher.state.reason

        async def others_are_there() -> bool:
            return not compare(others, await stored(options, "call.event")).missing

        await until(others_are_there, within_s=30, look_s=0.1)
        assert {topic.name: topic.lag for topic in await publisher.topics() if topic.lag} == {TOPIC: 50}
        await topics.create(options, [TOPIC])
        await published(publisher)
        assert publisher.state.is_ready
        await publisher.stop()
    result = compare(given, await stored(options))
    assert (result.missing, result.repeated) == (0, 0)


async def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    """An address that nobody has is a state with the address in it, and a stop still ends at once."""
    async with journal(tmp_path) as log:
        publisher = Publisher(log, _options("no-such-host.invalid:9092"))
        await publisher.start()
        await log.append([event(1, "k")])
        await until(lambda: "no-such-host.invalid" in publisher.state.reason)
        started = time.monotonic()
        await publisher.stop()
        assert time.monotonic() - started < 5
        assert await log.browse("other", [TOPIC], start="earliest")


class _FailingDisk(Journal):
    """A journal whose file cannot be read for a while."""

    failures = 3

    async def read_file(self, *args: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return await super().read_file(*args)


async def test_a_journal_that_cannot_be_read_for_a_while(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Whatever reading raises is told and tried again: a publisher that ended would be a journal that fills up."""
    options = _options(kafka, prefix)
    given = [event(n, f"key-{n}") for n in range(50)]
    async with journal(tmp_path) as log:
        await log.append(given)
    failing = _FailingDisk(tmp_path, Retention(max_bytes=2**31, max_age_s=86_400.0, protected=GROUP))
    await failing.start()
    publisher = Publisher(failing, options, policy=PublisherPolicy(retry_s=0.01))
    with capture_logs() as lines:
        await publisher.start()
        await published(publisher)
    await publisher.stop()
    await failing.stop()
    assert [line["error"] for line in lines if line["event"] == "reading.failed"] == [
        "OperationalError: disk I/O error"
    ] * 3
    assert compare(given, await stored(options)).missing == 0


async def test_an_event_too_large_for_the_broker_is_a_dead_letter(small_broker: Cluster, tmp_path: Path) -> None:
    """It goes to the journal's ``dlq.publisher``, whole and with the reason; all others are published."""
    options = _options(small_broker.bootstrap)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        given = [event(n, f"key-{n % 5}", filling=100_000 if n % 20 == 7 else 1500) for n in range(300)]
        for start in range(0, 300, 50):
            await log.append(given[start : start + 50])
        await published(publisher)
        await publisher.stop()
        letters = await log.browse("test", [DEAD_LETTERS], start="earliest")
        large = [entry for entry in given if len(entry.value) > 50_000]
        found = await read(letters, len(large))
    result = compare([entry for entry in given if entry not in large], await stored(options))
    assert (result.missing, result.invented, result.out_of_order, result.repeated) == (0, 0, [], 0)
    assert sorted((record.id, record.value) for record in found) == sorted((entry.id, entry.value) for entry in large)
    assert {dict(record.headers)["topic"] for record in found} == {TOPIC}
    assert all("more than the broker accepts" in dict(record.headers)["reason"] for record in found)
