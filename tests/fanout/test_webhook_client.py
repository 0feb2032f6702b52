"""One timer for many deadlines."""

from __future__ import annotations

import asyncio

import pytest

from gateway.fanout.webhook_client import Deadlines
from tests.fanout.manual_clock import ManualClock, turns
from tests.waiting import turn


async def attempt(deadlines: Deadlines, answered: asyncio.Future[None]) -> str:
    task = deadlines.begin(deadlines._clock.monotonic())
    try:
        await answered
    except asyncio.CancelledError:
        if not deadlines.is_late(task):
            raise
        return "late"
    finally:
        deadlines.end(task)
    return "answered"


async def begun(deadlines: Deadlines) -> tuple[asyncio.Task[str], asyncio.Future[None]]:
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(attempt(deadlines, answered))
    await turn()
    return task, answered


async def test_each_is_late_at_its_own_time_and_the_answered_never() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)
    first, _ = await begun(deadlines)
    clock.advance(4.0)
    second, answered = await begun(deadlines)
    third, _ = await begun(deadlines)
    clock.advance(5.9)
    assert not first.done()
    clock.advance(0.2)
    assert "late" == await first
    assert not second.done()
    answered.set_result(None)
    assert "answered" == await second
    clock.advance(3.8)
    assert not third.done()
    clock.advance(0.2)
    assert "late" == await third


async def test_a_task_that_was_late_may_try_again() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> list[str]:
        return [await attempt(deadlines, asyncio.shield(never)) for _ in range(3)]

    task = asyncio.create_task(work())
    for _ in range(3):
        await turns()
        clock.advance(10.0)
    assert ["late"] * 3 == await task
    assert 0 == task.cancelling()


@pytest.mark.parametrize("is_late_first", [True, False])
async def test_who_is_cancelled_by_others_too_is_cancelled(is_late_first: bool) -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)
    task, _ = await begun(deadlines)
    if is_late_first:
        clock.advance(10.0)
        task.cancel()
    else:
        task.cancel()
        clock.advance(10.0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.next_call() is None


async def test_an_answer_in_the_same_turn_as_the_deadline_does_not_cancel_what_comes_after() -> None:
    clock = ManualClock()
    deadlines = Deadlines(clock, 10.0)

    async def work() -> str:
        outcome = await attempt(deadlines, answered)
        await turn()  # a cancellation left over would end the task here
        return outcome

    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work())
    await turns()
    answered.set_result(None)
    clock.advance(10.0)
    assert await task in {"late", "answered"}
