"""Where a cursor goes on: at its position, its time, or the beginning of what is new, with a gap for what is gone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from confluent_kafka.admin import AdminClient

from gateway.log import Begin, Gap, Placed
from gateway.log.kafka import topics
from tests.kafka.surgery import create, delete_records, recreate
from tests.kafka.test_cursors import PART, append_to, kept_positions, load, make_options, opened, until_stored
from tests.kafka.traffic import TOPIC, tell
from tests.log.contract import a_new_moment

pytestmark = pytest.mark.kafka


async def test_a_cursor_begins_at_its_time_and_then_goes_on(kafka: str, prefix: str) -> None:
    """The time counts once: a position is kept, also where nothing was delivered yet."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 20)
        since = await a_new_moment(time.time())
        await append_to(log, 5, first=20)
        assert await load(log, cursor, [PART], since) == {PART: Placed(20)}
        await append_to(log, 5, first=25)
    async with opened(options) as log:
        assert await load(log, cursor, [PART], time.time() + 3600) == {PART: Placed(20)}


async def test_what_expired_is_a_gap_and_the_position_passes_it(kafka: str, prefix: str) -> None:
    """It is told until the cursor has committed behind it."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    gap = Gap(PART, 10, 24, "expired")
    async with opened(options) as log:
        await append_to(log, 30)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 10)
        await log.cursors.flush()
        await delete_records(options, TOPIC, 0, 25)
    async with opened(options) as log:
        assert await load(log, cursor, [PART]) == {PART: Placed(25, gap)}
        assert log.cursors.committed(cursor) == {PART: 10}
    async with opened(options) as log:
        assert await load(log, cursor, [PART]) == {PART: Placed(25, gap)}
        log.cursors.commit(cursor, PART, 25)
    async with opened(options) as log:
        assert await load(log, cursor, [PART]) == {PART: Placed(25)}


@pytest.mark.parametrize("knows", ["by its position", "by the configuration's memory"])
async def test_a_topic_that_was_made_again_is_read_whole(kafka: str, prefix: str, knows: str) -> None:
    """Kafka deletes the positions with the topic; the incarnation that the cursor has read is remembered elsewhere."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 30)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 10)
        await log.cursors.flush()
        was = (await kept_positions(options, cursor))[PART].incarnation
        assert was
        await recreate(options, TOPIC, 1)
        await append_to(log, 5, first=100)
        if knows == "by its position":
            log.cursors.commit(cursor, PART, 12)
            await log.cursors.flush()  # of the old topic, and marked so
        async with opened(options) as other:
            placed = await load(other, cursor, [PART], time.time() + 3600, incarnation=was)
            await until_stored(options, cursor, 0)
        first = 12 if knows == "by its position" else None
        assert placed == {PART: Placed(0, Gap(PART, first, None, "deleted"))}
        kept = (await kept_positions(options, cursor))[PART]
    assert kept.offset == 0
    assert kept.incarnation not in (None, "", was)


async def test_a_partition_that_was_added_is_read_from_its_beginning(kafka: str, prefix: str) -> None:
    """Its events are new to everybody, also to a cursor that began at the end."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 30)
        await load(log, cursor, [PART], time.time() + 3600)
        async with topics.admin(options) as admin:
            await admin.create_partitions({prefix + TOPIC: NewPartitions(total_count=2)})
        placed = await load(log, cursor, [PART, f"{TOPIC}-1"], 0.0)
        assert placed == {PART: Placed(30), f"{TOPIC}-1": Placed(0)}


async def test_positions_that_kafka_forgot_are_no_reason_to_skip(kafka: str, prefix: str) -> None:
    """The cursor goes back to the time at which it began, and says so."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 10)
        since = await a_new_moment(time.time())
        await append_to(log, 10, first=10)
        await load(log, cursor, [PART], since)
        log.cursors.commit(cursor, PART, 20)
        await log.cursors.flush()
        was = (await kept_positions(options, cursor))[PART].incarnation
    admin = AdminClient({"bootstrap.servers": kafka})
    await asyncio.to_thread(admin.delete_consumer_groups([prefix + cursor])[prefix + cursor].result, 20)
    with structlog.testing.capture_logs() as lines:
        async with opened(options) as log:
            assert await load(log, cursor, [PART], since, incarnation=was) == {PART: Placed(10)}
    assert [line["group"] for line in lines if line["event"] == "kafka.positions_gone"] == [cursor]


async def test_a_partition_that_lost_its_end_is_read_again(kafka: str, prefix: str) -> None:
    """Only where a broker has refused the position: the end that a new leader knows may be an old one."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 10)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 25)
        await log.cursors.flush()
        assert await load(log, cursor, [PART]) == {PART: Placed(25)}
        log._ids.truncate([TopicPartition(prefix + TOPIC, 0)])
        assert await load(log, cursor, [PART]) == {PART: Placed(0, Gap(PART, 25, None, "truncated"))}
        await until_stored(options, cursor, 0)


async def test_topics_that_are_not_its_own_or_do_not_exist_are_left_out(kafka: str, prefix: str) -> None:
    """Partitions of other cursors' topics, and those of a topic that was deleted just now."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await create(options, TOPIC, 1)
        await create(options, "call.event", 1)
        parts = [PART, "call.event-0", "no.topic-0"]
        found = await log.cursors.load(cursor, [TOPIC, "no.topic"], parts, start="earliest")
        assert found == {PART: Placed(0)}


async def test_latest_begins_with_what_is_appended_next(kafka: str, prefix: str) -> None:
    """Each cursor at the end as it is then, though others have asked just before."""
    options = make_options(kafka, prefix)
    async with opened(options) as log:
        for number in range(1, 4):
            await append_to(log, 5, first=number * 5)
            found = await log.cursors.load(f"gateway.s{number}", [TOPIC], [PART], start="latest")
            assert found == {PART: Placed(5 * number)}


@pytest.mark.timeout(180)
async def test_hundreds_of_cursors_begin_in_seconds(kafka: str, prefix: str) -> None:
    """Three hundred cursors of ten topics, sixteen at a time: what they ask about partitions is asked once."""
    options = make_options(kafka, prefix, 6)
    names = [f"topic.{number}" for number in range(10)]
    await topics.create(options, names)
    parts = [f"{name}-{number}" for name in names for number in range(6)]
    async with opened(options) as log:
        at_once = asyncio.Semaphore(16)
        asked = 0
        ask = log._offsets.offsets

        async def counted(wanted: Any) -> Any:
            nonlocal asked
            asked += 1
            return await ask(wanted)

        log._offsets.offsets = counted  # type: ignore[method-assign]

        async def load(number: int) -> None:
            async with at_once:
                start = dict.fromkeys(names, Begin(1000.0))
                assert len(await log.cursors.load(f"gateway.s{number}", names, parts, start=start)) == 60

        began = time.monotonic()
        await asyncio.gather(*map(load, range(300)))
        lasted_s = time.monotonic() - began
        began = time.monotonic()
        for number in range(300):
            log.cursors.commit(f"gateway.s{number}", parts[0], 1)
        await log.cursors.flush()
        flush_s = time.monotonic() - began
        tell(f"300 cursors: placed in {lasted_s:.1f} s, flushed in {flush_s:.2f} s, {asked} questions")
        assert lasted_s < 60  # ten on a machine that does nothing else
        assert asked <= 31 * (1 + lasted_s / 10)
        connections = [conn for conn in log._offsets._client._conns.values() if conn.connected()]
        assert len(connections) <= 4
