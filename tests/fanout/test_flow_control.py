from __future__ import annotations

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.flow_control import AdaptiveLimit
from gateway.fanout.retry import RetryPolicy
from tests.fanout.events import entries
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver
from tests.fanout.running import running
from tests.waiting import pause


def rounds(limit: AdaptiveLimit, count: int, *, latency_s: float = 0.01, is_overload: bool = False) -> None:
    for _ in range(count):
        numbers = [limit.begin() for _ in range(limit.limit)]
        for number in numbers:
            limit.end(number, is_overload=is_overload, latency_s=latency_s)


def test_halves_once_for_a_round_of_overload() -> None:
    """Thirty-two 429s of one round are one sign, not thirty-two."""
    limit = AdaptiveLimit(32)
    for expected in (16, 8, 4, 2, 1, 1):
        rounds(limit, 1, is_overload=True)
        assert limit.limit == expected


def test_grows_back_while_latency_holds_and_never_above_the_maximum() -> None:
    """One more for each round, up to ``concurrency``."""
    limit = AdaptiveLimit(32)
    rounds(limit, 3)
    rounds(limit, 1, is_overload=True)
    rounds(limit, 8)
    assert 20 <= limit.limit <= 25
    rounds(limit, 100)
    assert limit.limit == 32


def test_does_not_grow_while_answers_take_longer_than_usual() -> None:
    """Slower answers mean that it queues already."""
    limit = AdaptiveLimit(32)
    rounds(limit, 5, latency_s=0.01)
    rounds(limit, 1, is_overload=True)
    rounds(limit, 3, latency_s=0.1)
    before = limit.limit
    rounds(limit, 3, latency_s=0.1)
    assert limit.limit == before


def test_after_an_outage_it_feels_its_way() -> None:
    """It begins at one and doubles each round up to half of what was, then adds one for each."""
    limit = AdaptiveLimit(32)
    limit.restart()
    found = []
    for _ in range(6):
        found.append(limit.limit)
        rounds(limit, 1)
    assert found == [1, 2, 4, 8, 16, 17]


def test_after_an_outage_a_slower_subscriber_gets_its_share_as_soon() -> None:
    """It came back on a slower machine: that is its usual now, and no sign of too much."""
    limit = AdaptiveLimit(32)
    rounds(limit, 60, latency_s=0.03)
    limit.restart()
    rounds(limit, 4, latency_s=1.0)
    assert limit.limit == 16


def test_a_limit_of_one_does_not_outlive_its_reason() -> None:
    """Overload took it down to one; answers that stay slow are the new usual after some dozens of rounds."""
    limit = AdaptiveLimit(32)
    rounds(limit, 60, latency_s=0.03)
    rounds(limit, 6, is_overload=True)
    assert limit.limit == 1
    rounds(limit, 60, latency_s=3.0)
    assert limit.limit >= 8


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=200))
def test_always_between_one_and_the_maximum(maximum: int, ends: list[tuple[bool, float]]) -> None:
    """Any sequence of answers."""
    limit = AdaptiveLimit(maximum)
    for is_overload, latency_s in ends:
        limit.end(limit.begin(), is_overload=is_overload, latency_s=latency_s)
        assert 1 <= limit.limit <= maximum


async def test_a_subscriber_that_takes_four_at_a_time_gets_about_four() -> None:
    """A receiver that answers 429 above four at once: everything arrives, and most attempts are taken."""
    refused = 0

    async def four(post: Post) -> web.StreamResponse:
        nonlocal refused
        if receiver.in_flight.total() > 4:
            refused += 1
            return web.Response(status=429)
        await pause(0.002, "a slow subscriber")
        return web.Response()

    log = MemoryLog()
    await log.append(entries(600, 600))
    quick = RetryPolicy(attempts=1000, first_delay_s=0.05, max_delay_s=0.2)
    async with Receiver(four) as receiver, running(log, receiver.url, retry=quick, concurrency=64):
        await receiver.until_delivered(600)
    assert 0 < refused < 300
