"""How a reader stops, gives partitions up and bounds what it has; its workers."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.partition_queue import SETTLE_S, Window
from gateway.fanout.retry import RetryPolicy
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry, in_order, repeats
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver, ok
from tests.fanout.running import make, running, subscription, webhook
from tests.fanout.scripted import OK, ScriptedSink
from tests.fanout.test_reader import GROUP, QUICK, pass_by
from tests.waiting import pause, until


async def test_the_window_bounds_what_is_in_memory() -> None:
    """A subscriber that takes nothing holds a window full of events and not more; the log keeps the rest."""
    hold = asyncio.Event()

    async def hang(_: Post) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    log = MemoryLog()
    await log.append(entries(1000, 100))
    async with (
        Receiver(hang) as receiver,
        running(log, receiver.url, concurrency=2, window=Window(max_events=50)) as reader,
    ):
        await receiver.until(lambda: len(receiver.posts) == 2)
        assert 50 == reader.outstanding
        hold.set()
        await receiver.until_delivered(1000)
        await until(lambda: reader.in_flight == 0)
    assert in_order(receiver.numbers_by_key())
    assert 0 == repeats([post.id for post in receiver.posts])


async def test_one_waiting_event_bounds_how_far_the_others_go_on() -> None:
    """What a crash would repeat is bounded as well: reading stops ``max_span`` records past a blocked one."""
    clock = ManualClock()

    async def refuse_first(post: Post) -> web.StreamResponse:
        return web.Response(status=500 if post.number == 1 else 200)

    log = MemoryLog(now=clock.now)
    await log.append(entries(1000, 100))
    policy = RetryPolicy(attempts=5, first_delay_s=50.0, max_delay_s=50.0)
    async with (
        Receiver(refuse_first) as receiver,
        running(log, receiver.url, retry=policy, clock=clock, window=Window(max_events=50, max_span=300)) as reader,
    ):
        await receiver.until(lambda: len(receiver.delivered) >= 280)
        await until(lambda: reader.in_flight == 0)
        assert len(receiver.delivered) < 300
        receiver.answer = ok
        clock.advance(51)
        await receiver.until_delivered(1000)


async def test_stop_finishes_what_is_in_flight_and_the_next_start_goes_on() -> None:
    """A stop loses nothing and repeats nothing when the subscriber answers within the deadline."""
    log = MemoryLog()
    await log.append(entries(300, 30))

    async def slowly(_: Post) -> web.StreamResponse:
        await pause(0.01, "a slow subscriber")
        return web.Response()

    async with Receiver(slowly) as receiver:
        for part in (50, 150, 300):
            async with running(log, receiver.url, concurrency=8):
                await receiver.until_delivered(part)
    assert 0 == repeats([post.id for post in receiver.posts])
    assert in_order(receiver.numbers_by_key())
    assert 300 == log.committed[GROUP, "events-0"]


async def test_stop_cuts_what_hangs_at_the_deadline() -> None:
    """An attempt without an answer does not hold the stop; it is counted, and its event comes again."""
    hold = asyncio.Event()

    async def hang(_: Post) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    log = MemoryLog()
    await log.append(entries(3, 3))
    async with Receiver(hang) as receiver:
        reader = make(log, webhook(receiver.url), subscription())
        reader.start()
        await receiver.until(lambda: len(receiver.posts) == 3)
        started = time.monotonic()
        await reader.stop(0.1)
        assert time.monotonic() - started < 5.0
        hold.set()
        assert 0 == log.committed.get((GROUP, "events-0"), 0)
        receiver.answer = ok
        async with running(log, receiver.url):
            await receiver.until(lambda: len(receiver.posts) == 6)
            await until(lambda: log.committed.get((GROUP, "events-0")) == 3)


async def test_stop_may_come_twice_or_before_the_start() -> None:
    """Whoever stops need not know how far the start came."""
    log = MemoryLog()
    await log.append(entries(3))
    async with Receiver() as receiver:
        reader = make(log, webhook(receiver.url), subscription())
        await reader.stop(1.0)
        reader.start()
        await reader.stop(1.0)
        assert [] == receiver.posts
        other = make(log, webhook(receiver.url), subscription())
        other.start()
        await asyncio.gather(other.stop(1.0), other.stop(1.0))
        await other.stop(1.0)
        assert 0 == other.in_flight


async def test_revoked_partitions_are_settled_before_they_go() -> None:
    """At a rebalance what is in flight ends first and is committed, the rest is left: no event twice."""
    log = MemoryLog(partitions=3)
    await log.append(entries(600, 60))

    async def slowly(_: Post) -> web.StreamResponse:
        await pause(0.005, "a slow subscriber")
        return web.Response()

    async with Receiver(slowly) as receiver, running(log, receiver.url, concurrency=8, window=Window(max_events=100)):
        for part in (50, 150, 250):
            await receiver.until_delivered(part)
            await log.shared[0].rebalance(["events-0", "events-2"])
        await receiver.until_delivered(600)
    assert 0 == repeats([post.id for post in receiver.posts])
    assert in_order(receiver.numbers_by_key())
    assert set() == receiver.overlapping_keys


async def test_a_stop_ends_a_settling_whose_attempts_it_cut() -> None:
    """Nobody makes these attempts any more: a group that waited for them would wait for as long as it can."""
    log = MemoryLog()
    await log.append([entry(1, "hangs")])
    sink = ScriptedSink()
    reader = make(log, sink, subscription(timeout_s=600.0))
    reader.start()
    await until(lambda: len(sink.asked) == 1)
    main = log.shared[0]
    async with asyncio.timeout(10):
        await asyncio.gather(main.rebalance(["events-0"]), reader.stop(0.1))
    assert log.committed[GROUP, "events-0"] == 0


async def test_an_attempt_that_outlasts_a_rebalance_is_cancelled_counted_and_made_again() -> None:
    """Two seconds, then the partition goes: what is behind it comes again in order per key, and the workers go on."""
    clock, metrics = ManualClock(), Metrics(CollectorRegistry())
    log = MemoryLog(now=clock.now)
    await log.append([entry(1, "slow"), entry(2, "slow"), entry(3, "quick"), entry(4, "failing")])
    sink = ScriptedSink()
    reader = make(log, sink, subscription(timeout_s=60.0, concurrency=3, retry=QUICK), clock=clock, metrics=metrics)
    reader.start()
    await until(lambda: len(sink.asked) == 3)
    slow, quick, failing = sink.asked
    rebalance = asyncio.create_task(log.shared[0].rebalance(["events-0"]))
    await turns()
    quick.answer.set_result(OK)  # in time, but the first one holds the position
    failing.answer.set_result(AttemptResult(500))  # its retry is not waited for
    await pass_by(clock, SETTLE_S - 0.1)
    assert [slow] == sink.asked
    await pass_by(clock, 0.2)
    await asyncio.wait_for(rebalance, 10)
    labels = {"subscriber": "billing", "outcome": "cancelled"}
    assert 1 == metrics.registry.get_sample_value("gateway_deliveries_total", labels)
    assert log.committed[GROUP, "events-0"] == 0
    await until(lambda: len(sink.asked) == 3)
    assert ["slow", "quick", "failing"] == [asked.record.key for asked in sink.asked]
    assert len(reader._workers) <= 3
    for asked in sink.asked:
        asked.answer.set_result(OK)
    sink.answer = lambda _: OK
    await until(lambda: log.committed[GROUP, "events-0"] == 4)
    await reader.stop(1.0)
    assert [0, 1] == [record.offset for record in sink.delivered if record.key == "slow"]
    assert 0 == reader.outstanding


async def test_workers_are_made_as_needed_and_end_when_they_are_not() -> None:
    """Nobody waits for nothing: no task before the first event, as many as run at once, and none a while later."""
    log = MemoryLog()
    sink = ScriptedSink()
    reader = make(log, sink, subscription(concurrency=8))
    reader.start()
    await turns()
    assert 0 == len(reader._workers)
    await log.append(entries(3, 3))
    await until(lambda: len(sink.asked) == 3)
    assert 3 == len(reader._workers)
    await log.append(entries(20, 20, first=4))
    await until(lambda: len(sink.asked) == 8)
    assert 8 == len(reader._workers)
    sink.answer = lambda _: OK
    for asked in list(sink.asked):
        asked.answer.set_result(OK)
    await until(lambda: log.committed[GROUP, "events-0"] == 23)
    reader.trim()
    reader.trim()
    await until(lambda: len(reader._workers) == 0)
    await log.append(entries(1, first=24))
    await until(lambda: log.committed[GROUP, "events-0"] == 24)
    await reader.stop(1.0)
