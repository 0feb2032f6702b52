from __future__ import annotations

import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.rate import BURST_S, TokenBucket
from tests.fanout.events import entries
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver
from tests.fanout.running import running


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
