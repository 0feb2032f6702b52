from __future__ import annotations

import asyncio
import logging
import time
from random import Random

import orjson
import pytest
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.fanout import parking
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.breaker import BreakerPolicy
from gateway.fanout.cursor import SETTLE_S
from gateway.fanout.filters import compile_filter
from gateway.fanout.parking import Trail
from gateway.fanout.partition_queue import Window
from gateway.fanout.planning import wants
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.transform import Transform
from gateway.log import Record
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry, in_order, repeats
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver, ok, status
from tests.fanout.running import make, plan, retry_topics, running, webhook
from tests.fanout.scripted import DOWN, OK, ScriptedSink

GROUP = "gateway.billing"
QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, max_delay_s=0.02)


async def until(is_so: object, *, within_s: float = 10.0) -> None:
    """Wait for what no signal tells, such as a commit."""
    async with asyncio.timeout(within_s):
        while not is_so():  # type: ignore[operator]
            await asyncio.sleep(0.002)


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
            await asyncio.sleep(rng.uniform(0.005, 0.035))
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


async def test_given_up_events_become_dead_letters_with_their_story() -> None:
    """After the last attempt: reason, attempts, history, last answer, origin, the bytes; the others go on."""

    async def refuse_one(post: Post) -> web.StreamResponse:
        return web.Response(status=422, text="no such order") if post.number == 3 else web.Response()

    log = MemoryLog()
    await log.append(entries(9, 3))
    async with Receiver(refuse_one) as receiver, running(log, receiver.url, retry=QUICK):
        await until(lambda: log.committed.get((GROUP, "events-0")) == 9)
    (letter,) = log.topic("dlq.billing")
    headers = dict(letter.headers)
    assert entries(9, 3)[2].value == letter.value
    assert (f"{3:032x}", "key-2") == (letter.id, letter.key)
    assert ("attempts", "3", "422") == (
        headers["gateway-reason"],
        headers["gateway-attempts"],
        headers["gateway-last-status"],
    )
    assert "no such order" == headers["gateway-last-response"]
    assert "sms.dr@events-0:2" == headers["gateway-origin"]
    assert ["422", "422", "422"] == [step[1] for step in orjson.loads(headers["gateway-trail"])]
    assert float(headers["gateway-first-attempt-at"]) <= float(headers["gateway-last-attempt-at"])
    assert [6, 9] == receiver.numbers_by_key()["key-2"]


async def test_a_dead_letter_that_the_log_refuses_is_tried_again_and_the_cursor_waits() -> None:
    """An append that raises NotNow loses nothing: the position stays before the event until it is stored."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append(entries(3, 3))
    log.failing_appends = 2
    async with (
        Receiver(status(400)) as receiver,
        running(log, receiver.url, retry=RetryPolicy(attempts=1), clock=clock),
    ):
        await until(lambda: log.appends == 4 and log.committed.get((GROUP, "events-0"), 0) < 3)
        while log.committed.get((GROUP, "events-0"), 0) < 3:
            clock.advance(1.0)
            await turns()
    assert 3 == len(receiver.posts)
    assert {1, 2, 3} == {orjson.loads(letter.value)["data"]["number"] for letter in log.topic("dlq.billing")}


async def test_long_waits_are_parked_and_delivered_from_their_tier_in_time() -> None:
    """A wait as long as a tier goes to its topic: the cursor and the key go on, the event comes when it is due."""
    clock = ManualClock()
    is_refusing = True

    async def refuse_first(post: Post) -> web.StreamResponse:
        return web.Response(status=500 if is_refusing and post.number == 1 else 200)

    log = MemoryLog(now=clock.now)
    await log.append(entries(4, 1))
    policy = RetryPolicy(attempts=5, first_delay_s=10_000.0, max_delay_s=10_000.0)
    async with Receiver(refuse_first) as receiver, running(log, receiver.url, retry=policy, clock=clock) as reader:
        await until(lambda: log.committed.get((GROUP, "events-0")) == 4)
        (parked,) = [record for name in ("60s", "600s") for record in log.topic(f"retry.{name}")]
        headers = dict(parked.headers)
        due = float(headers["gateway-due"])
        assert parked.topic == ("retry.600s" if due - clock.now() >= 600 else "retry.60s")
        assert "1" == headers["gateway-attempts"]
        assert [2, 3, 4] == receiver.numbers_by_key()["key-0"]
        is_refusing = False
        await until(lambda: reader.outstanding == 1)
        clock.advance_to(due - 0.5)
        await turns()
        assert (0, 4) == (reader.in_flight, len(receiver.posts))
        clock.advance(1.0)
        await receiver.until_delivered(4)
        await until(lambda: log.committed.get(("gateway.retry", parked.topic)) == 1)
    assert 0 == len(log.topic("dlq.billing"))
    assert receiver.posts[0].body == receiver.posts[-1].body


async def test_on_failure_block_keeps_the_key_behind_whatever_the_wait() -> None:
    """With ``block`` nothing is parked: the key waits in memory, others go on, the cursor stays."""
    clock = ManualClock()
    is_refusing = True

    async def refuse_first(post: Post) -> web.StreamResponse:
        return web.Response(status=500 if is_refusing and post.number == 1 else 200)

    log = MemoryLog(now=clock.now)
    await log.append(entries(6, 2))
    policy = RetryPolicy(attempts=5, first_delay_s=10_000.0, max_delay_s=10_000.0)
    async with (
        Receiver(refuse_first) as receiver,
        running(log, receiver.url, retry=policy, clock=clock, on_failure="block") as reader,
    ):
        await receiver.until_delivered(3)
        await until(lambda: reader.outstanding == 3 and reader.in_flight == 0)
        assert {"key-1": [2, 4, 6]} == receiver.numbers_by_key()
        assert (GROUP, "events-0") not in log.committed or log.committed[GROUP, "events-0"] == 0
        is_refusing = False
        clock.advance(10_001)
        await receiver.until_delivered(6)
        await until(lambda: reader.in_flight == 0)
    assert [1, 3, 5] == receiver.numbers_by_key()["key-0"]
    assert [] == [name for name in log.records if name.startswith("retry.")]
    assert 6 == log.committed[GROUP, "events-0"]


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
        await until(lambda: reader.gate.seen == "stopped" and reader.in_flight == 0)
        asked = len(receiver.posts)
        assert asked <= 4
        assert "gone" == reader.gate.lasting.stopped
        await log.append(entries(10, 10, first=51))
        await until(lambda: reader.outstanding == 60)
        assert (0, asked) == (reader.in_flight, len(receiver.posts))
        receiver.answer = ok
        reader.gate.resume()
        await receiver.until_delivered(60)


async def test_pause_holds_everything_and_resume_goes_on() -> None:
    """A paused subscriber gets nothing new; resumed it gets everything."""
    log = MemoryLog()
    async with Receiver() as receiver, running(log, receiver.url) as reader:
        reader.gate.pause()
        await log.append(entries(20, 5))
        await until(lambda: reader.outstanding == 20)
        assert ("paused", []) == (reader.gate.seen, receiver.posts)
        reader.gate.resume()
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
    reader = make(log, sink, plan(concurrency=1, window=Window(max_events=20, max_span=100)), clock=clock)
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
        [parking.parked(Record("p", 0, 0.0, *entry(99)), "retry.60s", Trail(), clock.now() + 3600, "billing")]
    )
    reader = make(log, sink, plan(rate_per_s=10.0), clock=clock)
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
    reader = make(log, sink, plan(concurrency=10), clock=clock)
    reader.start()
    await until(lambda: sink.attempts >= 10 and reader.in_flight == 0)
    sink.answer = lambda _: OK
    clock.set_by_s = -3600.0
    await pass_by(clock, wait_s)
    assert sink.delivered
    await reader.stop(1.0)


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


async def test_stop_finishes_what_is_in_flight_and_the_next_start_goes_on() -> None:
    """A stop loses nothing and repeats nothing when the subscriber answers within the deadline."""
    log = MemoryLog()
    await log.append(entries(300, 30))

    async def slowly(_: Post) -> web.StreamResponse:
        await asyncio.sleep(0.01)
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
        reader = make(log, webhook(receiver.url), plan())
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
        reader = make(log, webhook(receiver.url), plan())
        await reader.stop(1.0)
        reader.start()
        await reader.stop(1.0)
        assert [] == receiver.posts
        other = make(log, webhook(receiver.url), plan())
        other.start()
        await asyncio.gather(other.stop(1.0), other.stop(1.0))
        await other.stop(1.0)
        assert 0 == other.in_flight


async def test_revoked_partitions_are_settled_before_they_go() -> None:
    """At a rebalance what is in flight ends first and is committed, the rest is left: no event twice."""
    log = MemoryLog(partitions=3)
    await log.append(entries(600, 60))

    async def slowly(_: Post) -> web.StreamResponse:
        await asyncio.sleep(0.005)
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
    reader = make(log, sink, plan(timeout_s=600.0))
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
    reader = make(log, sink, plan(timeout_s=60.0, concurrency=3, retry=QUICK), clock=clock, metrics=metrics)
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
    reader = make(log, sink, plan(concurrency=8))
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


async def test_replays_go_the_normal_way_with_their_mark() -> None:
    """A record of the replay topic is delivered with the same id and bytes and ``gateway-replay: true``."""
    log = MemoryLog()
    one = entry(1)
    await log.append([parking.replay(Record("events-0", 0, 0.0, *one), 0.0, "billing")])
    async with Receiver() as receiver, running(log, receiver.url):
        await receiver.until_delivered(1)
        await until(lambda: log.committed.get(("gateway.retry", "replay")) == 1)
    (post,) = receiver.posts
    assert ("true", one.id, one.value) == (post.headers["gateway-replay"], post.id, post.body)


async def test_poison_becomes_a_dead_letter_at_once_and_the_others_go_on() -> None:
    """A record that can never be sent, as its transform cannot read it, holds up nobody."""
    log = MemoryLog()
    one, two = entries(2, 1)
    await log.append([one._replace(value=b"not json"), two])
    async with Receiver() as receiver:
        reader = make(log, webhook(receiver.url, transform=Transform(exclude=["data.raw"])), plan())
        reader.start()
        await receiver.until_delivered(1)
        await until(lambda: log.committed.get((GROUP, "events-0")) == 2)
        await reader.stop(1.0)
    (letter,) = log.topic("dlq.billing")
    assert (letter.value, dict(letter.headers)["gateway-reason"]) == (b"not json", "poison")
    assert [post.number for post in receiver.posts] == [2]


async def test_a_dead_letter_that_is_too_large_is_stored_with_the_least_of_its_headers() -> None:
    """A trail makes a record larger than the event was; where the log refuses it for that, the event is kept."""
    log = MemoryLog()
    one, two = entries(2, 2)
    log.max_bytes["dlq.billing"] = len(one.value) + 200
    await log.append([one, two])

    async def refuse_one(post: Post) -> web.StreamResponse:
        return web.Response(status=422, text="x" * 1000) if post.number == 1 else web.Response()

    async with Receiver(refuse_one) as receiver, running(log, receiver.url, retry=QUICK):
        await until(lambda: log.committed.get((GROUP, "events-0")) == 2)
    (letter,) = log.topic("dlq.billing")
    headers = dict(letter.headers)
    assert one.value == letter.value
    assert ("attempts", "422", "3", "sms.dr@events-0:0") == tuple(
        headers[f"gateway-{name}"] for name in ("reason", "last-status", "attempts", "origin")
    )


async def test_a_parked_event_that_is_too_large_becomes_a_dead_letter() -> None:
    """What its retry topic will never take does not hold the position; the dead letter says why."""
    log = MemoryLog()
    log.max_bytes["retry.60s"] = 100
    await log.append(entries(1))
    async with Receiver(status(500, headers={"Retry-After": "90"})) as receiver, running(log, receiver.url):
        await until(lambda: log.committed.get((GROUP, "events-0")) == 1)
    (letter,) = log.topic("dlq.billing")
    headers = dict(letter.headers)
    assert ("poison", "retry.60s: ") == (headers["gateway-reason"], headers["gateway-last-detail"][:11])
    assert ["500", "poison"] == [step[1] for step in orjson.loads(headers["gateway-trail"])]


async def test_what_the_log_takes_in_no_form_is_counted_as_lost_and_the_others_go_on() -> None:
    """An event that can be neither delivered nor stored holds up nobody, and is named."""
    log = MemoryLog()
    log.max_bytes["dlq.billing"] = 10
    await log.append(entries(3, 3))

    async def refuse_one(post: Post) -> web.StreamResponse:
        return web.Response(status=422 if post.number == 1 else 200)

    metrics = Metrics(CollectorRegistry())
    async with Receiver(refuse_one) as receiver:
        reader = make(log, webhook(receiver.url), plan(retry=QUICK), metrics=metrics)
        reader.start()
        with structlog.testing.capture_logs() as lines:
            await until(lambda: log.committed.get((GROUP, "events-0")) == 3)
        await reader.stop(1.0)
    labels = {"subscriber": "billing", "outcome": "lost"}
    assert 1 == metrics.registry.get_sample_value("gateway_deliveries_total", labels)
    (line,) = [line for line in lines if line["event"] == "delivery.lost"]
    assert (f"{1:032x}", "events-0", 0) == (line["id"], line["partition"], line["offset"])


class BrokenSink:
    """A fault of ours, not of the subscriber."""

    async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
        raise ZeroDivisionError

    async def close(self) -> None:
        pass


async def test_a_fault_of_ours_ends_as_a_dead_letter_too() -> None:
    """Whatever breaks in an attempt, the worker lives and the retries end."""
    log = MemoryLog()
    await log.append(entries(2, 1))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    reader = make(log, BrokenSink(), plan(retry=QUICK, concurrency=1))
    reader.start()
    await until(lambda: len(log.topic("dlq.billing")) == 2)
    await reader.stop(1.0)
    assert {dict(letter.headers)["gateway-last-status"] for letter in log.topic("dlq.billing")} == {"internal"}
