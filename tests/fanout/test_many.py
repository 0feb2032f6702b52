"""Many subscribers of one process: what the idle ones cost, and that none holds up the others."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.config.settings import Subscriber
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.subscriptions import FanOut
from gateway.log import Record
from gateway.log.journal import Journal, Retention
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry
from tests.fanout.scripted import DOWN, OK
from tests.fanout.test_subscriptions import subscriber
from tests.waiting import pause, turn, until

MIB = 2**20


@asynccontextmanager
async def gateway(folder: Path, *subscribers: Subscriber) -> AsyncIterator[tuple[Journal, FanOut]]:
    journal = Journal(folder, Retention(max_bytes=2**30, max_age_s=10**6))
    await journal.start()
    fanout = FanOut(journal, subscribers, metrics=Metrics(CollectorRegistry()))
    fanout.start()
    await fanout.is_started.wait()
    try:
        yield journal, fanout
    finally:
        await fanout.stop(1.0)
        await journal.stop()


class Sinks:
    """Answers for the subscribers by name, and knows when each got what."""

    def __init__(self) -> None:
        self.delivered: dict[str, list[float]] = {}
        self.answers: dict[str, AttemptResult | None] = {}
        self.changed = asyncio.Event()

    async def attempt(self, name: str) -> AttemptResult:
        answer = self.answers.get(name, OK)
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        if answer.is_success:
            self.delivered.setdefault(name, []).append(time.monotonic())
            self.changed.set()
        return answer

    async def until(self, count: int, names: list[str], *, within_s: float = 60.0) -> None:
        async with asyncio.timeout(within_s):
            while any(len(self.delivered.get(name, ())) < count for name in names):
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> Sinks:
    """Subscribers without a network: what is measured here is what comes before it."""
    all_of_them = Sinks()

    class Sink:
        def __init__(self, name: str) -> None:
            self.name = name

        async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
            return await all_of_them.attempt(self.name)

        async def close(self) -> None:
            pass

    monkeypatch.setattr("gateway.fanout.subscription.sink", lambda one, **_: Sink(one.name))
    return all_of_them


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_three_hundred_idle_subscribers_cost_little(tmp_path: Path) -> None:
    """Memory of each, and the processor's time of all: no task and no timer of their own, and one look at all lags."""
    async with gateway(tmp_path / "warm", subscriber("one", "https://example.com/")):
        await turn()
    tasks, before = len(asyncio.all_tasks()), _resident_bytes()
    many = [subscriber(f"s{number}", "https://example.com/") for number in range(300)]
    async with gateway(tmp_path / "many", *many) as (_, fanout):

        async def are_known() -> bool:
            lags = await fanout.lags()
            return bool(lags) and None not in lags.values()

        await until(are_known, within_s=30)
        grown = _resident_bytes() - before
        assert len(asyncio.all_tasks()) - tasks < 40
        started, cpu = time.monotonic(), time.process_time()
        await pause(6.0, "the metrics' look at all subscribers is in it")
        share = (time.process_time() - cpu) / (time.monotonic() - started)
    assert grown / 300 < 0.2 * MIB, f"{grown / 300 / 1024:.0f} KiB for each"
    assert share < 0.05, f"{share:.1%} of a processor"


async def test_fifty_subscribers_are_not_held_up_by_one_that_hangs(sinks: Sinks, tmp_path: Path) -> None:
    """It takes nothing for long, far beyond its window: the others get each batch at once all the same."""
    names = [f"s{number}" for number in range(50)]
    well = names[1:]
    sinks.answers["s0"] = None
    async with gateway(tmp_path, *(subscriber(name, "https://example.com/", timeout_s=60) for name in names)) as (
        journal,
        fanout,
    ):
        longest_s = 0.0
        for number in range(12):  # 2,400 events: its window is full at 2,000
            appended = time.monotonic()
            await journal.append(entries(200, 20, first=1 + number * 200))
            await sinks.until((number + 1) * 200, well)
            longest_s = max(longest_s, time.monotonic() - appended)
        status, lags = {one.name: one for one in fanout.statuses()}, await fanout.lags()
        assert lags["s0"] == 2400
        assert status["s0"].outstanding <= 2000
        assert {lags[name] for name in well} == {0}
    # 200 × 49 deliveries take half a second of a quiet processor; a stall would be one of the reading's waits: 5 s.
    assert longest_s < 5.0


@pytest.mark.timeout(120)
async def test_one_that_comes_back_catches_up_while_the_others_go_on(sinks: Sinks, tmp_path: Path) -> None:
    """It gets what it missed at more than five times the inflow; the others get everything as it comes."""
    names = ["back", "a", "b", "c"]
    sinks.answers["back"] = DOWN
    breaker = {"first_open": "1s", "max_open": "1s"}
    subscribers = [subscriber(name, "https://example.com/", breaker=breaker, concurrency=64) for name in names]
    async with gateway(tmp_path, *subscribers) as (journal, fanout):
        missed, first = 6000, 1
        for _ in range(missed // 500):
            await journal.append(entries(500, 100, first=first))
            first += 500
        await sinks.until(missed, ["a", "b", "c"])
        assert "back" not in sinks.delivered
        sinks.answers["back"] = OK
        inflow = 100  # each 0.1 s
        while len(sinks.delivered.get("back", ())) < first - 1:
            await journal.append([entry(first + number, f"key-{number}") for number in range(inflow // 10)])
            first += inflow // 10
            await pause(0.1, "the inflow's pace")
        begun = sinks.delivered["back"][20]  # the probes, and the careful beginning after them, are over
        taken_s = sinks.delivered["back"][missed - 1] - begun
        assert missed / taken_s > 5 * inflow
        await sinks.until(first - 1, names)
        status = {one.name: one for one in fanout.statuses()}
        assert {one.state for one in status.values()} == {"closed"}
