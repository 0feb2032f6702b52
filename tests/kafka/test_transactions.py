"""Transactions of other producers in our topics: aborted records are not delivered, and markers are no backlog."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from aiokafka import AIOKafkaProducer

from gateway.log.kafka import GroupReader, KafkaLog, KafkaOptions, ReaderPolicy
from tests.kafka.joined import commit, joined
from tests.kafka.traffic import event
from tests.log.contract import read

pytestmark = pytest.mark.kafka
_QUICK = ReaderPolicy(session_s=6.0, probe_s=0.5, request_s=5.0)


async def _transaction(options: KafkaOptions, numbers: range, *, is_committed: bool) -> None:
    producer = AIOKafkaProducer(**options.client(), transactional_id=f"{options.prefix}other")
    await producer.start()
    await producer.begin_transaction()
    for number in numbers:
        entry = event(number, "key")
        await producer.send_and_wait(options.kafka_name("sms.dr"), entry.value, key=entry.key.encode())
    await (producer.commit_transaction() if is_committed else producer.abort_transaction())
    await producer.stop()


async def test_aborted_records_are_never_read_and_the_lag_reaches_0(kafka: str, prefix: str) -> None:
    """Under read_committed, behind a committed and an aborted transaction; the group's stored offset is the end."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.ensure(["sms.dr"])
    await _transaction(options, range(5), is_committed=True)
    await _transaction(options, range(5, 10), is_committed=False)
    reader = await joined(log, ["sms.dr"])
    records = await read(reader, 5)
    assert [record.id for record in records] == [event(number, "key").id for number in range(5)]
    await _transaction(options, range(10, 15), is_committed=False)
    ends = await _ends(reader)
    assert ends["sms.dr-0"] > records[-1].offset + 10
    while log.cursors.committed("gateway.billing") != ends:
        batch = await reader.fetch(max_records=100, wait_s=0.2)
        assert batch == []
        commit(log, batch)
    await log.stop()
    again = KafkaLog(options)
    placed = await again.cursors.load("gateway.billing", ["sms.dr"], ["sms.dr-0"], start="earliest")
    assert {name: one.offset for name, one in placed.items()} == ends
    await again.stop()


async def _ends(reader: GroupReader) -> Mapping[str, int]:
    """As the broker has them, not as a fetch brought them before."""
    return {reader._name(tp): end for tp, end in (await reader.consumer.end_offsets(list(reader._placed))).items()}


async def test_an_open_transaction_is_read_when_it_is_committed(kafka: str, prefix: str) -> None:
    """Its records, and what others wrote behind it, come in their order after the commit."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    await log.append([event(0, "key")])
    reader = await joined(log, ["sms.dr"])
    assert len(await read(reader, 1)) == 1
    producer = AIOKafkaProducer(**options.client(), transactional_id=f"{prefix}open")
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(options.kafka_name("sms.dr"), event(1, "key").value, key=b"key")
    await log.append([event(2, "key")])
    assert await reader.fetch(max_records=100, wait_s=0.5) == []
    await producer.commit_transaction()
    await producer.stop()
    assert [record.id for record in await read(reader, 2)] == [event(number, "key").id for number in (1, 2)]
    await log.stop()


async def test_read_uncommitted_gives_what_was_aborted(kafka: str, prefix: str) -> None:
    """The setting is the consumer's."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, isolation_level="read_uncommitted")
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.ensure(["sms.dr"])
    await _transaction(options, range(5), is_committed=False)
    reader = await log.browse("look", ["sms.dr"], start="earliest")
    assert len(await read(reader, 5)) == 5
    await log.stop()


async def test_scans_end_behind_an_aborted_transaction(kafka: str, prefix: str) -> None:
    """Replay, dead letters and explain read to the end, where nothing but markers is left."""
    from gateway.fanout.scan import scan

    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.ensure(["sms.dr"])
    await _transaction(options, range(3), is_committed=True)
    await _transaction(options, range(3, 6), is_committed=False)
    found = [record async for record in scan(log, "scan", ["sms.dr"], until=2e10, silence_s=10.0)]
    assert len(found) == 3
    await log.stop()
