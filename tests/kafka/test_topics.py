"""Topics: created as configured, listed as they are."""

from __future__ import annotations

import pytest

from gateway.config.sections import Kafka, Topics
from gateway.errors import Transient
from gateway.log.kafka import KafkaLog, KafkaOptions, topics
from gateway.log.kafka.producer import is_reachable
from tests.log.contract import entry, read
from tests.waiting import until

pytestmark = pytest.mark.kafka


async def test_topics_are_created_once_as_configured(kafka: str, prefix: str) -> None:
    """Missing ones are made with the configured partitions; those that are there are left as they are."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3)
    assert await topics.create(options, ["sms.dr", "call.event"]) == ["call.event", "sms.dr"]
    wider = KafkaOptions((kafka,), prefix=prefix, partitions=5)
    assert await topics.create(wider, ["sms.dr", "task.status"]) == ["task.status"]

    async def all_three() -> list[topics.TopicInfo]:
        known = await topics.describe(options)
        return known if len(known) == 3 else []

    found = await until(all_three, within_s=30)  # brokers learn of a topic a moment after the controller has made it
    assert [(info.name, info.kafka_name, info.partitions, info.replication_factor) for info in found] == [
        ("call.event", f"{prefix}call.event", 3, 1),
        ("sms.dr", f"{prefix}sms.dr", 3, 1),
        ("task.status", f"{prefix}task.status", 5, 1),
    ]
    assert all(info.leaderless == info.under_replicated == 0 for info in found)
    assert await topics.create(options, []) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [({"replication_factor": 3}, "target replication factor"), ({"topic_config": {"no.such": "1"}}, r"no\.such")],
)
async def test_what_kafka_refuses_is_named(kafka: str, prefix: str, more: dict[str, object], said: str) -> None:
    """The topic and Kafka's own words are in the sentence."""
    options = KafkaOptions((kafka,), prefix=prefix, **more)  # type: ignore[arg-type]
    with pytest.raises(Transient, match=said) as found:
        await topics.create(options, ["sms.dr"])
    assert f"{prefix}sms.dr" in str(found.value)


async def test_a_broker_that_is_away_is_named() -> None:
    """No broker: a sentence with the address, within its time."""
    with pytest.raises(Transient, match=r"127\.0\.0\.1:9"):
        await topics.describe(KafkaOptions(("127.0.0.1:9",)))
    assert not await is_reachable(KafkaOptions(("127.0.0.1:9",)))


async def test_an_event_of_the_largest_callback_fits(kafka: str, prefix: str) -> None:
    """Topics that we make take an event of 3 MiB, more than a callback of 1 MiB can become; it is read back whole."""
    settings = Kafka.model_validate({"bootstrap_servers": kafka, "partitions": 1})
    log = KafkaLog(KafkaOptions.of(settings, Topics(prefix=prefix)))
    await log.start()
    reader = await log.browse("g", ["sms.dr"], start="earliest")
    large = entry(1)._replace(value=b"x" * 3 * 1024 * 1024)
    await log.append([entry(0), large, entry(2)])
    assert sorted(len(record.value) for record in await read(reader, 3))[-1] == len(large.value)
    await log.stop()


def test_missing_topics_are_asked_for_less_often_the_more_there_are() -> None:
    """The answer has each of them, every time; one that this process has just created is looked for at once."""
    missing = topics.MissingTopics("t", KafkaOptions(("h:1",)))
    missing.found({"dlq.0": ""})
    often = missing.next_look_s()
    missing.found({f"dlq.{number}": "" for number in range(300)})
    assert 2 * often <= missing.next_look_s() <= 30
    assert missing.expect(["dlq.7"])
    assert missing.next_look_s() < often
