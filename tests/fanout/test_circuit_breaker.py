from __future__ import annotations

import time
from random import Random

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.circuit_breaker import Breaker, BreakerPolicy
from gateway.fanout.retry import RetryPolicy
from gateway.log import Record
from tests.fanout.events import entries, in_order, repeats
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver
from tests.fanout.running import make, running, subscription
from tests.fanout.scripted import DOWN, OK, ScriptedSink
from tests.waiting import turn, until

POLICY = BreakerPolicy(
    failure_rate=0.5, window_s=60.0, min_attempts=10, min_events=3, first_open_s=5.0, max_open_s=60.0
)


def breaker() -> Breaker:
    return Breaker(POLICY, Random(1))


def fail(one: Breaker, times: int, *, events: int = 10, now: float = 0.0) -> None:
    for number in range(times):
        one.record(f"e{number % events}", is_success=False, now=now)


def test_opens_when_most_attempts_on_several_events_fail() -> None:
    """Ten attempts, half of them failures, of three events: down."""
    one = breaker()
    for number in range(5):
        one.record(f"ok{number}", is_success=True, now=0.0)
    fail(one, 4)
    assert one.state == "closed"
    assert one.record("e9", is_success=False, now=0.0)
    assert one.state == "open"


def test_one_bad_event_never_opens_it() -> None:
    """However often one event fails, it is that event's trouble."""
    one = breaker()
    fail(one, 1000, events=1)
    assert one.state == "closed"


def test_few_failures_among_many_successes_do_not_open_it() -> None:
    """The rate counts, not the number."""
    one = breaker()
    for number in range(1000):
        one.record(f"e{number}", is_success=number % 3 != 0, now=number / 100)
    assert one.state == "closed"


def test_failures_in_turn_open_it_whatever_succeeded_before() -> None:
    """A minute of successes does not keep a subscriber up that has refused everything for a second."""
    one = breaker()
    for number in range(1000):
        one.record(f"ok{number}", is_success=True, now=0.0)
    fail(one, 20, now=0.5)
    assert one.state == "closed"
    assert one.record("e20", is_success=False, now=1.5)
    assert one.state == "open"


@pytest.mark.parametrize("event", ["ok", "e1"])
def test_failures_of_a_second_are_no_outage_with_a_success_among_them_or_of_one_event(event: str) -> None:
    """Neither a subscriber that takes some nor a single bad event opens it by failures in turn."""
    one = breaker()
    for number in range(1000):
        one.record(f"ok{number}", is_success=True, now=0.0)
    for number in range(30):
        failed = "e1" if event == "e1" else f"e{number}"
        one.record(failed, is_success=event == "ok" and number % 5 == 0, now=1.0 + number / 10)
    assert one.state == "closed"


def test_old_failures_are_forgotten() -> None:
    """Attempts count for the window only."""
    one = breaker()
    fail(one, 9, now=0.0)
    one.record("late", is_success=False, now=61.0)
    assert one.state == "closed"


def test_probes_double_their_wait_and_one_success_closes() -> None:
    """Open, half open, open for longer up to the bound, and closed by the first success."""
    one = breaker()
    fail(one, 10)
    waits = []
    now = 0.0
    for _ in range(8):
        assert not one.probe(one.probe_at - 0.001)
        waits.append(one.probe_at - now)
        now = one.probe_at
        assert one.probe(now)
        assert one.state == "half_open"
        one.record("e1", is_success=False, now=now)
        assert one.state == "open"
    bounds = [5, 10, 20, 40, 60, 60, 60, 60]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert one.probe(one.probe_at)
    assert one.record("e2", is_success=True, now=one.probe_at)
    assert one.state == "closed"
    fail(one, 9, now=one.probe_at)
    assert one.state == "closed"


def test_a_probe_comes_at_the_time_that_the_subscriber_named() -> None:
    """Whether it opens with that answer, or stays open after a probe that was answered so."""
    one = breaker()
    fail(one, 9)
    one.record("last", is_success=False, now=1.0, named_at=2.5)
    assert (one.state, one.probe_at) == ("open", 2.5)
    assert one.probe(2.5)
    one.record("last", is_success=False, now=2.5, named_at=4.0)
    assert (one.state, one.probe_at) == ("open", 4.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30), st.integers(0, 5)), max_size=80))
def test_a_success_never_leaves_it_open(steps: list[tuple[bool, float, int]]) -> None:
    """Any sequence: after a success it is closed; open implies a probe in the future and within the bound."""
    one = breaker()
    now = 0.0
    for is_success, wait, event in steps:
        now += wait
        one.probe(now)
        one.record(str(event), is_success=is_success, now=now)
        if is_success:
            assert one.state == "closed"
        if one.state == "open":
            assert one.probe_at <= now + POLICY.max_open_s


@pytest.mark.parametrize("keys", [500, 7])
async def test_an_hour_of_outage_makes_no_storm_copies_nothing_and_loses_no_order(keys: int) -> None:
    """Ten thousand events, an hour down: a handful of attempts, no copies, then everything once and in order."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    is_down = True
    sink = ScriptedSink(lambda _: DOWN if is_down else OK)
    reader = make(log, sink, subscription(concurrency=32), clock=clock)
    reader.start()
    for number in range(100):  # events keep coming during the outage
        await log.append(entries(100, keys, first=1 + number * 100))
        until = clock.started + 36.0 * (number + 1)
        await turns()
        while (due := clock.next_call()) is not None and due <= until:
            clock.advance_to(due)
            await turns()
        clock.advance_to(until)
    during = sink.attempts
    assert reader.flow.status in {"open", "half_open"}
    assert 10 <= during <= 32 + 10 + 3600 / 4  # a probe each 4 to 8 seconds
    assert {name.split(".")[0] for name in log.records} == {"events-0"}
    assert reader.outstanding <= reader.subscription.window.max_events
    is_down = False
    for _ in range(5000):
        before = sink.attempts
        await turns()
        if len(sink.delivered) >= 10_000:
            break
        if sink.attempts == before and (due := clock.next_call()) is not None:  # it waits for time
            clock.advance_to(due)
    await reader.stop(1.0)
    numbers: dict[str, list[int]] = {}
    for record in sink.delivered:
        numbers.setdefault(record.key, []).append(int(orjson.loads(record.value)["data"]["number"]))
    assert len(sink.delivered) == 10_000
    assert repeats([record.id for record in sink.delivered]) == 0
    assert in_order(numbers)
    assert log.committed["gateway.billing", "events-0"] == 10_000
    assert {name.split(".")[0] for name in log.records} == {"events-0"}
    assert clock.now() - clock.started < 3600 + 300


async def test_a_bad_event_cannot_keep_the_breaker_open() -> None:
    """Probes take the next event in turn: the one that always fails ends as a dead letter, the others go out."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    is_down = True

    def answer(record: Record) -> AttemptResult:
        return DOWN if is_down else AttemptResult(422) if record.offset == 0 else OK

    sink = ScriptedSink(answer)
    await log.append(entries(60, 60))
    reader = make(log, sink, subscription(concurrency=8, on_failure="block"), clock=clock)
    reader.start()
    for _ in range(3000):
        await turns()
        is_down = is_down and clock.now() < clock.started + 300
        if log.topic("dlq.billing"):
            break
        if (due := clock.next_call()) is not None:
            clock.advance_to(due)
    await reader.stop(1.0)
    assert [letter.id for letter in log.topic("dlq.billing")] == [entries(1)[0].id]
    assert len(sink.delivered) == 59


async def test_an_open_breaker_outlives_a_restart() -> None:
    """After a restart it probes with one event instead of starting a storm."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append(entries(100, 100))
    sink = ScriptedSink(lambda _: DOWN)
    reader = make(log, sink, subscription(concurrency=8), clock=clock)
    reader.start()
    await turns(50)
    assert reader.flow.status == "open"
    lasting = reader.flow.persistent_state
    await reader.stop(1.0)
    after = ScriptedSink()
    again = make(log, after, subscription(concurrency=8), clock=clock)
    again.flow.restore(lasting)
    again.start()
    clock.advance(0.0)
    await turns()
    clock.advance(0.001)
    await turns()
    assert len(after.asked) == 1
    after.asked[0].answer.set_result(OK)
    await turns()
    assert again.flow.status == "closed"
    for asked in after.asked:
        asked.answer.set_result(OK)
    await turn()
    await again.stop(0.1)


async def test_a_subscriber_that_names_a_second_for_each_first_attempt_gets_its_retries_in_time() -> None:
    """503 with ``Retry-After: 1`` to each first attempt: all 60 are delivered, each within seconds of being due."""
    seen: dict[str, float] = {}
    again: list[float] = []

    async def second_time(post: Post) -> web.StreamResponse:
        now = time.monotonic()
        if post.id in seen:
            again.append(now - seen[post.id])
            return web.Response()
        seen[post.id] = now
        return web.Response(status=503, headers={"Retry-After": "1"})

    log = MemoryLog()
    await log.append(entries(60, 60))
    policy = RetryPolicy(first_delay_s=1.0, max_delay_s=2.0)
    async with Receiver(second_time) as receiver, running(log, receiver.url, concurrency=8, retry=policy) as reader:
        await receiver.until_delivered(60, within_s=120)
        await until(lambda: log.committed.get(("gateway.billing", "events-0")) == 60)
        assert 0 == reader.outstanding
    assert 120 == len(receiver.posts)
    assert min(again) >= 1.0
    assert sorted(again)[54] < 8.0
