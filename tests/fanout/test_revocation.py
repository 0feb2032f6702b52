"""Partitions that go to another process: what has ended by then is committed, and does not come again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.fanout import partition_queue, retry_records
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.retry import RetryPolicy
from gateway.log import Appended, Entry
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.running import make, subscription
from tests.fanout.scripted import OK, ScriptedSink
from tests.fanout.test_reader import GROUP, pass_by, until
from tests.fanout.test_retry_topics import Party, parked

_REFUSED = AttemptResult(status=400)


class SlowLog(MemoryLog):
    """One whose dead letters are stored when the test says so."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(now=clock.now)
        self.is_storing = asyncio.Event()
        self.may_store = asyncio.Event()

    async def append(self, entries: Sequence[Entry]) -> Appended:
        if any(one.topic == retry_records.dlq_topic("billing") for one in entries):
            self.is_storing.set()
            await self.may_store.wait()
        return await super().append(entries)


async def test_an_event_that_is_being_dead_lettered_when_partitions_go_does_not_come_again() -> None:
    """Its outcome is known: storing it gets a moment beyond what attempts get."""
    clock = ManualClock()
    log = SlowLog(clock)
    await log.append([entry(1, "failing"), entry(2, "slow")])
    sink = ScriptedSink()
    reader = make(log, sink, subscription(concurrency=2, retry=RetryPolicy(attempts=1)), clock=clock)
    reader.start()
    await until(lambda: len(sink.asked) == 2)
    first, second = sink.asked
    first.answer.set_result(_REFUSED)
    await log.is_storing.wait()
    rebalance = asyncio.create_task(log.shared[0].rebalance(["events-0"]))
    await turns()
    await pass_by(clock, partition_queue.SETTLE_S + partition_queue._STORE_S / 2)
    assert [] == sink.asked  # the other one's attempt was cut off
    assert not rebalance.done()
    log.may_store.set()
    await asyncio.wait_for(rebalance, 10)
    assert log.committed[GROUP, "events-0"] == 1
    await until(lambda: len(sink.asked) == 1)
    assert [second.record.offset] == [asked.record.offset for asked in sink.asked]
    sink.asked[0].answer.set_result(OK)
    await until(lambda: log.committed[GROUP, "events-0"] == 2)
    await reader.stop(0.0)
    assert len(log.topic(retry_records.dlq_topic("billing"))) == 1


async def test_a_dead_letter_that_is_not_stored_in_time_holds_nobody_up() -> None:
    """The log is away: the event comes again, to whoever has the partition next."""
    clock = ManualClock()
    log = SlowLog(clock)
    await log.append([entry(1)])
    sink = ScriptedSink()
    reader = make(log, sink, subscription(retry=RetryPolicy(attempts=1)), clock=clock)
    reader.start()
    await until(lambda: len(sink.asked) == 1)
    sink.asked[0].answer.set_result(_REFUSED)
    await log.is_storing.wait()
    rebalance = asyncio.create_task(log.shared[0].rebalance(["events-0"]))
    await turns()
    await pass_by(clock, partition_queue.SETTLE_S + partition_queue._STORE_S + 0.1)
    await asyncio.wait_for(rebalance, 10)
    await until(lambda: len(sink.asked) == 1)
    assert log.committed[GROUP, "events-0"] == 0
    await reader.stop(0.0)


async def test_a_parked_event_that_is_delivered_while_its_partition_goes_does_not_come_again() -> None:
    """Attempts under way are waited for, so what they bring is committed."""
    party = Party()
    party.add("billing", None)
    await party.log.append([parked("billing", 1), parked("billing", 2)])
    async with party:
        sink = party.sinks["billing"]
        await until(lambda: len(sink.asked) == 2)
        group = party.topics.reading.group  # type: ignore[attr-defined]
        reader = next(one for one in party.log.shared if one.group == group)
        rebalance = asyncio.create_task(reader.rebalance(["retry.60s"]))
        await turns()
        sink.asked[0].answer.set_result(OK)
        await pass_by(party.clock, 3.0)
        await asyncio.wait_for(rebalance, 10)
        assert 1 == party.log.committed["gateway.retry", "retry.60s"]
        await until(lambda: len(sink.asked) == 1)
        assert [1] == [asked.record.offset for asked in sink.asked]


async def test_a_stop_waits_for_a_dead_letter_and_not_for_attempts() -> None:
    """They are cut off at its deadline; what only is to be stored gets a moment more, and its position is committed."""
    clock = ManualClock()
    log = SlowLog(clock)
    await log.append([entry(1, "failing"), entry(2, "slow")])
    sink = ScriptedSink()
    reader = make(log, sink, subscription(concurrency=2, retry=RetryPolicy(attempts=1)), clock=clock)
    reader.start()
    await until(lambda: len(sink.asked) == 2)
    sink.asked[0].answer.set_result(_REFUSED)
    await log.is_storing.wait()
    stopping = asyncio.create_task(reader.stop(0.0))
    await until(lambda: not sink.asked)
    log.may_store.set()
    await stopping
    assert log.committed[GROUP, "events-0"] == 1
    assert len(log.topic(retry_records.dlq_topic("billing"))) == 1
