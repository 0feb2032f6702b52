from __future__ import annotations

import statistics
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.job import Job, JobState
from gateway.fanout.scheduler import BURST_S, Schedule, TokenBucket
from gateway.log import Record
from tests.effort import examples
from tests.fanout.events import entries
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver
from tests.fanout.running import running


class Id(str):
    """A text that tells whether somebody holds it."""


def job(number: int, key: str, due: float = 0.0) -> Job:
    record = Record("p", number, 0.0, "t", key, Id(f"{number:032x}"), b"{}")
    return Job(record, None, None, due=due)  # type: ignore[arg-type]


def retried(one: Job, *, probes: int = 0) -> Job:
    """As after a failed attempt."""
    one.note(0.0, AttemptResult(500), counts=not probes)
    one.probes = probes
    return one


def drain(schedule: Schedule, now: float = 0.0) -> list[int]:
    found = []
    while (taken := schedule.take(now)) is not None:
        found.append(taken.record.offset)
    return found


def test_one_key_goes_one_by_one_and_others_go_on() -> None:
    """A key has one event in flight; the next follows when it is finished."""
    schedule = Schedule(by_key=True)
    jobs = [job(0, "a"), job(1, "a"), job(2, "b"), job(3, "a")]
    for one in jobs:
        schedule.offer(one, 0.0)
    assert [0, 2] == drain(schedule)
    schedule.finish(jobs[0])
    assert [1] == drain(schedule)
    schedule.finish(jobs[2])
    assert [] == drain(schedule)


def test_waiting_for_retry_blocks_the_key_only() -> None:
    """What waits holds its key until it is due, and nothing else."""
    schedule = Schedule(by_key=True)
    jobs = [job(0, "a"), job(1, "a"), job(2, "b")]
    for one in jobs:
        schedule.offer(one, 0.0)
    first = schedule.take(0.0)
    assert first is jobs[0]
    schedule.postpone(first, 10.0)
    assert ([2], 10.0, 1) == (drain(schedule), schedule.next_due(), schedule.waiting)
    assert [0] == drain(schedule, 10.0)
    assert 0 == schedule.waiting


def test_when_the_subscriber_is_back_retries_go_in_the_order_of_the_log() -> None:
    """Whatever they waited for and whenever they were due; one that is due much later keeps its time."""
    schedule = Schedule(by_key=True)
    jobs = [retried(job(number, f"k{number}")) for number in range(5)]
    for one in jobs:
        schedule.offer(one, 0.0)
    taken = [schedule.take(0.0) for _ in jobs]
    for one, due in zip(taken, (8.0, 3.0, 61.5, 2.0, 5.0), strict=True):
        assert one is not None
        schedule.postpone(one, due)
    first = schedule.take(2.5)
    assert first is jobs[3]
    schedule.give_back(first)
    schedule.discard(jobs[4])
    schedule.hurry(2.5, 10.0)
    assert ([0, 1, 3], 61.5, 1) == (drain(schedule, 2.5), schedule.next_due(), schedule.waiting)
    assert [2] == drain(schedule, 61.5)


def test_an_event_for_later_has_no_key_yet() -> None:
    """A parked event whose time has not come lets its key pass, and joins at the end when it has."""
    schedule = Schedule(by_key=True)
    parked, fresh, next_ = job(0, "a", due=5.0), job(1, "a"), job(2, "a")
    schedule.offer(parked, 0.0)
    schedule.offer(fresh, 0.0)
    assert [1] == drain(schedule)
    assert [] == drain(schedule, 6.0)
    schedule.offer(next_, 6.0)
    schedule.finish(fresh)
    assert [0] == drain(schedule, 6.0)
    schedule.finish(parked)
    assert [2] == drain(schedule, 6.0)


def test_without_keys_everything_goes_at_once() -> None:
    """``ordering: none``."""
    schedule = Schedule(by_key=False)
    for number in range(5):
        schedule.offer(job(number, "a"), 0.0)
    assert [0, 1, 2, 3, 4] == drain(schedule)


@pytest.mark.parametrize("due", [0.0, 1e6], ids=["ready", "later"])
def test_what_is_discarded_is_let_go(due: float) -> None:
    """A paused subscriber, rebalance after rebalance: what was discarded does not pile up behind what is kept."""
    schedule = Schedule(by_key=True)
    schedule.offer(job(0, "kept", due=due / 2), 0.0)
    discarded = []
    for _ in range(20):
        jobs = [job(number, f"key-{number % 50}", due=due) for number in range(1, 101)]
        for one in jobs:
            schedule.offer(one, 0.0)
        for one in reversed(jobs):
            schedule.discard(one)
        discarded += [weakref.ref(one.record.id) for one in jobs]
        del one, jobs
    assert sum(ref() is not None for ref in discarded) <= 2
    assert [0] == drain(schedule, due)


def test_retries_that_are_due_go_before_new_events_and_the_oldest_of_them_first() -> None:
    """By the time since which each is due, wherever it came from."""
    schedule = Schedule(by_key=True)
    new = [job(number, f"new-{number}") for number in range(3)]
    parked = [retried(job(10, "a", due=3.0)), retried(job(11, "b", due=1.0)), retried(job(12, "c", due=9.0))]
    for one in [*new, *parked]:
        schedule.offer(one, 0.0)
    first = schedule.take(0.0)
    assert first is new[0]
    schedule.postpone(retried(first), 2.0)
    assert [11, 0, 10, 1, 2] == drain(schedule, 5.0)
    assert [12] == drain(schedule, 9.0)


def test_an_event_that_failed_a_probe_lets_the_others_probe_first() -> None:
    """A bad event is due again before all others, and must not be the only one that is ever tried."""
    schedule = Schedule(by_key=True)
    for one in (retried(job(0, "bad", due=1.0), probes=1), retried(job(1, "good", due=4.0)), job(2, "new")):
        schedule.offer(one, 0.0)
    probes = [schedule.take(5.0, is_probe=True) for _ in range(3)]
    assert [1, 2, 0] == [one.record.offset for one in probes if one is not None]


@settings(max_examples=examples(80))
@given(
    jobs=st.lists(st.tuples(st.booleans(), st.floats(0.0, 9.0), st.integers(0, 3)), min_size=1, max_size=20),
    is_probe=st.booleans(),
)
def test_who_goes_first(jobs: list[tuple[bool, float, int]], is_probe: bool) -> None:
    """Any jobs that are due: retries before new ones, the oldest due first; a probe takes who failed the fewest."""
    schedule = Schedule(by_key=False)
    made = []
    for number, (is_retry, due, probes) in enumerate(jobs):
        one = job(number, "k", due=due if is_retry else 0.0)
        made.append(retried(one, probes=probes) if is_retry else one)
        schedule.offer(one, 0.0)
    left = list(made)
    while (taken := schedule.take(10.0, is_probe=is_probe)) is not None:
        left.remove(taken)
        is_retry = bool(taken.trail.steps)
        retries = [one for one in left if one.trail.steps]
        if is_retry and not is_probe:
            assert all(taken.due <= one.due for one in retries)
        elif is_retry:
            assert all((taken.probes, taken.due) <= (one.probes, one.due) for one in retries)
            assert taken.probes == 0 or len(retries) == len(left)
        else:
            assert all(is_probe and one.probes for one in retries)
            assert all(taken.record.offset < one.record.offset for one in left if not one.trail.steps)
    assert [] == left


@settings(max_examples=examples(80))
@given(count=st.integers(2, 12), bad=st.integers(0, 11), is_new=st.booleans())
def test_a_bad_event_cannot_keep_the_breaker_open(count: int, bad: int, is_new: bool) -> None:
    """One event fails whenever it is tried and is due again at once: another one is tried at the second probe."""
    schedule = Schedule(by_key=True)
    bad %= count
    for number in range(count):
        one = job(number, f"k{number}", due=0.0 if is_new else 1.0 + number)
        schedule.offer(one if is_new else retried(one), 0.0)
    tried = []
    for probe in range(2):
        now = 20.0 + probe
        taken = schedule.take(now, is_probe=True)
        assert taken is not None
        tried.append(taken.record.offset)
        if taken.record.offset == bad:
            taken.note(now, AttemptResult(500), counts=False)
            schedule.postpone(taken, now)
        else:
            schedule.finish(taken)
    assert {bad} != set(tried)


@settings(max_examples=examples(100))
@given(data=st.data())
def test_any_interleaving_keeps_the_order_of_each_key(data: st.DataObject) -> None:
    """Offer, take, finish, postpone, give back, discard, hurry and time in any order: never two of one key in flight,
    each key in order, and everything that was not discarded goes out.
    """
    schedule = Schedule(by_key=True)
    now, number = 0.0, 0
    waiting_room: list[Job] = []
    flight: list[Job] = []
    finished: dict[str, list[int]] = {}
    kept = 0
    for _ in range(data.draw(st.integers(0, 80))):
        match data.draw(
            st.sampled_from(["offer", "offer", "take", "take", "finish", "postpone", "give", "drop", "time", "hurry"])
        ):
            case "offer":
                one = job(number, data.draw(st.sampled_from("abc")))
                number, kept = number + 1, kept + 1
                schedule.offer(one, now)
                waiting_room.append(one)
            case "take":
                taken = schedule.take(now, is_probe=data.draw(st.booleans()))
                if taken is not None:
                    assert taken.record.key not in {one.record.key for one in flight}
                    waiting_room.remove(taken)
                    flight.append(taken)
            case "finish" if flight:
                done = flight.pop(data.draw(st.integers(0, len(flight) - 1)))
                finished.setdefault(done.record.key, []).append(done.record.offset)
                schedule.finish(done)
            case "postpone" if flight:
                back = flight.pop()
                back.note(now, AttemptResult(500), counts=data.draw(st.booleans()))
                waiting_room.append(back)
                schedule.postpone(back, now + data.draw(st.floats(0.0, 5.0)))
            case "give" if flight:
                back = flight.pop()
                waiting_room.append(back)
                schedule.give_back(back)
            case "drop" if waiting_room:
                gone = waiting_room.pop(data.draw(st.integers(0, len(waiting_room) - 1)))
                schedule.discard(gone)
                assert gone.state is JobState.GONE
                kept -= 1
            case "hurry":
                schedule.hurry(now, data.draw(st.floats(0.0, 5.0)))
            case "time":
                now += data.draw(st.floats(0.0, 3.0))
    while flight or waiting_room:
        while (taken := schedule.take(now)) is not None:
            waiting_room.remove(taken)
            flight.append(taken)
        assert flight or schedule.next_due() is not None
        for done in flight:
            finished.setdefault(done.record.key, []).append(done.record.offset)
            schedule.finish(done)
        flight.clear()
        now = max(now, schedule.next_due() or now)
    assert all(numbers == sorted(numbers) for numbers in finished.values())
    assert kept == sum(len(numbers) for numbers in finished.values())
    assert 0 == schedule.waiting


@given(rate=st.floats(0.1, 10_000), pauses=st.lists(st.floats(0, 2), max_size=50))
def test_never_faster_than_the_rate(rate: float, pauses: list[float]) -> None:
    """Whatever the pauses of the caller: over any time t at most rate * (t + burst) + 1 events."""
    bucket = TokenBucket(rate)
    now, passed = 0.0, []
    for pause in pauses:
        now += pause
        now += bucket.wait_s(now)
        bucket.take(now)
        passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            count = last - first + 1
            assert count <= rate * (passed[last] - passed[first] + BURST_S) + 1 + 1e-6 * count


def test_late_callers_catch_up_a_little() -> None:
    """Timers are late; without catching up each lateness would be lost rate."""
    bucket = TokenBucket(100.0)
    now = 0.0
    for _ in range(1000):
        now += bucket.wait_s(now)
        now += 0.004  # woken late
        bucket.take(now)
    assert 1000 / now == pytest.approx(100.0, rel=0.02)


@pytest.mark.quiet
@pytest.mark.parametrize("rate", [50.0, 400.0])
async def test_measured_rate_holds_within_two_percent(rate: float) -> None:
    """At the subscriber, over some seconds, by its own clock; a line through the arrivals is the rate."""
    log = MemoryLog()
    count = int(rate * 4)
    await log.append(entries(count, 100))
    arrivals: list[float] = []
    async with Receiver() as receiver, running(log, receiver.url, rate_per_s=rate):
        while len(receiver.posts) < count:
            seen = len(receiver.posts)
            await receiver.until(lambda seen=seen: len(receiver.posts) > seen)  # type: ignore[misc]
            arrivals += [time.monotonic()] * (len(receiver.posts) - seen)
    measured, _ = statistics.linear_regression(arrivals[count // 8 :], range(count // 8, count))
    assert measured == pytest.approx(rate, rel=0.02)
