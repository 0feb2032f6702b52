"""Record batches: every codec is written and read, and one that cannot be decoded stops its partition alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from aiokafka import codec as aiokafka_codec
from confluent_kafka import Consumer

from gateway.log import Entry, Record
from gateway.log.kafka import GroupReader, KafkaLog, KafkaOptions, ReaderPolicy, StandaloneReader
from gateway.log.kafka.errors import CODEC, UNREADABLE
from gateway.telemetry.metrics import METRICS
from tests.broker.cluster import Cluster
from tests.broker.fixtures import make
from tests.kafka.joined import GROUP, commit, joined
from tests.kafka.traffic import event
from tests.waiting import until

pytestmark = pytest.mark.kafka
Codec = Literal["gzip", "snappy", "lz4", "zstd"]
CODECS = get_args(Codec)
_QUICK = ReaderPolicy(session_s=6.0, probe_s=0.5, request_s=5.0)
#: Of a record batch: base offset, length; behind the header of 61 bytes come the records.
_BATCH_HEAD = 12
_RECORDS_AT = 61


def _options(bootstrap: str, prefix: str, **more: Any) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, **{"partitions": 1, **more})


async def _write(options: KafkaOptions, *batches: list[Entry]) -> None:
    """Each list as a record batch of its own."""
    log = KafkaLog(options)
    await log.start()
    for batch in batches:
        await log.append(batch)
    await log.stop()


async def _read(reader: GroupReader | StandaloneReader, count: int, log: KafkaLog | None = None) -> list[Record]:
    """As many records, committed as they come where a log is given."""
    found: list[Record] = []
    while len(found) < count:
        batch = await reader.fetch(max_records=500, wait_s=0.5)
        found += batch
        if log is not None:
            commit(log, batch)
    return found


def _numbers(entries: list[Entry] | list[Record]) -> list[str]:
    return [entry.id for entry in entries]


@pytest.mark.parametrize("codec", CODECS)
async def test_each_codec_is_written_and_read_by_us_and_by_librdkafka(kafka: str, prefix: str, codec: Codec) -> None:
    """The same bytes arrive, from batches that are compressed with this codec."""
    options = _options(kafka, prefix, compression=codec)
    given = [event(number, "key") for number in range(200)]
    await _write(options, given)
    log = KafkaLog(options)
    reader = await log.browse("look", ["sms.dr"], start="earliest")
    assert [record.value for record in await _read(reader, 200)] == [entry.value for entry in given]
    await log.stop()
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"{prefix}other", "auto.offset.reset": "earliest"})
    consumer.subscribe([f"{prefix}sms.dr"])
    messages = [message for _ in range(200) if (message := consumer.poll(20.0)) is not None]
    consumer.close()
    assert [message.value() for message in messages] == [entry.value for entry in given]


@pytest.mark.parametrize("codec", CODECS)
async def test_what_the_broker_compresses_is_read(kafka: str, prefix: str, codec: Codec) -> None:
    """A topic with ``compression.type``: batches that were sent as they are come back compressed."""
    options = _options(kafka, prefix, topic_config={"compression.type": codec})
    given = [event(number, "key") for number in range(100)]
    await _write(options, given)
    log = KafkaLog(options)
    reader = await log.browse("look", ["sms.dr"], start="earliest")
    assert _numbers(await _read(reader, 100)) == _numbers(given)
    await log.stop()


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
async def test_a_missing_codec_stops_its_partition_alone(
    kafka: str, prefix: str, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What precedes the batch and all other topics are read; it is named as such; nothing is lost or repeated."""
    plain, packed = _options(kafka, prefix), _options(kafka, prefix, compression=codec)
    before, inside, behind = ([event(number, "key") for number in range(at, at + 20)] for at in (0, 20, 40))
    await _write(plain, before)
    await _write(packed, inside)
    await _write(plain, behind)
    calls = [event(number, f"key-{number}", topic="call.event") for number in range(100, 150)]
    await _write(plain, calls)
    log = KafkaLog(plain, reader_policy=_QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(aiokafka_codec, f"has_{codec}", lambda: False)
        reader = await joined(log, ["sms.dr", "call.event"])
        found = await _read(reader, len(before) + len(calls), log)
        assert sorted(_numbers(found)) == sorted(_numbers([*before, *calls]))
        while reader.state.is_ready:
            assert await reader.fetch(max_records=500, wait_s=0.2) == []
        assert reader.state.word == CODEC
        assert f"{prefix}sms.dr-0: codec: unreadable from offset 20 on: its codec" in log.states[GROUP].reason
        assert codec in reader.state.reason
        assert "install the package cramjam" in reader.state.reason
        assert _gauge("gateway_kafka_unreadable_partitions", GROUP) == 1
        assert _gauge("gateway_kafka_up", GROUP) == 1  # no outage
        done, ends = log.cursors.committed("gateway.billing"), await reader.ends()
        assert {name: end - done[name] for name, end in ends.items()} == {"sms.dr-0": 40, "call.event-0": 0}
        more = [event(number, "late", topic="call.event") for number in range(200, 210)]
        await _write(plain, more)
        assert _numbers(await _read(reader, 10)) == _numbers(more)
    assert _numbers(await _read(reader, 40)) == _numbers([*inside, *behind])
    assert reader.state.is_ready
    assert _gauge("gateway_kafka_unreadable_partitions", GROUP) == 0
    await log.stop()


def _gauge(name: str, label: str) -> float | None:
    return METRICS.registry.get_sample_value(name, {"client" if name.endswith("_up") else "group": label})


@pytest.fixture
def stoppable() -> Iterator[Cluster]:
    """One node that a test stops in order: its segments are served as they are on disk when it starts again."""
    made = make()
    yield made
    made.remove()


async def test_a_batch_that_is_corrupt_on_disk_stops_its_partition_alone(stoppable: Cluster) -> None:
    """Read up to it, named with offset and advice, and read on from it as soon as it is whole again."""
    options = _options(stoppable.bootstrap, "")
    batches = [[event(number, "key") for number in range(at, at + 10)] for at in (0, 10, 20)]
    await _write(options, *batches)
    calls = [event(number, "key", topic="call.event") for number in range(100, 110)]
    await _write(options, calls)
    node = stoppable.node(1)
    node._signal(signal.SIGTERM)
    await until(lambda: not node.is_running)
    segment = _segment(stoppable.folder, "sms.dr-0")
    at = _nth_batch(segment, 1) + _RECORDS_AT + 40
    _flip(segment, at)
    node.start()
    log = KafkaLog(options, reader_policy=_QUICK)
    reader = await joined(log, ["sms.dr", "call.event"])
    found = await _read(reader, 20)
    assert sorted(_numbers(found)) == sorted(_numbers([*batches[0], *calls]))
    while reader.state.is_ready:
        await reader.fetch(max_records=500, wait_s=0.2)
    assert reader.state.word == UNREADABLE
    assert "sms.dr-0: unreadable: from offset 10 on the record batch is corrupt" in log.states[GROUP].reason
    assert "--reset-offsets" in reader.state.reason
    _flip(segment, at)
    assert _numbers(await _read(reader, 20)) == _numbers([*batches[1], *batches[2]])
    assert reader.state.is_ready
    await log.stop()


def _segment(folder: Path, partition: str) -> Path:
    (found,) = folder.rglob(f"{partition}/00000000000000000000.log")
    return found


def _nth_batch(segment: Path, number: int) -> int:
    data, at = segment.read_bytes(), 0
    for _ in range(number):
        at += _BATCH_HEAD + int.from_bytes(data[at + 8 : at + 12], "big")
    return at


def _flip(segment: Path, at: int) -> None:
    descriptor = os.open(segment, os.O_RDWR)
    try:
        (byte,) = os.pread(descriptor, 1, at)
        os.pwrite(descriptor, bytes([byte ^ 0xFF]), at)
    finally:
        os.close(descriptor)
