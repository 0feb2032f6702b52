"""The board of lasting states: what changes while it is being written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.clock import Clock, SystemClock
from gateway.fanout.flow_control import PersistentState
from gateway.fanout.subscriber_state import TOPIC, SubscriberStateStore
from gateway.log import Appended, Entry, EventLog
from gateway.log.journal import Journal, Retention
from tests.fanout.manual_clock import ManualClock
from tests.fanout.memory_log import MemoryLog, MemoryReader
from tests.waiting import turn

WELL, DOWN = PersistentState(), PersistentState(opened_at=1.0, open_s=0.2)


class SlowLog(MemoryLog):
    """Appends wait until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = asyncio.Event()
        self.may_go = asyncio.Event()

    async def append(self, entries: Sequence[Entry]) -> Appended:
        self.is_asked.set()
        await self.may_go.wait()
        return await super().append(entries)


@pytest.mark.timeout(20)
async def test_a_state_that_changes_back_while_it_is_written_leaves_the_loop_to_others() -> None:
    """A subscriber that goes down and comes back within one append: the writer rests, it does not spin."""
    log = SlowLog()
    board = SubscriberStateStore(
        log, clock=SystemClock(), instance="0", load_wait_s=0.0, on_loaded=lambda: None, on_change=lambda _: None
    )
    log.may_go.set()
    board.start()
    board.put("a", DOWN)
    async with asyncio.timeout(5):
        while not log.records.get(TOPIC):
            await turn()
    log.may_go.clear()
    log.is_asked.clear()
    board.put("a", WELL)
    await log.is_asked.wait()
    board.put("a", DOWN)
    board.put("a", WELL)
    log.may_go.set()
    started = time.monotonic()
    for _ in range(20):  # a writer that spins never lets this go on, until the test's time is over
        await turn()
    assert time.monotonic() - started < 5
    await board.stop()
    assert orjson.loads(log.records[TOPIC][-1].value)["opened_at"] is None


async def loaded(log: EventLog, load_wait_s: float = 60.0) -> tuple[SubscriberStateStore, asyncio.Event]:
    is_loaded = asyncio.Event()
    board = SubscriberStateStore(
        log, clock=SystemClock(), instance="1", load_wait_s=load_wait_s, on_loaded=is_loaded.set,
        on_change=lambda _: None,
    )  # fmt: skip
    board.start()
    return board, is_loaded


@pytest.mark.timeout(20)
async def test_where_nothing_was_kept_nobody_waits_for_it(tmp_path: Path) -> None:
    """Subscribers begin at once: the log says that there is nothing to read, and its silence is not waited for."""
    journal = Journal(tmp_path, Retention(1 << 30, 3600.0))
    await journal.start()
    board, is_loaded = await loaded(journal)
    await asyncio.wait_for(is_loaded.wait(), 5)
    await board.stop()
    await journal.stop()


@pytest.mark.timeout(20)
async def test_what_was_kept_is_read_to_its_end_before_subscribers_begin() -> None:
    """The last word on each subscriber counts, and then the wait is over."""
    log = MemoryLog()
    for number in range(1200):  # more than one fetch
        value = orjson.dumps({"paused": number == 1199, "stopped": "", "by": "0"})
        await log.append([Entry(TOPIC, "a/control", f"{number:032x}", value)])
    board, is_loaded = await loaded(log)
    await asyncio.wait_for(is_loaded.wait(), 5)
    assert board.get("a").paused
    await board.stop()


async def _known(board: SubscriberStateStore, name: str, paused: bool) -> None:
    async with asyncio.timeout(5):
        while board.get(name).paused is not paused:
            await turn()


async def _pair(log: MemoryLog, clocks: tuple[Clock, Clock]) -> tuple[SubscriberStateStore, SubscriberStateStore]:
    """Two processes on one machine, followed by what either says."""
    boards = []
    for clock in clocks:
        is_loaded = asyncio.Event()
        board = SubscriberStateStore(
            log, clock=clock, instance="host-0", load_wait_s=60.0, on_loaded=is_loaded.set, on_change=lambda _: None
        )
        board.start()
        await asyncio.wait_for(is_loaded.wait(), 5)
        boards.append(board)
    return boards[0], boards[1]


@pytest.mark.parametrize("ahead_s", [0.0, 60.0, -60.0])
async def test_the_last_word_holds_in_every_process_whatever_their_clocks_say(ahead_s: float) -> None:
    """A pause asked of one, taken back at the other ten seconds later: both go on, also if a clock is wrong."""
    log = MemoryLog(now=lambda: 1000.0)
    one, two = await _pair(log, (ManualClock(1000.0 + ahead_s), ManualClock(1000.0)))
    one.put("billing", PersistentState(paused=True))
    await _known(two, "billing", True)
    log.now = lambda: 1010.0
    two.put("billing", PersistentState(paused=False))
    await _known(one, "billing", False)
    await one.stop()
    await two.stop()


async def test_words_at_the_same_time_end_as_one() -> None:
    """Both processes are told something at once: what stands last in the log holds in both."""
    log = SlowLog()
    one, two = await _pair(log, (SystemClock(), SystemClock()))
    one.put("billing", PersistentState(paused=True))
    two.put("billing", PersistentState(paused=True, stopped="gone"))
    await log.is_asked.wait()
    log.may_go.set()
    async with asyncio.timeout(5):
        while one.get("billing") != two.get("billing") or len(log.records.get(TOPIC, ())) < 2:
            await turn()
    await one.stop()
    await two.stop()
    last = orjson.loads(log.records[TOPIC][-1].value)
    assert (one.get("billing").stopped, two.get("billing").stopped) == (last["stopped"], last["stopped"])


@pytest.mark.timeout(20)
async def test_what_compaction_took_is_not_waited_for() -> None:
    """Subscribers begin when the end is reached, with fewer records than there are offsets."""
    log = MemoryLog()
    await log.append([Entry(TOPIC, "a/control", f"{n:032x}", b'{"paused":true,"stopped":""}') for n in range(3)])
    log.records[TOPIC][-1] = log.records[TOPIC][-1]._replace(topic="compacted")
    board, is_loaded = await loaded(log)
    await asyncio.wait_for(is_loaded.wait(), 5)
    assert board.get("a").paused
    await board.stop()


class SilentLog(MemoryLog):
    """It says that there is more, and returns nothing of it: a partition without a leader."""

    async def browse(self, name: str, topics: Collection[str], **options: Any) -> MemoryReader:
        reader = await super().browse(name, topics, **options)
        ends = reader.ends

        async def more() -> dict[str, int]:
            return {partition: end + 1 for partition, end in (await ends()).items()}

        reader.ends = more  # type: ignore[method-assign]
        return reader


@pytest.mark.timeout(20)
async def test_a_log_that_is_silent_before_its_end_keeps_nobody_waiting() -> None:
    """Subscribers begin with what was read by then."""
    log = SilentLog()
    await log.append([Entry(TOPIC, "a/control", "0" * 32, b'{"paused":true,"stopped":""}')])
    board, is_loaded = await loaded(log, load_wait_s=0.3)
    await asyncio.wait_for(is_loaded.wait(), 10)
    assert board.get("a").paused
    await board.stop()
