"""One subscriber's trouble changes nothing for the others, and slowness repeats nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from tests.fanout.events import entries, in_order, repeats
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver, status
from tests.fanout.running import running as one_running
from tests.fanout.test_subscriptions import running, subscriber
from tests.waiting import pause

#: The receiver's pace: well above what this process needs for an attempt, so that it is the pace.
PACE_S = 0.1


@pytest.mark.quiet
@pytest.mark.slow
async def test_eight_healthy_ones_beside_a_dead_and_a_very_slow_one() -> None:
    """Rate, and p99 of the time from the log to the answer, of eight healthy ones, before and during: within 10 %."""

    async def paced(_: Post) -> web.StreamResponse:
        await pause(PACE_S, "a subscriber's pace")
        return web.Response()

    async def very_slow(_: Post) -> web.StreamResponse:
        await pause(10, "a very slow subscriber")
        return web.Response()

    log = MemoryLog()
    async with AsyncExitStack() as stack:
        healthy = [await stack.enter_async_context(Receiver(paced)) for _ in range(8)]
        dead = await stack.enter_async_context(Receiver(status(500)))
        slow = await stack.enter_async_context(Receiver(very_slow))
        well = [subscriber(f"well-{number}", one.url, concurrency=2) for number, one in enumerate(healthy)]
        fanout = await stack.enter_async_context(running(log, *well))
        rates, p99s = [], []
        for first, ill in ((1, False), (81, True)):
            if ill:
                others = [
                    subscriber("dead", dead.url, concurrency=32),
                    subscriber("slow", slow.url, concurrency=32, timeout_s=20),
                ]
                await fanout.apply([*well, *others])
                await slow.until(lambda: len(slow.posts) >= 20)
                await dead.until(lambda: len(dead.posts) >= 10)
            arrived = [len(one.delivered) for one in healthy]
            await log.append(entries(80, 20, first=first))
            started = time.monotonic()
            await asyncio.gather(*(one.until_delivered(first + 79) for one in healthy))
            rates.append(80 / (time.monotonic() - started))
            taken = [arrived_at - started for one in healthy for arrived_at in one.answered_at[-80:]]
            p99s.append(statistics.quantiles(taken, n=100)[98])
            assert [len(one.delivered) - before for one, before in zip(healthy, arrived, strict=True)] == [80] * 8
    assert abs(rates[1] / rates[0] - 1) < 0.10
    assert abs(p99s[1] / p99s[0] - 1) < 0.10


@pytest.mark.slow
async def test_slow_receivers_get_nothing_twice() -> None:
    """Answers after 3 to 5 s at full concurrency: every event once."""
    delay_s = iter([3.0, 4.0, 5.0] * 100)

    async def slowly(_: Post) -> web.StreamResponse:
        await pause(next(delay_s), "a slow subscriber")
        return web.Response()

    log = MemoryLog()
    await log.append(entries(96, 48))
    async with Receiver(slowly) as receiver, one_running(log, receiver.url, concurrency=32):
        await receiver.until_delivered(96, within_s=60)
    assert repeats([post.id for post in receiver.posts]) == 0
    assert in_order(receiver.numbers_by_key())
    assert receiver.most_in_flight == 32
