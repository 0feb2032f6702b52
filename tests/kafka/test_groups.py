"""Consumer groups: several readers of one name, rebalances, deaths, outages."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import NotNow, Transient
from gateway.log import Entry, Record
from gateway.log.kafka import KafkaLog, KafkaOptions, KafkaReader, ReaderPolicy
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, add_partitions, compare, event, tell
from tests.log.contract import read
from tests.waiting import until

pytestmark = pytest.mark.kafka
_GROUP = "gateway.billing"
_QUICK = ReaderPolicy(session_s=6.0, heartbeat_s=0.5, commit_interval_s=0.1, probe_s=0.5, request_s=5.0)


def _options(bootstrap: str, prefix: str = "", **more: Any) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=6, **more)


class Member:
    """A process of the group: reads, works on each record for a moment, commits what is done without a gap."""

    def __init__(self, options: KafkaOptions, arrived: list[Record], policy: ReaderPolicy = _QUICK) -> None:
        self._log = KafkaLog(options, reader_policy=policy)
        self._arrived = arrived
        self._reader: KafkaReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._held: dict[str, list[asyncio.Task[None]]] = {}
        self.revoked: list[set[str]] = []

    async def start(self) -> None:
        self._reader = await self._log.reader(_GROUP, [TOPIC], start="earliest", on_revoked=self._on_revoked)
        self._task = asyncio.create_task(self._run(self._reader))

    async def stop(self) -> None:
        """In order: no more reading, what is held gets done, commits, good-bye."""
        await self._halt()
        for tasks in list(self._held.values()):  # a rebalance that comes meanwhile takes partitions away
            await asyncio.gather(*tasks)
        await self._log.stop()

    async def die(self) -> None:
        """As SIGKILL: connections are cut, nothing is committed, nobody is told."""
        await self._halt()
        for tasks in list(self._held.values()):
            for task in tasks:
                task.cancel()
        assert self._reader is not None
        assert self._reader._committer is not None
        self._reader._committer.cancel()
        coordinator = self._reader._member.consumer._coordinator
        coordinator._maybe_leave_group = coordinator._stop_heartbeat_task
        await self._reader._member.consumer.stop()

    @property
    def partitions(self) -> int:
        assert self._reader is not None
        return len(self._reader._member.consumer.assignment())

    async def _halt(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, reader: KafkaReader) -> None:
        while True:
            for record in await reader.fetch(max_records=50, wait_s=0.2):
                before = self._held.setdefault(record.partition, [])
                before.append(asyncio.create_task(self._work(reader, record, before[-1] if before else None)))
                del before[:-200]

    async def _work(self, reader: KafkaReader, record: Record, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
            if before.cancelled():
                raise asyncio.CancelledError
        await asyncio.sleep(random.uniform(0, 0.002))
        self._arrived.append(record)
        reader.commit(record.partition, record.offset + 1)

    async def _on_revoked(self, partitions: Collection[str]) -> None:
        self.revoked.append(set(partitions))
        for name in partitions:
            await asyncio.gather(*self._held.pop(name, []))


async def _publish(options: KafkaOptions, count: int) -> list[Any]:
    log = KafkaLog(options)
    await log.start()
    given = [event(n, f"key-{n % 60}") for n in range(count)]
    for start in range(0, count, 500):
        await log.append(given[start : start + 500])
    await log.stop()
    return given


@asynccontextmanager
async def _stream(options: KafkaOptions) -> AsyncIterator[list[Entry]]:
    """Publishes about 1,500 events a second; yields those that Kafka has acknowledged."""
    log = KafkaLog(options)
    await log.start()
    given: list[Entry] = []

    async def publish() -> None:
        while True:
            batch = [event(n, f"key-{n % 60}") for n in range(len(given), len(given) + 30)]
            given.extend(batch)
            await log.append(batch)
            await asyncio.sleep(0.015)

    task = asyncio.create_task(publish())
    try:
        yield given
        task.cancel()
        await asyncio.wait([task])
        await log.append(given[-30:])  # the last append may have been cut short: these may be there twice
    finally:
        task.cancel()
        await log.stop()


async def test_members_that_come_and_go_read_everything_in_order(kafka: str, prefix: str) -> None:
    """One member, three, then two, then one: nothing missed, keys in order, and with orderly stops nothing twice."""
    options = _options(kafka, prefix)
    arrived: list[Record] = []
    members = [Member(options, arrived) for _ in range(3)]
    async with _stream(options) as given:
        await members[0].start()
        await _more(arrived)
        await members[1].start()
        await members[2].start()
        await until(lambda: [member.partitions for member in members] == [2, 2, 2])
        await _more(arrived)
        await members[1].stop()
        await _more(arrived)
        await members[0].stop()
        await _more(arrived)
    await until(lambda: not compare(given, arrived).missing)
    await members[2].stop()
    result = compare(given, arrived)
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    assert result.repeated <= 60  # the last append of the stream, and nothing of the rebalances
    assert members[0].revoked
    tell(f"repeated: {result.repeated} of {len(given)}")


async def test_a_member_that_dies_is_replaced(kafka: str, prefix: str) -> None:
    """Killed, its partitions go to the other within its session; only what it had not committed comes twice."""
    options = _options(kafka, prefix)
    arrived: list[Record] = []
    one, two = Member(options, arrived), Member(options, arrived)
    async with _stream(options) as given:
        await one.start()
        await two.start()
        await until(lambda: one.partitions == 3 == two.partitions)
        await _more(arrived)
        await one.die()
        await until(lambda: two.partitions == 6)
        await _more(arrived)
    await until(lambda: not compare(given, arrived).missing)
    await two.stop()
    result = compare(given, arrived)
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    # What one of two members handles between two commits (a tenth of a second), on a machine that is busy.
    assert result.repeated <= 750
    tell(f"repeated: {result.repeated} of {len(given)}")


async def _more(arrived: list[Record], count: int = 500) -> None:
    reached = len(arrived) + count
    await until(lambda: len(arrived) >= reached)


async def test_partitions_are_settled_before_they_go(kafka: str, prefix: str) -> None:
    """``on_revoked`` is awaited, and what it finishes is committed before another member reads the partition."""
    options = _options(kafka, prefix)
    given = await _publish(options, 60)
    log = KafkaLog(options, reader_policy=_QUICK)
    records: list[Record] = []
    may_settle = asyncio.Event()
    is_asked = asyncio.Event()

    async def settle(partitions: Collection[str]) -> None:
        is_asked.set()
        await may_settle.wait()
        for record in records:
            reader.commit(record.partition, record.offset + 1)

    reader = await log.reader(_GROUP, [TOPIC], start="earliest", on_revoked=settle)
    records += await read(reader, 60)
    other = KafkaLog(options, reader_policy=_QUICK)
    opening = asyncio.create_task(other.reader(_GROUP, [TOPIC], start="earliest"))
    await is_asked.wait()
    assert not opening.done()
    may_settle.set()
    second = await opening
    assert sum((await second.lag()).values()) + sum((await reader.lag()).values()) == 0
    assert list(await second.fetch(max_records=100, wait_s=0.5)) == []
    assert len(given) == 60
    await other.stop()
    await log.stop()


@pytest.mark.slow
async def test_a_settling_may_take_as_long_as_an_attempt(kafka: str, prefix: str) -> None:
    """Longer than any request of aiokafka's may last: it is not cut short, and the group goes on as one afterwards."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    await _publish(options, 10)
    log, other = KafkaLog(options), KafkaLog(options)
    is_settled = asyncio.Event()

    async def settle(partitions: Collection[str]) -> None:
        await asyncio.sleep(27)  # the time itself is what the promise is about
        is_settled.set()

    reader = await log.reader(_GROUP, [TOPIC], start="earliest", on_revoked=settle)
    second = await other.reader(_GROUP, [TOPIC], start="earliest")
    assert is_settled.is_set()
    await reader.fetch(max_records=1, wait_s=10.0)
    assert [len(member._member.consumer.assignment()) for member in (reader, second)] == [1, 1]
    await other.stop()
    await log.stop()


async def test_a_slow_settling_is_cut_short(kafka: str, prefix: str) -> None:
    """An owner that never settles does not hold the group: after its time the partitions go."""
    options = _options(kafka, prefix)
    await _publish(options, 10)
    policy = ReaderPolicy(session_s=6.0, heartbeat_s=0.5, settle_s=1.0)
    log, other = KafkaLog(options, reader_policy=policy), KafkaLog(options, reader_policy=policy)
    was_cancelled = asyncio.Event()

    async def never(partitions: Collection[str]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    await log.reader(_GROUP, [TOPIC], start="earliest", on_revoked=never)
    second = await other.reader(_GROUP, [TOPIC], start="earliest")
    assert was_cancelled.is_set()
    assert len(second._member.consumer.assignment()) == 3
    await other.stop()
    await log.stop()


async def test_a_reader_that_does_not_read_keeps_its_place(kafka: str, prefix: str) -> None:
    """Without a fetch for longer than its session, a member still has its partitions: heartbeats need no reading."""
    options = _options(kafka, prefix)
    given = await _publish(options, 20)
    log = KafkaLog(options, reader_policy=_QUICK)
    revoked: list[Collection[str]] = []

    async def note(partitions: Collection[str]) -> None:
        revoked.append(partitions)

    reader = await log.reader(_GROUP, [TOPIC], start="earliest", on_revoked=note)
    first = await reader.fetch(max_records=1, wait_s=20)
    await asyncio.sleep(_QUICK.session_s + 2)  # the time itself is what the promise is about
    assert len(first) + len(await read(reader, 19)) == len(given)
    assert revoked == []
    await log.stop()


async def test_what_came_to_an_added_partition_is_read(kafka: str, prefix: str) -> None:
    """A partition that was added while nobody read is read from its beginning, also if the group began at the end."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    await _publish(options, 10)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.reader(_GROUP, [TOPIC], start="latest")
    await log.stop()
    await add_partitions(options, TOPIC, 2)
    given = await _publish(options, 40)
    log = KafkaLog(options, reader_policy=_QUICK)
    reader = await log.reader(_GROUP, [TOPIC], start="latest")
    found = await read(reader, 40)
    assert {record.id for record in found} == {entry.id for entry in given}
    assert {record.partition for record in found} == {f"{TOPIC}-0", f"{TOPIC}-1"}
    await log.stop()


async def test_readers_live_through_a_broker_that_is_killed(broker: Cluster) -> None:
    """An outage is a Transient error and a state; afterwards the same reader goes on behind its commits."""
    options = _options(broker.bootstrap)
    log = KafkaLog(options, reader_policy=_QUICK, append_s=2.0)
    await log.start()
    reader = await log.reader(_GROUP, [TOPIC], start="earliest")
    await log.append([event(n, f"key-{n}") for n in range(50)])
    for record in await read(reader, 50):
        reader.commit(record.partition, record.offset + 1)
    await reader.flush()
    await asyncio.to_thread(broker.node(1).kill)
    with pytest.raises(Transient):
        async with asyncio.timeout(30):
            while True:
                await reader.fetch(max_records=10, wait_s=0.2)
    assert not reader.state.is_ready
    with pytest.raises(NotNow):
        await log.append([event(50, "key-50")])
    await asyncio.to_thread(broker.node(1).start)
    await log.append([event(51, "key-51")])
    found: list[Record] = []
    async with asyncio.timeout(60):
        while not any(record.key == "key-51" for record in found):
            try:
                found += await reader.fetch(max_records=10, wait_s=0.5)
            except Transient:
                await asyncio.sleep(0.1)
    assert {record.key for record in found} <= {"key-50", "key-51"}
    assert reader.state.is_ready
    await log.stop()


async def test_close_ends_in_time_while_kafka_is_away(broker: Cluster) -> None:
    """A reader and a log close within ten seconds whatever Kafka does."""
    log = KafkaLog(_options(broker.bootstrap), reader_policy=_QUICK)
    await log.start()
    reader = await log.reader(_GROUP, [TOPIC], start="earliest")
    await log.append([event(1, "k")])
    reader.commit((await read(reader, 1))[0].partition, 1)
    await asyncio.to_thread(broker.node(1).kill)
    started = time.monotonic()
    await log.stop()
    assert time.monotonic() - started < 15
    with pytest.raises(Transient):
        await reader.fetch(max_records=1, wait_s=0)


async def test_no_broker_at_all_is_a_transient_error() -> None:
    """Opening a reader without a broker raises within its time, and can be tried again."""
    log = KafkaLog(KafkaOptions(("127.0.0.1:9",)))
    for _ in range(2):
        with pytest.raises(Transient, match=r"127\.0\.0\.1"):
            await log.reader(_GROUP, [TOPIC])
    await log.stop()


async def test_seek_to_time_passes_over_nothing_that_comes_meanwhile(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is appended between the questions of one seek is read, whichever of them it falls behind."""
    options = _options(kafka, prefix)
    log = KafkaLog(options, reader_policy=_QUICK)
    await log.start()
    reader = await log.reader(_GROUP, [TOPIC], start="latest")
    given: list[Entry] = []
    ask = reader._member.ask

    async def ask_and_append(question: Any) -> Any:
        answer = await ask(question)
        given.append(event(len(given), "k"))
        await log.append(given[-1:])
        return answer

    await reader.fetch(max_records=1, wait_s=0.1)
    since = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(reader._member, "ask", ask_and_append)
        await reader.seek_to_time(since)
    assert given
    assert {record.id for record in await read(reader, len(given))} == {entry.id for entry in given}
    await log.stop()
