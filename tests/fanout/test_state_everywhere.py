"""Breakers of several processes: which word on a subscriber stands in the log, and what it is worth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import orjson
from prometheus_client import CollectorRegistry

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.circuit_breaker import BreakerPolicy
from gateway.fanout.flow_control import FlowControl, PersistentState
from gateway.fanout.scheduler import Dispatcher
from gateway.fanout.subscriber_state import REPEAT_S, TOPIC, SubscriberStateStore
from gateway.telemetry.metrics import Metrics
from tests.fanout.manual_clock import ManualClock
from tests.fanout.memory_log import MemoryLog
from tests.waiting import turn

WELL, DOWN, DOWN_TOO = (
    PersistentState(),
    PersistentState(opened_at=1.0, open_s=0.2),
    PersistentState(opened_at=5.0, open_s=0.2),
)


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await turn()


async def _boards(log: MemoryLog, clock: ManualClock, count: int) -> list[SubscriberStateStore]:
    boards = []
    for number in range(count):
        is_loaded = asyncio.Event()
        board = SubscriberStateStore(
            log,
            clock=clock,
            instance=str(number),
            load_wait_s=60.0,
            on_loaded=is_loaded.set,
            on_change=lambda _: None,
        )
        board.start()
        await asyncio.wait_for(is_loaded.wait(), 5)
        boards.append(board)
    return boards


def _opened_at(board: SubscriberStateStore) -> float | None:
    found = board.everywhere("billing")
    return None if found is None else found.opened_at


async def test_it_is_down_while_one_process_gets_nothing_through() -> None:
    """The one that recovers first does not make it well; the last one does, for those who look on too."""
    log, clock = MemoryLog(now=lambda: 1000.0), ManualClock(1000.0)
    one, two, onlooker = await _boards(log, clock, 3)
    one.put("billing", DOWN)
    await _until(lambda: _opened_at(onlooker) == 1.0)
    two.put("billing", DOWN_TOO)
    await _until(lambda: _opened_at(onlooker) == 5.0)
    one.put("billing", WELL)
    await _until(lambda: len(log.records[TOPIC]) == 4 and _opened_at(onlooker) == 5.0)
    assert orjson.loads(log.records[TOPIC][-1].value)["by"] == "1"
    two.put("billing", WELL)
    await _until(lambda: _opened_at(onlooker) is None)
    for board in (one, two, onlooker):
        await board.stop()


async def test_a_pause_says_nothing_about_a_breaker() -> None:
    """It is asked of a process that gets everything through, while another one gets nothing."""
    log, clock = MemoryLog(now=lambda: 1000.0), ManualClock(1000.0)
    one, two = await _boards(log, clock, 2)
    two.put("billing", WELL)
    one.put("billing", DOWN)
    await _until(lambda: _opened_at(two) == 1.0)
    two.put("billing", PersistentState(paused=True))
    await _until(lambda: one.get("billing").paused)
    assert two.everywhere("billing") == PersistentState(paused=True, opened_at=1.0, open_s=0.2)
    for board in (one, two):
        await board.stop()


async def test_the_word_of_a_process_that_died_is_not_believed_for_long() -> None:
    """It would be repeated; one that is, is believed however long the outage is."""
    clock = ManualClock(1000.0)
    log = MemoryLog(now=clock.now)
    one, onlooker = await _boards(log, clock, 2)
    one.put("billing", DOWN)
    await _until(lambda: _opened_at(onlooker) == 1.0)
    for _ in range(2):
        written = len(log.records[TOPIC])
        clock.advance(REPEAT_S + 1.0)
        await _until(lambda written=written: len(log.records[TOPIC]) > written)  # type: ignore[misc]
        await _until(lambda: _opened_at(onlooker) == 1.0)
    await one.stop()
    clock.advance(3 * REPEAT_S)
    await _until(lambda: onlooker.everywhere("billing") == WELL)
    await onlooker.stop()


def _flow(clock: ManualClock) -> FlowControl:
    dispatcher = Dispatcher(clock, by_key=True)
    return FlowControl(
        BreakerPolicy(),
        8,
        dispatcher,
        clock,
        Random(1),
        attempt_log=AttemptLog("billing", clock=clock, metrics=Metrics(CollectorRegistry())),
        on_state=lambda: None,
    )


def test_what_was_restored_ends_with_the_word_of_one_that_gets_through() -> None:
    """A process without a partition that has events makes no attempt by which it could find out itself."""
    flow = _flow(ManualClock())
    flow.restore(DOWN)
    flow.start()
    assert flow.status == "open"
    flow.restore(WELL)
    assert (flow.status, flow.persistent_state) == ("closed", WELL)


def test_what_an_attempt_of_ours_has_found_is_not_ended_by_others() -> None:
    clock = ManualClock()
    flow = _flow(clock)
    flow.restore(DOWN)
    flow.start()
    clock.advance(1.0)
    assert flow.status == "half_open"
    flow.failed("e1", 1, AttemptResult(status=500))
    flow.restore(WELL)
    assert flow.status == "open"
