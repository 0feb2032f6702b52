from __future__ import annotations

import asyncio
import time
from random import Random

import pytest
from aiohttp import web

from gateway.fanout import retry_records
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.circuit_breaker import BreakerPolicy
from gateway.fanout.filters import compile_filter, wants
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.retry_records import AttemptHistory
from gateway.log import Record
from tests.fanout.events import entries, entry, in_order, repeats
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver, ok, status
from tests.fanout.running import make, retry_topics, running, subscription
from tests.fanout.scripted import DOWN, OK, ScriptedSink
from tests.waiting import pause, until

GROUP = "gateway.billing"
QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, max_delay_s=0.02)


async def pass_by(clock: ManualClock, seconds: float) -> None:
    """Let time pass, and at each moment everything happen that is due."""
    until_s = clock.time + seconds
    while (due := clock.next_call()) is not None and due <= until_s:
        clock.advance_to(due)
        await turns()
    clock.advance_to(until_s)
    await turns()


@pytest.mark.parametrize("partitions", [1, 4])
async def test_everything_is_delivered_once_in_order_and_committed(partitions: int) -> None:
    """The plain case: each event once, each key in order, the cursor behind the last."""
    log = MemoryLog(partitions=partitions)
    await log.append(entries(2500, 40))
    async with Receiver() as receiver, running(log, receiver.url) as reader:
        await receiver.until_delivered(2500)
        await until(lambda: reader.in_flight == 0)
    assert 0 == repeats([post.id for post in receiver.posts])
    assert in_order(receiver.numbers_by_key())
    assert set() == receiver.overlapping_keys
    assert 2500 == sum(offset for (group, _), offset in log.committed.items() if group == GROUP)


@pytest.mark.quiet
async def test_order_per_key_at_concurrency_32_is_8_times_faster_than_1() -> None:
    """1,000 events over 50 keys, random delays: in order per key, and concurrency is worth something."""

    async def take(concurrency: int, count: int) -> float:
        rng = Random(5)

        async def slowly(_: Post) -> web.StreamResponse:
            await pause(rng.uniform(0.005, 0.035), "a subscriber of uneven speed")
            return web.Response()

        log = MemoryLog()
        await log.append(entries(count, 50))
        async with Receiver(slowly) as receiver, running(log, receiver.url, concurrency=concurrency):
            started = time.monotonic()
            await receiver.until_delivered(count, within_s=60)
            rate = count / (time.monotonic() - started)
        assert in_order(receiver.numbers_by_key())
        assert set() == receiver.overlapping_keys
        assert 0 == repeats([post.id for post in receiver.posts])
        assert concurrency >= receiver.most_in_flight
        return rate

    # The receiver's delays are the pace, so that 200 events tell the rate of concurrency 1 as well.
    assert await take(32, 1000) >= 8 * await take(1, 200)


async def test_ordering_none_lets_one_key_overlap() -> None:
    """Without order there is no waiting for the one before."""
    hold = asyncio.Event()

    async def together(_: Post) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    log = MemoryLog()
    await log.append(entries(8, 1))
    async with Receiver(together) as receiver, running(log, receiver.url, ordering="none"):
        await receiver.until(lambda: len(receiver.posts) == 8)
        hold.set()
        await receiver.until_delivered(8)


async def test_failed_events_are_tried_again_and_their_key_waits() -> None:
    """Each event fails twice: still in order, nothing lost, nothing given up."""
    seen: dict[str, int] = {}

    async def third_time(post: Post) -> web.StreamResponse:
        seen[post.id] = seen.get(post.id, 0) + 1
        return web.Response(status=200 if seen[post.id] == 3 else 500)

    log = MemoryLog()
    await log.append(entries(60, 6))
    # The breaker would see a subscriber that mostly fails; here it is the retry that is looked at.
    async with (
        Receiver(third_time) as receiver,
        running(log, receiver.url, retry=QUICK, breaker=BreakerPolicy(min_attempts=10**6)) as reader,
    ):
        await receiver.until_delivered(60)
        await until(lambda: reader.in_flight == 0)
    assert in_order(receiver.numbers_by_key())
    assert 180 == len(receiver.posts)
    assert 1 == len({post.body for post in receiver.posts if post.id == receiver.posts[0].id})
    assert 60 == log.committed[GROUP, "events-0"]
    assert [] == log.topic("dlq.billing")


async def test_filtered_events_are_passed_over_and_committed() -> None:
    """What a subscriber does not want moves its cursor all the same."""
    log = MemoryLog()
    await log.append([entry(n, type_="nxcloud.sms.dr" if n % 10 == 0 else "nxcloud.did.dr") for n in range(1, 101)])
    compiled = compile_filter({"exact": {"type": "nxcloud.sms.dr"}})
    async with Receiver() as receiver, running(log, receiver.url, wants=wants(compiled)) as reader:
        await receiver.until_delivered(10)
        await until(lambda: reader.in_flight == 0)
        await log.append([entry(101, type_="nxcloud.did.dr")])
        await until(lambda: log.committed[GROUP, "events-0"] == 101)
    assert 10 == len(receiver.posts)


async def test_gone_stops_the_subscriber_and_loses_nothing() -> None:
    """410: no more attempts, the event stays uncommitted; after a resume it goes on from there."""
    log = MemoryLog()
    await log.append(entries(50, 50))
    async with Receiver(status(410)) as receiver, running(log, receiver.url, concurrency=4) as reader:
        await until(lambda: reader.flow.status == "stopped" and reader.in_flight == 0)
        asked = len(receiver.posts)
        assert asked <= 4
        assert "gone" == reader.flow.persistent_state.stopped
        await log.append(entries(10, 10, first=51))
        await until(lambda: reader.outstanding == 60)
        assert (0, asked) == (reader.in_flight, len(receiver.posts))
        receiver.answer = ok
        reader.flow.resume()
        await receiver.until_delivered(60)


async def test_pause_holds_everything_and_resume_goes_on() -> None:
    """A paused subscriber gets nothing new; resumed it gets everything."""
    log = MemoryLog()
    async with Receiver() as receiver, running(log, receiver.url) as reader:
        reader.flow.pause()
        await log.append(entries(20, 5))
        await until(lambda: reader.outstanding == 20)
        assert ("paused", []) == (reader.flow.status, receiver.posts)
        reader.flow.resume()
        await receiver.until_delivered(20)
    assert in_order(receiver.numbers_by_key())


async def test_retry_after_holds_the_whole_subscriber() -> None:
    """503 with ``Retry-After``: nothing more goes out before that time, and nothing is parked."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append(entries(40, 40))
    async with (
        Receiver(status(503, headers={"Retry-After": "120"})) as receiver,
        running(log, receiver.url, concurrency=4, clock=clock) as reader,
    ):
        await until(lambda: len(receiver.posts) == 4 and reader.in_flight == 0)
        receiver.answer = ok
        clock.advance(119)
        await turns()
        assert (0, 4) == (reader.in_flight, len(receiver.posts))
        clock.advance(2)
        await receiver.until(lambda: len(receiver.delivered) >= 36)
        clock.advance(30)
        await receiver.until_delivered(40)
    assert [] == [name for name in log.records if name.startswith("retry.")]


async def test_a_retry_after_of_hours_holds_the_others_for_an_hour() -> None:
    """One event is told to come back in six hours: it is parked, and an hour later all the others go on."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append(entries(300, 300))
    answers = [AttemptResult(429, retry_after_s=6 * 3600.0)]
    sink = ScriptedSink(lambda _: answers.pop() if answers else OK)
    reader = make(log, sink, subscription(concurrency=1, window=Window(max_events=20, max_span=100)), clock=clock)
    topics = retry_topics(log, reader, clock=clock)
    reader.start()
    topics.start()
    await until(lambda: log.topic("retry.600s"))
    await pass_by(clock, 3599.0)
    assert [] == sink.delivered
    await pass_by(clock, 1.0)
    await until(lambda: log.committed.get((GROUP, "events-0")) == 300)
    assert 299 == len(sink.delivered)
    await pass_by(clock, 6 * 3600.0)
    assert 300 == len(sink.delivered)
    await reader.stop(1.0)
    await topics.stop()


@pytest.mark.parametrize("step_s", [7200.0, -7200.0])
async def test_a_clock_that_is_set_makes_nothing_early_or_late(step_s: float) -> None:
    """The time of day jumps by two hours: the rate holds, what is parked comes after its hour, neither sooner."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    sink = ScriptedSink(lambda _: OK)
    await log.append(
        [
            retry_records.parked(
                Record("p", 0, 0.0, *entry(99)), "retry.60s", AttemptHistory(), clock.now() + 3600, "billing"
            )
        ]
    )
    reader = make(log, sink, subscription(rate_per_s=10.0), clock=clock)
    topics = retry_topics(log, reader, clock=clock)
    reader.start()
    topics.start()
    await until(lambda: reader.outstanding == 1)
    clock.set_by_s = step_s
    await log.append(entries(20, 20))
    await until(lambda: reader.outstanding > 1)
    await pass_by(clock, 0.95)
    assert 10 <= len(sink.delivered) <= 11  # a token may be caught up
    await pass_by(clock, 3598.0)
    assert 20 == len(sink.delivered)
    await pass_by(clock, 2.0)
    assert 21 == len(sink.delivered)
    await reader.stop(1.0)
    await topics.stop()


@pytest.mark.parametrize(("answer", "wait_s"), [(AttemptResult(503, retry_after_s=60.0), 60.0), (DOWN, 5.0)])
async def test_a_clock_that_is_set_back_holds_no_subscriber(answer: AttemptResult, wait_s: float) -> None:
    """A hold and a probe come when they were due, whatever the time of day says by then."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    sink = ScriptedSink(lambda _: answer)
    await log.append(entries(40, 40))
    reader = make(log, sink, subscription(concurrency=10), clock=clock)
    reader.start()
    await until(lambda: sink.attempts >= 10 and reader.in_flight == 0)
    sink.answer = lambda _: OK
    clock.set_by_s = -3600.0
    await pass_by(clock, wait_s)
    assert sink.delivered
    await reader.stop(1.0)


async def test_a_log_that_is_away_is_waited_out() -> None:
    """Trouble of the log never ends a reader."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    log.failing_fetches = 20
    await log.append(entries(5))
    async with Receiver() as receiver, running(log, receiver.url, clock=clock):
        while len(receiver.delivered) < 5:
            clock.advance(1.0)
            await turns()
    assert 0 == log.failing_fetches


async def test_a_fault_of_ours_while_reading_passes_nothing_over() -> None:
    """Something breaks in the middle of a batch: what came after it is read again, and no commit passes it."""
    log = MemoryLog()
    await log.append(entries(10, 10))
    faults = [ZeroDivisionError()]

    def breaks_once(record: Record) -> bool:
        if record.offset == 4 and faults:
            raise faults.pop()
        return True

    async with Receiver() as receiver, running(log, receiver.url, wants=breaks_once):
        await receiver.until_delivered(10)
        await log.append(entries(1, first=11))
        await until(lambda: log.committed.get((GROUP, "events-0")) == 11)
    assert set(range(1, 12)) == {post.number for post in receiver.delivered}
