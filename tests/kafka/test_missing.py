"""Reading creates no topics, on a broker that creates them when asked (Kafka's default)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.log import Begin, Begins, Start
from gateway.log.kafka import GroupReader, KafkaLog, KafkaOptions, ReaderPolicy, StandaloneReader, topics
from gateway.log.kafka.errors import UNKNOWN_TOPIC
from gateway.telemetry.metrics import METRICS
from tests.broker.fixtures import make
from tests.kafka.joined import GROUP, commit, joined
from tests.kafka.traffic import event

pytestmark = pytest.mark.kafka
_QUICK = ReaderPolicy(session_s=6.0, probe_s=0.5, request_s=5.0)


@pytest.fixture(scope="module")
def creating() -> Iterator[str]:
    """Bootstrap address of a node that creates topics by itself, as Kafka does where nothing is configured."""
    made = make(extra={"auto.create.topics.enable": "true"})
    yield made.bootstrap
    made.remove()


async def _names(options: KafkaOptions) -> set[str]:
    return {info.name for info in await topics.describe(options)}


async def until_some(reader: GroupReader | StandaloneReader, topic: str) -> None:
    """Wait until a record comes, of this topic. A group that must divide new partitions takes some seconds."""
    async with asyncio.timeout(40.0):
        while not (found := await reader.fetch(max_records=1, wait_s=1.0)):
            pass
    assert [record.topic for record in found] == [topic]


@pytest.mark.parametrize("is_timed", [False, True])
async def test_a_mistyped_topic_is_named_waited_for_and_never_created(
    creating: str, prefix: str, is_timed: bool
) -> None:
    """The subscriber's other topics are read; when the topic comes, all of it is, also if it begins at a time."""
    options = KafkaOptions((creating,), prefix=prefix, partitions=1)
    writer = KafkaLog(options)
    await writer.start()
    await writer.ensure(["sms.dr"])
    log = KafkaLog(options, reader_policy=_QUICK)
    now = Begin(time.time() - 1.0)
    start: Start | Begins = {"sms.drr": now, "sms.dr": now} if is_timed else "earliest"
    reader = await joined(log, ["sms.drr", "sms.dr"], start=start)
    await reader.fetch(max_records=1, wait_s=0.0)
    await writer.append([event(0, "key")])
    while not (batch := await reader.fetch(max_records=1, wait_s=1.0)):
        pass
    assert [record.topic for record in batch] == ["sms.dr"]
    commit(log, batch)  # the group divides its partitions anew when the other topic comes
    assert reader.state.word == UNKNOWN_TOPIC
    assert (
        "sms.drr: unknown_topic: does not exist, and is read as soon as it does; did you mean " in reader.state.reason
    )
    assert "sms.dr'" in reader.state.reason
    value = METRICS.registry.get_sample_value
    assert value("gateway_kafka_missing_topics", {"group": GROUP}) == 1
    assert await reader.fetch(max_records=10, wait_s=2.0) == []
    assert await _names(options) == {"sms.dr"}
    await writer.append([event(1, "key", topic="sms.drr")])
    await until_some(reader, "sms.drr")
    await reader.fetch(max_records=10, wait_s=0.1)
    assert reader.state.is_ready
    await log.stop()
    await writer.stop()


async def test_a_reader_of_nothing_but_a_mistyped_topic_opens_and_waits(creating: str, prefix: str) -> None:
    """In a group and as one who looks on; it is no outage, and nothing is created."""
    options = KafkaOptions((creating,), prefix=prefix, partitions=1)
    log = KafkaLog(options, reader_policy=_QUICK)
    group = await joined(log, ["sms.drr"])
    alone = await log.browse("look", ["sms.drr"], start="earliest")
    for reader in (group, alone):
        assert await reader.fetch(max_records=10, wait_s=1.0) == []
        assert await reader.fetch(max_records=10, wait_s=1.0) == []
        assert reader.state.word == UNKNOWN_TOPIC
        assert await reader.ends() == {}
    assert await _names(options) == set()
    writer = KafkaLog(options)
    await writer.start()
    await writer.append([event(1, "key", topic="sms.drr")])
    for reader in (group, alone):
        await until_some(reader, "sms.drr")
    await writer.stop()
    await log.stop()


async def test_our_own_topics_are_created_by_reading_them(creating: str, prefix: str) -> None:
    """With the partitions that are configured, and not those of the broker."""
    options = KafkaOptions((creating,), prefix=prefix, partitions=3)
    log = KafkaLog(options, creates=["shop.order"])
    await joined(log, ["shop.order", "retry.60s"])
    await log.stop()
    assert {info.name: info.partitions for info in await topics.describe(options)} == {
        "shop.order": 3,
        "retry.60s": 3,
    }


@pytest.mark.parametrize("more", [[], ["--once"]])
async def test_tail_of_an_unknown_topic_says_so_and_creates_nothing(
    creating: str, prefix: str, tmp_path: Path, more: list[str]
) -> None:
    """It ends at once, not with 0, and names the nearest topic."""
    options = KafkaOptions((creating,), prefix=prefix, partitions=1)
    await topics.create(options, ["sms.dr"])
    config = tmp_path / "config.yaml"
    config.write_text(f"kafka: {{bootstrap_servers: '{creating}'}}\ntopics: {{prefix: '{prefix}'}}\n")
    command = [sys.executable, "-m", "gateway", "tail", "--topic", "sms.drr", "-c", str(config), *more]
    tail = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    async with asyncio.timeout(60.0):
        _, said = await tail.communicate()
    assert tail.returncode == 1
    assert f"there is no topic {prefix}sms.drr in Kafka; did you mean 'sms.dr'?" in said.decode()
    assert await _names(options) == {"sms.dr"}
