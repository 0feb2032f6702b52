"""Events as records, written by us and read by the ``cloudevents`` package and by kcat; keys hashed as Kafka does.

Our murmur2 is compared with aiokafka's, which is tested against Java's.
"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2
from confluent_kafka.schema_registry import dual_schema_id_deserializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import Event
from gateway.log import Entry
from gateway.log.kafka import KafkaLog, KafkaOptions, record_format
from gateway.log.kafka.record_format import hash_of, hashes_of, partition_of
from tests.components import needed
from tests.log.contract import read

_TEXT = st.text(max_size=20)


def _event(**more: Any) -> Event:
    fields = {
        "id": "0123456789abcdef" * 2,
        "source": "/nxcloud/sms-dr",
        "type": "nxcloud.sms.dr",
        "topic": "sms.dr",
        "subject": "10001",
        "partitionkey": "10001",
        "time": "2026-01-01T08:00:00+08:00",
        "recordedtime": "2026-01-01T00:00:00.000001Z",
        "data": {"status": "delivered", "to": "+6281", "raw": {"text": "Привет 你好", "data": '","data":{'}},
        "account": "main",
    }
    return Event(**{**fields, **more})  # type: ignore[arg-type]


@given(st.dictionaries(_TEXT, _TEXT | st.integers(0, 2**53)), _TEXT, st.none() | _TEXT, _TEXT)
def test_binary_mode_keeps_the_bytes(data: dict[str, Any], subject: str, account: str | None, key: str) -> None:
    """An event of ours is cut in two and read back as the very bytes that were written, whatever it holds."""
    event = _event(data=data, subject=subject, account=account, partitionkey=key)
    value, headers = record_format.binary(event.to_json(), event.id, (("attempts", "2"),))
    assert record_format.read(value, headers) == (event.to_json(), (("attempts", "2"),), event.id, "")


def test_binary_records_of_others_always_give_the_same_bytes() -> None:
    """Attributes stand in our order, then unknown ones by name, then the data, whatever order the headers had."""
    headers = [("ce_zone", b"z"), ("ce_source", b"/x"), ("ce_id", b"1"), ("ce_specversion", b"1.0"), ("ce_type", b"t")]
    made, beside, id_, flaw = record_format.read(
        b"[1,2]", [*headers, ("content-type", b"application/json"), ("other", None)]
    )
    again, *_ = record_format.read(b"[1,2]", [("content-type", b"application/json"), *reversed(headers)])
    assert made == again
    assert made == (
        b'{"specversion":"1.0","id":"1","source":"/x","type":"t","zone":"z",'
        b'"datacontenttype":"application/json","data":[1,2]}'
    )
    assert (beside, id_, flaw) == ((("other", ""),), "1", "")


@given(st.binary(max_size=60), st.text("0123456789abcdef", min_size=32, max_size=32))
def test_values_that_are_no_events_travel_as_they_are(value: bytes, id_: str) -> None:
    """Any bytes and any id come back, in both modes, with the reason why they are no event."""
    for write in (record_format.structured, record_format.binary):
        written, headers = write(value, id_, ())
        found = record_format.read(written, headers)
        assert found[:3] == (value, (), id_)
        assert found.flaw
        assert ("content-type", b"application/cloudevents+json; charset=utf-8") not in headers


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_the_cloudevents_package_reads_our_records(
    kafka: str, prefix: str, mode: Literal["structured", "binary"]
) -> None:
    """A stranger's CloudEvents library finds every attribute and the data; our own reader finds the same bytes."""
    from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, cloudevents=mode)
    event = _event()
    log = KafkaLog(options)
    await log.start()
    reader = await log.browse("g", ["sms.dr"], start="earliest")
    await log.append([Entry("sms.dr", event.partitionkey, event.id, event.to_json())])
    assert (await read(reader, 1))[0].value == event.to_json()
    await log.stop()
    message = await _first(options, "sms.dr")
    found = from_kafka_event(KafkaMessage(dict(message.headers), message.key, message.value))
    assert found.get_id() == event.id
    assert found.get_type() == event.type
    assert found.get_source() == event.source
    assert found.get_subject() == event.subject
    assert found.get_extension("partitionkey") == event.partitionkey
    assert found.get_extension("account") == "main"
    assert found.get_data() == event.data
    assert message.key == event.partitionkey.encode()


@pytest.mark.kafka
@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_kcat_reads_our_records(kafka: str, prefix: str, mode: Literal["structured", "binary"]) -> None:
    """A client on librdkafka sees key, headers and value as the CloudEvents binding says."""
    kcat = needed("kcat", install="apt-get install kcat")
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, cloudevents=mode)
    event = _event()
    log = KafkaLog(options)
    await log.start()
    await log.append([Entry("sms.dr", event.partitionkey, event.id, event.to_json())])
    await log.stop()
    process = await asyncio.create_subprocess_exec(
        kcat, "-b", kafka, "-C", "-t", f"{prefix}sms.dr", "-e", "-q", "-J", stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    record = json.loads(printed)
    headers = dict(zip(record["headers"][::2], record["headers"][1::2], strict=True))
    assert record["key"] == event.partitionkey
    if mode == "structured":
        assert headers == {"content-type": "application/cloudevents+json; charset=utf-8"}
        assert record["payload"].encode() == event.to_json()
    else:
        assert headers["content-type"] == "application/json"
        assert headers["ce_type"] == event.type
        assert headers["ce_time"] == event.time
        assert json.loads(record["payload"]) == event.data


async def _first(options: KafkaOptions, topic: str) -> SimpleNamespace:
    consumer = AIOKafkaConsumer(**options.client(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(options.kafka_name(topic), 0)])
        async with asyncio.timeout(30):
            found = await consumer.getone()
    finally:
        await consumer.stop()
    return SimpleNamespace(key=found.key, value=found.value, headers=found.headers)


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("registered", [4711, UUID("01234567-89ab-cdef-0123-456789abcdef")], ids=["id", "guid"])
async def test_records_carry_the_id_of_their_schema(
    kafka: str, prefix: str, mode: Literal["structured", "binary"], registered: int | UUID
) -> None:
    """Confluent's own deserializer finds it in the header; we and others read the event as without it."""
    options = KafkaOptions(
        (kafka,), prefix=prefix, cloudevents=mode, schema_ids={"sms.dr": record_format.schema_id_header(registered)}
    )
    log = KafkaLog(options)
    await log.start()
    event = _event()
    plain = Entry("sms.dr", event.partitionkey, event.id, event.to_json())
    await log.append([plain, plain._replace(headers=(("attempts", "2"),)), plain._replace(topic="email.dr")])
    reader = await log.browse("all", ["sms.dr", "email.dr"], start="earliest")
    found = await read(reader, 3)
    assert {(record.value, record.id, record.flaw) for record in found} == {(event.to_json(), event.id, "")}
    assert sorted(record.headers for record in found) == [(), (), (("attempts", "2"),)]
    await log.stop()
    consumer = AIOKafkaConsumer(
        f"{prefix}sms.dr", f"{prefix}email.dr", bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    async with consumer:
        records = [await asyncio.wait_for(consumer.getone(), 20) for _ in range(3)]
    for record in records:
        schema_id = SchemaId("JSON")
        context = SerializationContext(record.topic, MessageField.VALUE, list(record.headers))
        if record.topic.endswith("sms.dr"):
            assert record.value == dual_schema_id_deserializer(record.value, context, schema_id).read()
            assert registered == (schema_id.id if isinstance(registered, int) else schema_id.guid)
        else:
            assert record_format.SCHEMA_ID not in dict(record.headers)


@given(st.lists(st.binary(max_size=70), max_size=60))
def test_many_keys_at_once_are_hashed_as_kafka_does(keys: list[bytes]) -> None:
    """Any keys, of any lengths together, hash as Kafka's default partitioner hashes each."""
    assert hashes_of(keys) == [murmur2(key) & 0x7FFFFFFF for key in keys]


@given(st.integers(0, 40).flatmap(lambda size: st.lists(st.binary(min_size=size, max_size=size), max_size=50)))
def test_keys_of_one_length_are_hashed_as_kafka_does(keys: list[bytes]) -> None:
    """The fast way for keys of one length gives the same numbers as the way for one key."""
    assert hashes_of(keys) == [hash_of(key) for key in keys]


def test_partitions_are_those_of_java() -> None:
    """Numbers of Kafka's own test, ``UtilsTest.testMurmur2``."""
    cases = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: hash_of(key) for key in cases} == {key: number & 0x7FFFFFFF for key, number in cases.items()}
    assert partition_of(b"foobar", 6) == (-790332482 & 0x7FFFFFFF) % 6
