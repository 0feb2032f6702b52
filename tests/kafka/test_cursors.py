"""Positions of cursors under groups without members: what Kafka's own tools see, and where a cursor goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from gateway.errors import Transient
from gateway.log import Begin, Gap, Placed
from gateway.log.kafka import CursorPolicy, GroupInUse, KafkaLog, KafkaOptions, topics
from gateway.log.kafka.gaps import Committed
from gateway.log.kafka.offsets import OffsetClient
from tests.broker.cluster import Cluster
from tests.kafka.surgery import create, delete_records, recreate
from tests.kafka.traffic import TOPIC, event, tell
from tests.log.contract import a_new_moment
from tests.waiting import until

pytestmark = pytest.mark.kafka

_QUICK = CursorPolicy(interval_s=0.1, look_s=0.1)
_PART = f"{TOPIC}-0"


def _options(bootstrap: str, prefix: str, partitions: int = 1) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=partitions)


@asynccontextmanager
async def _opened(options: KafkaOptions, **more: Any) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(options, cursor_policy=more.pop("policy", _QUICK), **more)
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def _append(log: KafkaLog, count: int, first: int = 0, topic: str = TOPIC) -> None:
    await log.append([event(number, f"key-{number % 7}", topic) for number in range(first, first + count)])


async def _load(log: KafkaLog, cursor: str, parts: list[str], begin: float = 0.0, **more: Any) -> Mapping[str, Placed]:
    return await log.cursors.load(cursor, [TOPIC], parts, start={TOPIC: Begin(begin, **more)})


async def _kept(options: KafkaOptions, cursor: str) -> dict[str, Committed]:
    """What Kafka keeps, as our own client reads it: confluent_kafka fails on the metadata."""
    client = OffsetClient(options)
    found = await client.committed(cursor)
    await client.close()
    return {f"{options.own_name(tp.topic)}-{tp.partition}": kept for tp, kept in found.items()}


async def _stored(options: KafkaOptions, cursor: str, offset: int, part: str = _PART) -> None:
    async def is_kept() -> bool:
        kept = (await _kept(options, cursor)).get(part)
        return kept is not None and kept.offset == offset

    await until(is_kept, within_s=20)


# -- what others see ------------------------------------------------------------------------------------------------


async def test_a_position_is_seen_by_other_programs(kafka: str, prefix: str) -> None:
    """A second client's admin lists the group, without members, with the offsets that were committed."""
    options, cursor = _options(kafka, prefix, 2), "gateway.billing"
    parts = [f"{TOPIC}-0", f"{TOPIC}-1"]
    async with _opened(options) as log:
        await _append(log, 30)
        await _load(log, cursor, parts)
        log.cursors.commit(cursor, parts[0], 3)
        log.cursors.commit(cursor, parts[1], 4)
        await log.cursors.flush()
    admin = AdminClient({"bootstrap.servers": kafka})
    described = admin.describe_consumer_groups([prefix + cursor])[prefix + cursor]
    assert list((await asyncio.to_thread(described.result, 20)).members) == []
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(prefix + cursor)])[prefix + cursor]
    found = (await asyncio.to_thread(listed.result, 20)).topic_partitions
    assert {(item.topic, item.partition): item.offset for item in found} == {
        (prefix + TOPIC, 0): 3,
        (prefix + TOPIC, 1): 4,
    }


async def test_a_beginning_is_durable_when_it_is_known(kafka: str, prefix: str) -> None:
    """Every partition has a position, with the topic's incarnation, before anything was delivered."""
    options, cursor = _options(kafka, prefix, 3), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 10)
        placed = await _load(log, cursor, [f"{TOPIC}-{n}" for n in range(3)], time.time() + 3600)
        kept = await _kept(options, cursor)
    assert sum(one.offset for one in placed.values()) == 10
    assert {name: one.offset for name, one in kept.items()} == {name: one.offset for name, one in placed.items()}
    assert all(one.incarnation for one in kept.values())
    assert len({one.incarnation for one in kept.values()}) == 1


# -- commits --------------------------------------------------------------------------------------------------------


async def test_positions_go_forward_only(kafka: str, prefix: str) -> None:
    """A late commit of something older is ignored, and one of a partition that is not loaded, or was released."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 30)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 20)
        log.cursors.commit(cursor, _PART, 10)
        log.cursors.commit(cursor, f"{TOPIC}-5", 10)
        log.cursors.commit("gateway.nobody", _PART, 10)
        await log.cursors.flush()
        assert log.cursors.committed(cursor) == {_PART: 20}
        log.cursors.release([_PART])
        log.cursors.commit(cursor, _PART, 25)
        await log.cursors.flush()
        assert log.cursors.committed(cursor) == {}
    assert (await _kept(options, cursor))[_PART].offset == 20


async def test_what_changed_goes_out_by_itself(kafka: str, prefix: str) -> None:
    """Without a flush, within the interval; a second process goes on there."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log, _opened(options) as other:
        await _append(log, 30)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 12)
        await _stored(options, cursor, 12)
        assert await _load(other, cursor, [_PART]) == {_PART: Placed(12)}


async def test_the_pace_is_kept_with_many_cursors(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty cursors at 20 requests a second: never more of them in a second, and only of those that changed."""
    options = _options(kafka, prefix)
    policy = CursorPolicy(interval_s=0.1, requests_per_s=20.0, at_once=2)
    sent: list[tuple[float, str]] = []
    async with _opened(options, policy=policy) as log:
        await _append(log, 30)
        names = [f"gateway.s{number}" for number in range(45)]
        await asyncio.gather(*(_load(log, name, [_PART]) for name in names))
        commit = log._offsets.commit

        async def counted(group: str, positions: Any) -> None:
            sent.append((time.monotonic(), group))
            await commit(group, positions)

        monkeypatch.setattr(log._offsets, "commit", counted)
        for name in names[:40]:
            log.cursors.commit(name, _PART, 7)
        await until(lambda: len(sent) >= 40)
        for at, _ in sent:
            assert sum(at <= other < at + 1.0 for other, _ in sent) <= 22
        assert sorted(group for _, group in sent) == sorted(names[:40])


async def test_positions_are_committed_again_each_day(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that do not change: Kafka would forget them."""
    options, cursor = _options(kafka, prefix, 2), "gateway.billing"
    hours = 0.0
    sent: list[list[int]] = []
    async with _opened(options, clock=lambda: hours * 3600) as log:
        await _append(log, 30)
        await _load(log, cursor, [f"{TOPIC}-0", f"{TOPIC}-1"])
        commit = log._offsets.commit

        async def noted(group: str, positions: Any) -> None:
            await commit(group, positions)
            sent.append(sorted(tp.partition for tp in positions))

        monkeypatch.setattr(log._offsets, "commit", noted)
        for now, count in ((0.9, 0), (1.1, 1), (20.0, 1), (21.2, 2), (41.3, 3)):
            hours = now
            await asyncio.sleep(0.5)  # several looks at the clock
            await until(lambda count=count: len(sent) == count)  # type: ignore[misc]
    assert sent == [[0, 1]] * 3


async def test_a_group_with_members_refuses_with_advice(kafka: str, prefix: str) -> None:
    """An older gateway reads as a member of the group: loading says so, and works when it has gone."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log, _opened(options) as other:
        await _append(log, 10)
        reader = await other.reader(cursor, [TOPIC], start="earliest")
        reader.commit(_PART, 4)
        await reader.flush()
        with pytest.raises(GroupInUse, match=f"group {prefix}{cursor} has members.*older version.*stop it"):
            await _load(log, cursor, [_PART])
        assert "has members" in log.problem
        await reader.close()
        assert await _load(log, cursor, [_PART]) == {_PART: Placed(4)}
        assert log.problem == ""


async def test_a_group_that_gets_members_later_is_named_and_waited_for(kafka: str, prefix: str) -> None:
    """Commits are refused meanwhile, kept, and stored when the member has gone."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log, _opened(options) as other:
        await _append(log, 10)
        await _load(log, cursor, [_PART])
        reader = await other.reader(cursor, [TOPIC], start="earliest")
        log.cursors.commit(cursor, _PART, 5)
        with pytest.raises(Transient, match="has members"):
            await log.cursors.flush()
        assert "has members" in log.problem
        await reader.close()
        await _stored(options, cursor, 5)
        await until(lambda: log.problem == "")


async def test_a_cursor_that_is_forgotten_keeps_its_position(kafka: str, prefix: str) -> None:
    """What it committed last becomes durable, and it costs nothing any more."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 10)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 5)
        log.cursors.forget(cursor)
        await _stored(options, cursor, 5)
        await until(lambda: log.cursors.committed(cursor) == {})


async def test_a_coordinator_that_moves_is_followed(three_nodes: Cluster, prefix: str) -> None:
    """The group's coordinator is killed: positions are stored by the next one, in time, and none is lost."""
    options = KafkaOptions(tuple(three_nodes.bootstrap.split(",")), prefix=prefix, partitions=1, replication_factor=3)
    cursor = "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 30)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 5)
        await log.cursors.flush()
        node = log._offsets._coordinators[cursor]
        await asyncio.to_thread(three_nodes.node(node).kill)
        try:
            log.cursors.commit(cursor, _PART, 17)
            async with asyncio.timeout(60):
                while True:
                    try:
                        await log.cursors.flush()
                        break
                    except Transient:
                        continue
            assert log._offsets._coordinators[cursor] != node
            assert (await _kept(options, cursor))[_PART].offset == 17
        finally:
            await asyncio.to_thread(three_nodes.node(node).start)


async def test_no_broker_is_a_transient_error_that_names_the_address() -> None:
    """At once, and again with the next try."""
    log = KafkaLog(KafkaOptions(("127.0.0.1:9",)))
    for _ in range(2):
        with pytest.raises(Transient, match=r"127\.0\.0\.1"):
            await _load(log, "gateway.billing", [_PART])
    await log.stop()


# -- where a cursor goes on -----------------------------------------------------------------------------------------


async def test_a_cursor_begins_at_its_time_and_then_goes_on(kafka: str, prefix: str) -> None:
    """The time counts once: a position is kept, also where nothing was delivered yet."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 20)
        since = await a_new_moment(time.time())
        await _append(log, 5, first=20)
        assert await _load(log, cursor, [_PART], since) == {_PART: Placed(20)}
        await _append(log, 5, first=25)
    async with _opened(options) as log:
        assert await _load(log, cursor, [_PART], time.time() + 3600) == {_PART: Placed(20)}


async def test_what_expired_is_a_gap_and_the_position_passes_it(kafka: str, prefix: str) -> None:
    """It is told until the cursor has committed behind it."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    gap = Gap(_PART, 10, 24, "expired")
    async with _opened(options) as log:
        await _append(log, 30)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 10)
        await log.cursors.flush()
        await delete_records(options, TOPIC, 0, 25)
    async with _opened(options) as log:
        assert await _load(log, cursor, [_PART]) == {_PART: Placed(25, gap)}
        assert log.cursors.committed(cursor) == {_PART: 10}
    async with _opened(options) as log:
        assert await _load(log, cursor, [_PART]) == {_PART: Placed(25, gap)}
        log.cursors.commit(cursor, _PART, 25)
    async with _opened(options) as log:
        assert await _load(log, cursor, [_PART]) == {_PART: Placed(25)}


@pytest.mark.parametrize("knows", ["by its position", "by the configuration's memory"])
async def test_a_topic_that_was_made_again_is_read_whole(kafka: str, prefix: str, knows: str) -> None:
    """Kafka deletes the positions with the topic; the incarnation that the cursor has read is remembered elsewhere."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 30)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 10)
        await log.cursors.flush()
        was = (await _kept(options, cursor))[_PART].incarnation
        assert was
        await recreate(options, TOPIC, 1)
        await _append(log, 5, first=100)
        if knows == "by its position":
            log.cursors.commit(cursor, _PART, 12)
            await log.cursors.flush()  # of the old topic, and marked so
        async with _opened(options) as other:
            placed = await _load(other, cursor, [_PART], time.time() + 3600, incarnation=was)
            await _stored(options, cursor, 0)
        first = 12 if knows == "by its position" else None
        assert placed == {_PART: Placed(0, Gap(_PART, first, None, "deleted"))}
        kept = (await _kept(options, cursor))[_PART]
    assert kept.offset == 0
    assert kept.incarnation not in (None, "", was)


async def test_a_partition_that_was_added_is_read_from_its_beginning(kafka: str, prefix: str) -> None:
    """Its events are new to everybody, also to a cursor that began at the end."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 30)
        await _load(log, cursor, [_PART], time.time() + 3600)
        async with topics.admin(options) as admin:
            await admin.create_partitions({prefix + TOPIC: NewPartitions(total_count=2)})
        placed = await _load(log, cursor, [_PART, f"{TOPIC}-1"], 0.0)
        assert placed == {_PART: Placed(30), f"{TOPIC}-1": Placed(0)}


async def test_positions_that_kafka_forgot_are_no_reason_to_skip(kafka: str, prefix: str) -> None:
    """The cursor goes back to the time at which it began, and says so."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 10)
        since = await a_new_moment(time.time())
        await _append(log, 10, first=10)
        await _load(log, cursor, [_PART], since)
        log.cursors.commit(cursor, _PART, 20)
        await log.cursors.flush()
        was = (await _kept(options, cursor))[_PART].incarnation
    admin = AdminClient({"bootstrap.servers": kafka})
    await asyncio.to_thread(admin.delete_consumer_groups([prefix + cursor])[prefix + cursor].result, 20)
    with structlog.testing.capture_logs() as lines:
        async with _opened(options) as log:
            assert await _load(log, cursor, [_PART], since, incarnation=was) == {_PART: Placed(10)}
    assert [line["group"] for line in lines if line["event"] == "kafka.positions_gone"] == [cursor]


async def test_a_partition_that_lost_its_end_is_read_again(kafka: str, prefix: str) -> None:
    """Only where a broker has refused the position: the end that a new leader knows may be an old one."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await _append(log, 10)
        await _load(log, cursor, [_PART])
        log.cursors.commit(cursor, _PART, 25)
        await log.cursors.flush()
        assert await _load(log, cursor, [_PART]) == {_PART: Placed(25)}
        log._truncated.add([TopicPartition(prefix + TOPIC, 0)])
        assert await _load(log, cursor, [_PART]) == {_PART: Placed(0, Gap(_PART, 25, None, "truncated"))}
        await _stored(options, cursor, 0)


async def test_topics_that_are_not_its_own_or_do_not_exist_are_left_out(kafka: str, prefix: str) -> None:
    """Partitions of other cursors' topics, and those of a topic that was deleted just now."""
    options, cursor = _options(kafka, prefix), "gateway.billing"
    async with _opened(options) as log:
        await create(options, TOPIC, 1)
        await create(options, "call.event", 1)
        parts = [_PART, "call.event-0", "no.topic-0"]
        found = await log.cursors.load(cursor, [TOPIC, "no.topic"], parts, start="earliest")
        assert found == {_PART: Placed(0)}


async def test_latest_begins_with_what_is_appended_next(kafka: str, prefix: str) -> None:
    """Each cursor at the end as it is then, though others have asked just before."""
    options = _options(kafka, prefix)
    async with _opened(options) as log:
        for number in range(1, 4):
            await _append(log, 5, first=number * 5)
            found = await log.cursors.load(f"gateway.s{number}", [TOPIC], [_PART], start="latest")
            assert found == {_PART: Placed(5 * number)}


@pytest.mark.timeout(180)
async def test_hundreds_of_cursors_begin_in_seconds(kafka: str, prefix: str) -> None:
    """Three hundred cursors of ten topics, sixteen at a time: what they ask about partitions is asked once."""
    options = _options(kafka, prefix, 6)
    names = [f"topic.{number}" for number in range(10)]
    await topics.create(options, names)
    parts = [f"{name}-{number}" for name in names for number in range(6)]
    async with _opened(options) as log:
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
