"""Many waiters of one future."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import NotNow
from gateway.ingest.waiters import Waiters
from gateway.log import ALL_NEW, Appended


def _future() -> asyncio.Future[Appended]:
    return asyncio.get_running_loop().create_future()


async def test_all_are_told_when_it_is_done() -> None:
    """Whoever came before it was done, and who came after."""
    waiters, shared = Waiters(), _future()
    early = [waiters.wait(shared) for _ in range(3)]
    shared.set_result(ALL_NEW)
    late = waiters.wait(shared)
    async with asyncio.timeout(5):
        await asyncio.gather(*early, late)
        await waiters.wait(shared)


async def test_one_that_is_cancelled_takes_nobody_with_it() -> None:
    """A sender that goes away neither stops the commit nor the others' answers."""
    waiters, shared = Waiters(), _future()
    gone, stays = (asyncio.ensure_future(waiters.wait(shared)) for _ in range(2))
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert not shared.done()
    shared.set_result(ALL_NEW)
    async with asyncio.timeout(5):
        await stays


async def test_an_error_reaches_all() -> None:
    waiters, shared = Waiters(), _future()
    waiting = [waiters.wait(shared) for _ in range(2)]
    shared.set_exception(NotNow("full"))
    for waiter in waiting:
        with pytest.raises(NotNow, match="full"):
            await waiter


async def test_futures_do_not_mix() -> None:
    """Two commits under way: each waiter belongs to its own."""
    waiters, one, two = Waiters(), _future(), _future()
    of_one, of_two, again = waiters.wait(one), waiters.wait(two), waiters.wait(one)
    two.set_result(ALL_NEW)
    async with asyncio.timeout(5):
        await of_two
    assert not of_one.done()
    assert not again.done()
    one.set_result(ALL_NEW)
    async with asyncio.timeout(5):
        await asyncio.gather(of_one, again)
