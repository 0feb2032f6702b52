"""The one reading of a process: members that share, come, go, die and are put out; partitions that are given anew."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from gateway.errors import Transient
from gateway.log import Batch, Gap, Record
from gateway.log.kafka import CursorPolicy, GroupReader, KafkaLog, KafkaOptions, ReaderPolicy
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, compare, event
from tests.waiting import until

pytestmark = pytest.mark.kafka

GROUP = "gateway.fanout"
CURSOR = "gateway.billing"
QUICK = ReaderPolicy(session_s=6.0, beat_s=0.2, probe_s=0.5, request_s=5.0)
_CURSORS = CursorPolicy(interval_s=0.1)


def make_options(bootstrap: str, prefix: str, partitions: int = 6, instance_id: str = "") -> KafkaOptions:
    return KafkaOptions(
        tuple(bootstrap.split(",")), prefix=prefix, partitions=partitions, instance_id=instance_id, session_s=6.0
    )


class Process:
    """One fan-out process with one cursor: what it reads is done at once."""

    def __init__(self, options: KafkaOptions, arrived: list[Record], read: Collection[str] = (TOPIC,)) -> None:
        self.log = KafkaLog(options, reader_policy=QUICK, cursor_policy=_CURSORS)
        self.arrived = arrived
        self.read = set(read)
        self.held: set[str] = set()
        self.calls: list[tuple[str, frozenset[str]]] = []
        self.gaps: list[Gap] = []
        self.troubles: list[str] = []
        self.reader: GroupReader | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.log.start()
        self.reader = await self.log.join(GROUP, self.read, on_assigned=self._on_assigned, on_revoked=self._on_revoked)
        self._task = asyncio.create_task(self._run(self.reader))

    async def halt(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def stop(self) -> None:
        await self.halt()
        await self.log.stop()

    async def die(self) -> None:
        """As SIGKILL: connections are cut, nothing is committed, nobody is told."""
        await self.halt()
        assert self.reader is not None
        for task in (self.log.cursors._committer, self.reader._watcher):
            if task is not None:
                task.cancel()
        consumer = self.reader.consumer
        consumer._coordinator._group_instance_id = "so that it does not leave"
        await consumer.stop()

    async def _run(self, reader: GroupReader) -> None:
        while True:
            try:
                batch = await reader.fetch(max_records=50, wait_s=0.2)
            except Transient as exc:
                self.troubles.append(str(exc))
                await asyncio.sleep(0.1)
                continue
            self.take(batch)

    def take(self, batch: Batch) -> None:
        self.gaps += batch.gaps
        for record in batch:
            assert record.partition in self.held
            self.arrived.append(record)
        for name, end in batch.ends.items():
            self.log.cursors.commit(CURSOR, name, end)

    async def _on_assigned(self, partitions: Collection[str]) -> Mapping[str, int]:
        self.calls.append(("assigned", frozenset(partitions)))
        placed = await self.log.cursors.load(CURSOR, self.read, partitions, start="earliest")
        self.gaps += [one.gap for one in placed.values() if one.gap is not None]
        self.held |= set(partitions)
        return {name: one.offset for name, one in placed.items()}

    async def _on_revoked(self, partitions: Collection[str]) -> None:
        self.calls.append(("revoked", frozenset(partitions)))
        self.held -= set(partitions)
        with contextlib.suppress(Transient):
            await self.log.cursors.flush()
        self.log.cursors.release(partitions)


@asynccontextmanager
async def _stream(options: KafkaOptions) -> AsyncIterator[list[Any]]:
    """Publishes some hundred events a second; yields those that Kafka has acknowledged."""
    log = KafkaLog(options)
    await log.start()
    given: list[Any] = []
    is_over = False

    async def publish() -> None:
        while not is_over:
            batch = [event(n, f"key-{n % 60}") for n in range(len(given), len(given) + 10)]
            await log.append(batch)
            given.extend(batch)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(publish())
    try:
        yield given
    finally:
        is_over = True
        await task
        await log.stop()


async def _more(arrived: list[Record], count: int = 200) -> None:
    reached = len(arrived) + count
    await until(lambda: len(arrived) >= reached)


def _generation(process: Process) -> int:
    assert process.reader is not None
    return int(process.reader.consumer._coordinator.generation)


def _check(given: list[Any], arrived: list[Record], *, repeated: int) -> None:
    result = compare(given, arrived)
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    assert result.repeated <= repeated


# -- sharing --------------------------------------------------------------------------------------------------------


async def test_members_that_come_and_go_read_everything_in_order(kafka: str, prefix: str) -> None:
    """One, three, one: nothing is missing or twice, keys in order, and none reads what it does not have."""
    arrived: list[Record] = []
    processes = [Process(make_options(kafka, prefix), arrived) for _ in range(3)]
    async with _stream(make_options(kafka, prefix)) as given:
        await processes[0].start()
        await _more(arrived)
        await asyncio.gather(processes[1].start(), processes[2].start())
        await until(lambda: [len(process.held) for process in processes] == [2, 2, 2])
        await _more(arrived)
        await processes[1].stop()
        await processes[0].stop()
        await until(lambda: len(processes[2].held) == 6)
        await _more(arrived)
    await until(lambda: not compare(given, arrived).missing)
    await processes[2].stop()
    _check(given, arrived, repeated=0)


async def test_the_group_has_one_reading_and_no_positions(kafka: str, prefix: str) -> None:
    """Its offsets are not committed; the cursor's group has them, and no member."""
    process = Process(make_options(kafka, prefix), [])
    await process.start()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    await until(lambda: len(process.arrived) == 30)
    await process.stop()
    client = process.log.__class__(make_options(kafka, prefix))
    assert await client._offsets.committed(GROUP) == {}
    assert sum(kept.offset for kept in (await client._offsets.committed(CURSOR)).values()) == 30
    await client.stop()


async def test_a_member_that_dies_is_replaced_within_its_session(kafka: str, prefix: str) -> None:
    """Its partitions go to the other; only what it had not committed comes twice."""
    arrived: list[Record] = []
    one, two = (Process(make_options(kafka, prefix, instance_id=name), arrived) for name in ("one", "two"))
    async with _stream(make_options(kafka, prefix)) as given:
        await one.start()
        await two.start()
        await until(lambda: (len(one.held), len(two.held)) == (3, 3))
        await _more(arrived)
        await one.die()
        died = time.monotonic()
        await until(lambda: len(two.held) == 6)
        assert time.monotonic() - died < QUICK.session_s + 10  # two on a machine that does nothing else
        await _more(arrived)
    await until(lambda: not compare(given, arrived).missing)
    await two.stop()
    _check(given, arrived, repeated=200)


async def test_a_restart_within_the_session_moves_nothing(kafka: str, prefix: str) -> None:
    """Neither generation nor assignment change, the other process notices nothing, nothing is lost or twice."""
    arrived: list[Record] = []
    one, two = (Process(make_options(kafka, prefix, instance_id=name), arrived) for name in ("one", "two"))
    async with _stream(make_options(kafka, prefix)) as given:
        await one.start()
        await two.start()
        await until(lambda: (len(one.held), len(two.held)) == (3, 3))
        had, generation, calls = set(one.held), _generation(two), list(two.calls)
        await _more(arrived)
        await one.stop()
        again = Process(make_options(kafka, prefix, instance_id="one"), arrived)
        await again.start()
        await until(lambda: len(again.held) == 3)
        await _more(arrived)
        assert again.held == had
        assert (_generation(two), _generation(again), two.calls) == (generation, generation, calls)
    await until(lambda: not compare(given, arrived).missing)
    await again.stop()
    await two.stop()
    _check(given, arrived, repeated=0)


async def test_a_second_process_of_the_same_id_is_told_of(kafka: str, prefix: str) -> None:
    """The older one says so, with advice, and reads nothing until the newer one has gone: they do not take turns."""
    arrived: list[Record] = []
    options = make_options(kafka, prefix, instance_id="one")
    one, other = Process(options, arrived), Process(options, arrived)
    async with _stream(make_options(kafka, prefix)) as given:
        await one.start()
        await _more(arrived)
        await other.start()
        await until(lambda: not one.held)
        await until(lambda: any("another process reads with kafka.instance_id one" in said for said in one.troubles))
        generation = _generation(other)
        await _more(arrived, 400)
        assert one.reader is not None
        assert "kafka.instance_id" in one.reader.state.reason
        assert (len(other.held), _generation(other)) == (6, generation)
        await other.stop()
        await until(lambda: len(one.held) == 6)
        await _more(arrived)
        assert one.reader.state.is_ready
    await until(lambda: not compare(given, arrived).missing)
    await one.stop()
    _check(given, arrived, repeated=100)


async def test_partitions_are_given_up_before_others_get_them(broker: Cluster, prefix: str) -> None:
    """The coordinator does not answer for the session: the owner loses its partitions, and gets them again later."""
    arrived: list[Record] = []
    process = Process(make_options(broker.bootstrap, prefix, instance_id="one"), arrived)
    await process.start()
    await process.log.append([event(1, "key")])
    await until(lambda: len(arrived) == 1)
    broker.node(1).suspend()
    suspended = time.monotonic()
    await until(lambda: not process.held)
    assert QUICK.lease_s - 1 < time.monotonic() - suspended
    assert process.calls[-1][0] == "revoked"
    broker.node(1).resume()
    await until(lambda: len(process.held) == 6)
    await process.log.append([event(2, "key")])
    await until(lambda: len(arrived) >= 2)
    await process.stop()


async def test_an_owner_that_does_not_give_up_holds_the_group_for_seconds_only(kafka: str, prefix: str) -> None:
    """Its ``on_revoked`` is cancelled, and the other member gets its share."""
    one, two = Process(make_options(kafka, prefix), []), Process(make_options(kafka, prefix), [])
    was_cancelled = asyncio.Event()

    async def never(partitions: Collection[str]) -> None:
        one.held -= set(partitions)
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    one._on_revoked = never  # type: ignore[method-assign]
    await one.start()
    await until(lambda: len(one.held) == 6)
    await two.start()
    await until(lambda: (len(one.held), len(two.held)) == (3, 3))
    assert was_cancelled.is_set()
    await two.stop()
    one._on_revoked = Process._on_revoked.__get__(one)  # type: ignore[method-assign]
    await one.stop()


async def test_what_is_placed_when_partitions_go_is_cancelled(kafka: str, prefix: str) -> None:
    """An owner that is still asking where it begins does not hold up the group, and is asked again."""
    one, two = Process(make_options(kafka, prefix), []), Process(make_options(kafka, prefix), [])
    asked: list[Collection[str]] = []

    async def slow(partitions: Collection[str]) -> Mapping[str, int]:
        asked.append(partitions)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return await Process._on_assigned(one, partitions)

    one._on_assigned = slow  # type: ignore[method-assign]
    await one.start()
    await until(lambda: len(asked) == 1)
    await two.start()
    await until(lambda: (len(one.held), len(two.held)) == (3, 3))
    assert [len(partitions) for partitions in asked] == [6, 3]
    assert one.calls[0][0] == "revoked"
    await two.stop()
    await one.stop()


async def test_a_question_about_ends_places_nothing(kafka: str, prefix: str) -> None:
    """A second placing beside the one of the reading would take from cursors what they have read since the first."""
    process = Process(make_options(kafka, prefix, 2), [])
    asked: list[Collection[str]] = []
    may_go_on = asyncio.Event()

    async def slow(partitions: Collection[str]) -> Mapping[str, int]:
        asked.append(partitions)
        await may_go_on.wait()
        return await Process._on_assigned(process, partitions)

    process._on_assigned = slow  # type: ignore[method-assign]
    await process.start()
    await until(lambda: len(asked) == 1)
    assert process.reader is not None
    assert await process.reader.ends() == {}
    assert len(asked) == 1
    may_go_on.set()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    await until(lambda: len(process.arrived) == 30)
    assert len(asked) == 1
    await process.stop()


# -- topics and partitions ------------------------------------------------------------------------------------------


async def test_ends_are_what_the_fetches_brought(kafka: str, prefix: str) -> None:
    """While it reads, nothing is asked for them; a partition that rests is asked about."""
    process = Process(make_options(kafka, prefix, 2, "one"), [])
    await process.start()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    await until(lambda: len(process.arrived) == 30)
    assert process.reader is not None
    await process.halt()
    assert sum((await process.reader.ends()).values()) == 30
    await process.log.append([event(number, f"key-{number}") for number in range(30, 60)])
    await asyncio.sleep(4)  # older than is believed
    assert sum((await process.reader.ends()).values()) == 60
    await process.log.stop()


async def test_a_reader_that_does_not_read_keeps_its_partitions(kafka: str, prefix: str) -> None:
    """Without a fetch for longer than its session: heartbeats need no reading."""
    process = Process(make_options(kafka, prefix), [])
    await process.start()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    await until(lambda: len(process.arrived) == 30)
    await process.halt()
    await asyncio.sleep(QUICK.session_s + 2)  # the time itself is what the promise is about
    assert [kind for kind, _ in process.calls] == ["assigned"]
    await process.log.stop()


async def test_connections_are_few(kafka: str, prefix: str) -> None:
    """One consumer, one producer, one set for all cursors: whatever their number."""
    process = Process(make_options(kafka, prefix, 6, "one"), [])
    await process.start()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    for number in range(50):
        await process.log.cursors.load(f"gateway.s{number}", [TOPIC], sorted(process.held), start="earliest")
    clients = [process.log._offsets._client, process.reader.consumer._client]  # type: ignore[union-attr]
    assert sum(conn.connected() for client in clients for conn in client._conns.values()) <= 6
    await process.stop()


async def test_the_member_is_seen_with_its_instance_id(kafka: str, prefix: str) -> None:
    """``kafka-consumer-groups --members`` shows who has what, in a form that other clients can decode."""
    process = Process(make_options(kafka, prefix, 2, "fanout-0"), [])
    await process.start()
    await until(lambda: len(process.held) == 2)
    admin = AdminClient({"bootstrap.servers": kafka})
    described = admin.describe_consumer_groups([prefix + GROUP])[prefix + GROUP]
    [member] = (await asyncio.to_thread(described.result, 20)).members
    assert member.group_instance_id == "fanout-0"
    assert sorted(tp.partition for tp in member.assignment.topic_partitions) == [0, 1]
    await process.stop()
