"""What a member reads: topics and partitions that come, are made again, or lose records."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from gateway.log.kafka import KafkaLog, topics
from tests.kafka.surgery import create, delete_records, recreate
from tests.kafka.test_group_reader import CURSOR, Process, make_options
from tests.kafka.traffic import TOPIC, add_partitions, event
from tests.waiting import until

pytestmark = pytest.mark.kafka


async def test_topics_are_added_while_it_reads(kafka: str, prefix: str) -> None:
    """Their partitions come; what is appended to them is read from the beginning."""
    process = Process(make_options(kafka, prefix, 2, "one"), [])
    await process.start()
    await process.log.append([event(1, "key"), event(2, "key", "call.event")])
    await until(lambda: len(process.arrived) == 1)
    process.read.add("call.event")
    assert process.reader is not None
    process.reader.subscribe(["call.event"])
    await until(lambda: len(process.arrived) == 2)
    assert len(process.held) == 4
    await process.stop()


async def test_a_topic_that_a_broker_did_not_know_yet_is_read_soon(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Created just before the group was joined, by one broker and not known to the next: no minute passes."""
    process = Process(make_options(kafka, prefix, 2, "one"), [], [TOPIC, "call.event"])
    await create(make_options(kafka, prefix), TOPIC, 2)

    async def all_are_there(names: Collection[str]) -> dict[str, str]:
        return {}

    monkeypatch.setattr(process.log, "missing", all_are_there)
    await process.start()
    await until(lambda: len(process.held) == 2)
    await create(make_options(kafka, prefix), "call.event", 2)
    await until(lambda: len(process.held) == 4, within_s=40)
    await process.stop()


async def test_a_restart_with_other_topics_gets_their_partitions(kafka: str, prefix: str) -> None:
    """Kafka gives a static member that comes again what it had; one that reads other topics by now asks anew."""
    options = make_options(kafka, prefix, 2, "one")
    await topics.create(options, [TOPIC, "call.event"])
    process = Process(options, [])
    await process.start()
    await until(lambda: len(process.held) == 2)
    await process.stop()
    for read in ([TOPIC, "call.event"], ["call.event"]):
        process = Process(options, [], read)
        await process.start()
        wanted = {f"{topic}-{number}" for topic in read for number in range(2)}
        await until(lambda wanted=wanted, process=process: process.held == wanted)  # type: ignore[misc]
        await process.stop()


@pytest.mark.parametrize("is_running", [True, False])
async def test_partitions_that_were_added_are_read(kafka: str, prefix: str, is_running: bool) -> None:
    """While the process reads, or while it restarts within its session: static members get their old partitions."""
    options = make_options(kafka, prefix, 2, "one")
    process = Process(options, [])
    await process.start()
    await until(lambda: len(process.held) == 2)
    if not is_running:
        await process.stop()
    await add_partitions(options, TOPIC, 5)
    if not is_running:
        process = Process(options, [])
        await process.start()
    else:
        assert process.reader is not None
        await process.reader.consumer._client.force_metadata_update()  # by itself it looks once a minute
    await until(lambda: len(process.held) == 5)
    await process.log.append([event(number, f"key-{number}") for number in range(40)])
    await until(lambda: len(process.arrived) == 40)
    assert len({record.partition for record in process.arrived}) == 5
    await process.stop()


@pytest.mark.parametrize(("before", "after"), [(1, 1), (3, 1), (1, 3)])
async def test_a_topic_that_is_made_again_is_given_anew(kafka: str, prefix: str, before: int, after: int) -> None:
    """Its partitions are revoked, then assigned, and the new topic is read whole; the gap is told."""
    process = Process(make_options(kafka, prefix, before, "one"), [])
    await process.start()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    await until(lambda: len(process.arrived) == 30)
    await recreate(make_options(kafka, prefix), TOPIC, after)
    other = KafkaLog(make_options(kafka, prefix))
    await other.start()
    given = [event(number, f"key-{number}") for number in range(100, 190)]
    await other.append(given)
    await until(lambda: {entry.id for entry in given} <= {record.id for record in process.arrived})
    assert {gap.reason for gap in process.gaps} == {"deleted"}
    kinds = [kind for kind, _ in process.calls]
    assert kinds[kinds.index("revoked") + 1] == "assigned"
    await until(lambda: len(process.held) == after)
    await other.stop()
    await process.stop()


async def test_what_expires_in_front_of_it_comes_as_a_gap(kafka: str, prefix: str) -> None:
    """Between the records, without a hole; the ends pass it, so that the position does."""
    options = make_options(kafka, prefix, 1, "one")
    process = Process(options, [])
    await process.start()
    await until(lambda: len(process.held) == 1)
    assert process.reader is not None
    process.reader.pause([f"{TOPIC}-0"])
    await process.log.append([event(number, "key") for number in range(100)])
    await delete_records(options, TOPIC, 0, 90)
    process.reader.resume([f"{TOPIC}-0"])
    await until(lambda: process.log.cursors.committed(CURSOR) == {f"{TOPIC}-0": 100})
    offsets = [record.offset for record in process.arrived]
    passed = [number for gap in process.gaps for number in range(gap.first or 0, (gap.last or 0) + 1)]
    assert sorted([*offsets, *passed]) == list(range(100))
    await process.stop()
