"""Positions of cursors under groups without members: what Kafka's own tools see, and where a cursor goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from gateway.errors import Transient
from gateway.log import Begin, Placed
from gateway.log.kafka import CursorPolicy, GroupInUse, KafkaLog, KafkaOptions
from gateway.log.kafka.offsets import Committed, OffsetClient
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, event
from tests.waiting import pause, until

pytestmark = pytest.mark.kafka

_QUICK = CursorPolicy(interval_s=0.1, look_s=0.1)
PART = f"{TOPIC}-0"


def make_options(bootstrap: str, prefix: str, partitions: int = 1) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=partitions)


@asynccontextmanager
async def opened(options: KafkaOptions, **more: Any) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(options, cursor_policy=more.pop("policy", _QUICK), **more)
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def append_to(log: KafkaLog, count: int, first: int = 0, topic: str = TOPIC) -> None:
    await log.append([event(number, f"key-{number % 7}", topic) for number in range(first, first + count)])


async def load(log: KafkaLog, cursor: str, parts: list[str], begin: float = 0.0, **more: Any) -> Mapping[str, Placed]:
    return await log.cursors.load(cursor, [TOPIC], parts, start={TOPIC: Begin(begin, **more)})


async def kept_positions(options: KafkaOptions, cursor: str) -> dict[str, Committed]:
    """What Kafka keeps, as our own client reads it: confluent_kafka fails on the metadata."""
    client = OffsetClient(options)
    found = await client.committed(cursor)
    await client.close()
    return {f"{options.own_name(tp.topic)}-{tp.partition}": kept for tp, kept in found.items()}


async def until_stored(options: KafkaOptions, cursor: str, offset: int, part: str = PART) -> None:
    async def is_kept() -> bool:
        kept = (await kept_positions(options, cursor)).get(part)
        return kept is not None and kept.offset == offset

    await until(is_kept, within_s=20)


# -- what others see ------------------------------------------------------------------------------------------------


async def test_a_position_is_seen_by_other_programs(kafka: str, prefix: str) -> None:
    """A second client's admin lists the group, without members, with the offsets that were committed."""
    options, cursor = make_options(kafka, prefix, 2), "gateway.billing"
    parts = [f"{TOPIC}-0", f"{TOPIC}-1"]
    async with opened(options) as log:
        await append_to(log, 30)
        await load(log, cursor, parts)
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
    options, cursor = make_options(kafka, prefix, 3), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 10)
        placed = await load(log, cursor, [f"{TOPIC}-{n}" for n in range(3)], time.time() + 3600)
        kept = await kept_positions(options, cursor)
    assert sum(one.offset for one in placed.values()) == 10
    assert {name: one.offset for name, one in kept.items()} == {name: one.offset for name, one in placed.items()}
    assert all(one.incarnation for one in kept.values())
    assert len({one.incarnation for one in kept.values()}) == 1


# -- commits --------------------------------------------------------------------------------------------------------


async def test_positions_go_forward_only(kafka: str, prefix: str) -> None:
    """A late commit of something older is ignored, and one of a partition that is not loaded, or was released."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 30)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 20)
        log.cursors.commit(cursor, PART, 10)
        log.cursors.commit(cursor, f"{TOPIC}-5", 10)
        log.cursors.commit("gateway.nobody", PART, 10)
        await log.cursors.flush()
        assert log.cursors.committed(cursor) == {PART: 20}
        log.cursors.release([PART])
        log.cursors.commit(cursor, PART, 25)
        await log.cursors.flush()
        assert log.cursors.committed(cursor) == {}
    assert (await kept_positions(options, cursor))[PART].offset == 20


async def test_a_flush_waits_for_a_commit_that_is_under_way(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun in the background just before: whoever gets the partition next must find it."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    has_begun, may_go_on = asyncio.Event(), asyncio.Event()
    async with opened(options) as log:
        await append_to(log, 10)
        await load(log, cursor, [PART])
        commit = log._offsets.commit

        async def slow(*args: Any) -> Any:
            has_begun.set()
            await may_go_on.wait()
            return await commit(*args)

        monkeypatch.setattr(log._offsets, "commit", slow)
        log.cursors.commit(cursor, PART, 7)
        await has_begun.wait()
        flushing = asyncio.create_task(log.cursors.flush())
        done, _ = await asyncio.wait([flushing], timeout=0.3)
        assert not done
        may_go_on.set()
        await flushing
        assert (await kept_positions(options, cursor))[PART].offset == 7


async def test_what_changed_goes_out_by_itself(kafka: str, prefix: str) -> None:
    """Without a flush, within the interval; a second process goes on there."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log, opened(options) as other:
        await append_to(log, 30)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 12)
        await until_stored(options, cursor, 12)
        assert await load(other, cursor, [PART]) == {PART: Placed(12)}


async def test_the_pace_is_kept_with_many_cursors(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty cursors at 20 requests a second: never more of them in a second, and only of those that changed."""
    options = make_options(kafka, prefix)
    policy = CursorPolicy(interval_s=0.1, requests_per_s=20.0, at_once=2)
    sent: list[tuple[float, str]] = []
    async with opened(options, policy=policy) as log:
        await append_to(log, 30)
        names = [f"gateway.s{number}" for number in range(45)]
        await asyncio.gather(*(load(log, name, [PART]) for name in names))
        commit = log._offsets.commit

        async def counted(group: str, positions: Any) -> Any:
            sent.append((time.monotonic(), group))
            return await commit(group, positions)

        monkeypatch.setattr(log._offsets, "commit", counted)
        for name in names[:40]:
            log.cursors.commit(name, PART, 7)
        await until(lambda: len(sent) >= 40)
        for at, _ in sent:
            # Two at once; and on a busy machine some are late, and closer to the next ones than they were sent.
            assert sum(at <= other < at + 1.0 for other, _ in sent) <= 26
        assert sorted(group for _, group in sent) == sorted(names[:40])


async def test_positions_are_committed_again_each_day(kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that do not change: Kafka would forget them."""
    options, cursor = make_options(kafka, prefix, 2), "gateway.billing"
    hours = 0.0
    sent: list[list[int]] = []
    async with opened(options, clock=lambda: hours * 3600) as log:
        await append_to(log, 30)
        await load(log, cursor, [f"{TOPIC}-0", f"{TOPIC}-1"])
        commit = log._offsets.commit

        async def noted(group: str, positions: Any) -> Any:
            sent.append(sorted(tp.partition for tp in positions))
            return await commit(group, positions)

        monkeypatch.setattr(log._offsets, "commit", noted)
        for now, count in ((0.9, 0), (1.1, 1), (20.0, 1), (21.2, 2), (41.3, 3)):
            hours = now
            await pause(0.5, "several looks at the clock")
            await until(lambda count=count: len(sent) == count)  # type: ignore[misc]
    assert sent == [[0, 1]] * 3


async def _member(options: KafkaOptions, cursor: str) -> AIOKafkaConsumer:
    """As a gateway of an older version: it reads in the group."""
    group = options.kafka_name(cursor)
    member = AIOKafkaConsumer(options.kafka_name(TOPIC), **options.consumer(), group_id=group)
    await member.start()
    return member


async def test_a_group_with_members_refuses_with_advice(kafka: str, prefix: str) -> None:
    """An older gateway reads as a member of the group: loading says so, and works when it has gone."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log, opened(options) as other:
        await append_to(log, 10)
        await load(other, cursor, [PART])
        other.cursors.commit(cursor, PART, 4)
        await other.cursors.flush()
        member = await _member(options, cursor)
        with pytest.raises(GroupInUse, match=f"group {prefix}{cursor} has members.*older version.*stop it"):
            await load(log, cursor, [PART])
        assert "has members" in log.problem
        await member.stop()
        assert await load(log, cursor, [PART]) == {PART: Placed(4)}
        assert log.problem == ""


async def test_a_group_that_gets_members_later_is_named_and_waited_for(kafka: str, prefix: str) -> None:
    """Commits are refused meanwhile, kept, and stored when the member has gone."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 10)
        await load(log, cursor, [PART])
        member = await _member(options, cursor)
        log.cursors.commit(cursor, PART, 5)
        with pytest.raises(Transient, match="has members"):
            await log.cursors.flush()
        assert "has members" in log.problem
        await member.stop()
        await until_stored(options, cursor, 5)
        await until(lambda: log.problem == "")


async def test_a_cursor_that_is_forgotten_keeps_its_position(kafka: str, prefix: str) -> None:
    """What it committed last becomes durable, and it costs nothing any more."""
    options, cursor = make_options(kafka, prefix), "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 10)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 5)
        log.cursors.forget(cursor)
        await until_stored(options, cursor, 5)
        await until(lambda: log.cursors.committed(cursor) == {})


async def test_a_coordinator_that_moves_is_followed(three_nodes: Cluster, prefix: str) -> None:
    """The group's coordinator is killed: positions are stored by the next one, in time, and none is lost."""
    options = KafkaOptions(tuple(three_nodes.bootstrap.split(",")), prefix=prefix, partitions=1, replication_factor=3)
    cursor = "gateway.billing"
    async with opened(options) as log:
        await append_to(log, 30)
        await load(log, cursor, [PART])
        log.cursors.commit(cursor, PART, 5)
        await log.cursors.flush()
        node = log._offsets._coordinators[cursor]
        await asyncio.to_thread(three_nodes.node(node).kill)
        try:
            log.cursors.commit(cursor, PART, 17)
            async with asyncio.timeout(60):
                while True:
                    try:
                        await log.cursors.flush()
                        break
                    except Transient:
                        continue
            assert log._offsets._coordinators[cursor] != node
            assert (await kept_positions(options, cursor))[PART].offset == 17
        finally:
            await asyncio.to_thread(three_nodes.node(node).start)


async def test_no_broker_is_a_transient_error_that_names_the_address() -> None:
    """At once, and again with the next try."""
    log = KafkaLog(KafkaOptions(("127.0.0.1:9",)))
    for _ in range(2):
        with pytest.raises(Transient, match=r"127\.0\.0\.1"):
            await load(log, "gateway.billing", [PART])
    await log.stop()


# -- where a cursor goes on -----------------------------------------------------------------------------------------
