"""What one subscriber that is down costs the others: ``python -m tests.benchmarks one-down [--down-s 1800]``.

Fifty subscribers of one topic, on the embedded log and on Kafka; one of them refuses everything for a while. Two things
are measured. *At full rate*: a heap of events is delivered as fast as it goes, in turns with all subscribers up and
with one down; the rate of the others and the processor time of the delivering process for each of their events.
*Over the time that it is down*: events come at half of the full rate; the rate of the others before, during and
while the one catches up, and how fast it does: in multiples of what comes in. Bars: the others lose at most 5 % of
their rate; the one catches up at 5 times the inflow or more.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import uvloop

from tests.benchmarks import ingest, kafka_side, report, scrape
from tests.benchmarks.kafka_side import FanOutProcess
from tests.benchmarks.machine import Service
from tests.benchmarks.parts import broker
from tests.benchmarks.receiver import Receiver
from tests.ports import free_port
from tests.waiting import pause, until

DOWN: Final = "down"
#: At most this share of the others' rate may be lost, in percent.
_LOST_PERCENT: Final = 5.0
_CATCH_UP_TIMES: Final = 5.0
#: Of the full rate comes in while the one is down: there must be something left to catch up with.
_SHARE: Final = 0.5
#: The one is back when it has got this share of all; what it failed on last waits for its retry a little longer.
_CAUGHT_UP: Final = 0.99
_KEYS: Final = 500
_SENDERS: Final = 32
_WAIT_S: Final = 600.0
_LOOK_S: Final = 0.05
#: Patient, so that nothing becomes a dead letter, and quick to see that it is back: this is not what is measured.
_SETTINGS: Final = {
    "retry": {"attempts": 1000, "first_delay_s": 1, "max_delay_s": 5},
    "breaker": {"first_open": 1, "max_open": 5},
}


class Source(Protocol):
    """Where events come from."""

    async def append(self, count: int) -> None:
        """Store so many events more."""


class Callbacks:
    """Posts SMS receipts.

    Args:
        url: of the callback.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._count = 0
        self._senders = asyncio.Semaphore(_SENDERS)

    async def append(self, count: int) -> None:
        """See :class:`Source`."""
        first, self._count = self._count, self._count + count
        await asyncio.gather(*(self._post(number) for number in range(first, first + count)))

    async def _post(self, number: int) -> None:
        body = f"messageid=n-{number}&phone=1555{number % _KEYS:07d}&status=2&drtime=2024-01-02 03:04:09"
        async with self._senders, self._session.post(self._url, data=body.encode()) as answer:
            answer.raise_for_status()


@dataclass(slots=True)
class _Stage:
    """A gateway under measurement.

    Args:
        name: of the delivering process.
        others: subscribers beside the one that goes down.
    """

    service: Service
    name: str
    admin_port: int
    source: Source
    receiver: Receiver
    others: Sequence[str]
    given: int = 0

    async def append(self, count: int) -> None:
        self.given += count
        await self.source.append(count)

    def delivered_to_others(self) -> int:
        counts = self.receiver.counts()
        return sum(counts.get(name, 0) for name in self.others)

    def cpu_s(self) -> float:
        return self.service.cpu_by_process_s()[self.name]

    async def until_others(self) -> None:
        """Wait until the others have everything."""
        await until(lambda: self.delivered_to_others() >= self.given * len(self.others), within_s=_WAIT_S)

    async def until_caught_up(self) -> None:
        """Wait until the one has everything too, or nearly so."""
        await until(lambda: self.receiver.counts().get(DOWN, 0) >= _CAUGHT_UP * self.given, within_s=_WAIT_S)

    async def set_down(self, is_down: bool) -> None:
        """Have the one refuse everything, until its breaker is open; or accept, until it gets something."""
        self.receiver.set_down(DOWN, is_down)
        before = self.receiver.counts().get(DOWN, 0)

        async def is_open() -> bool:
            if not self._is_open():
                await self.append(5)
            return self._is_open()

        if is_down:
            await until(is_open, within_s=_WAIT_S, look_s=_LOOK_S)
            await self.until_others()
        else:
            await until(lambda: self.receiver.counts().get(DOWN, 0) > before, within_s=_WAIT_S)

    def _is_open(self) -> bool:
        state = scrape.value(self.admin_port, "gateway_subscriber_state", subscriber=DOWN, state="down")
        return bool(state)


def run(
    *,
    down_s: float = 45.0,
    steady_s: float = 10.0,
    subscribers: int = 50,
    heap: int = 300,
    rounds: int = 3,
    sides: Sequence[str] = ("journal", "kafka"),
) -> dict[str, Any]:
    """A row for the embedded log and one for Kafka.

    Args:
        down_s: for which the one is down under a steady inflow; issue 15 has 30 minutes.
        steady_s: of the same inflow before, with all up.
        subscribers: with the one.
        heap: events that are delivered as fast as it goes.
        rounds: of heaps, with all up and with one down.
        sides: which logs.
    """
    found: dict[str, Any] = {}
    for side in sides:
        found[side] = uvloop.run(_side(side, down_s, steady_s, subscribers, heap, rounds))
        print(report.line(side, found[side]), flush=True)
    most = {"lost_at_full_rate_percent", "lost_when_down_percent", "lost_in_catch_up_percent"}
    report.judge(
        found,
        {side: dict.fromkeys(most, _LOST_PERCENT) for side in found},
        least={side: {"catch_up_times": _CATCH_UP_TIMES} for side in found},
    )
    return found


async def _side(side: str, down_s: float, steady_s: float, subscribers: int, heap: int, rounds: int) -> dict[str, Any]:
    others = [f"up-{number}" for number in range(subscribers - 1)]
    starts = {"journal": _on_journal, "kafka": _on_kafka}
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver:
        rows = [receiver.row(name, **_SETTINGS) for name in (*others, DOWN)]
        async with starts[side](Path(folder), rows, receiver, others) as stage:
            await stage.append(10)
            await stage.until_others()
            await stage.until_caught_up()
            full = await _at_full_rate(stage, heap, rounds)
            inflow = full.pop("full_per_s") * _SHARE
            return {**full, **await _over_time(stage, inflow, down_s, steady_s)}


@asynccontextmanager
async def _on_journal(
    folder: Path, rows: Sequence[dict[str, Any]], receiver: Receiver, others: Sequence[str]
) -> AsyncIterator[_Stage]:
    admin_port = free_port()
    service = ingest.gateway(
        folder, "run", processors=os.sched_getaffinity(0), subscribers=list(rows), admin={"port": admin_port}
    )
    try:
        await asyncio.to_thread(service.wait_ready)
        async with aiohttp.ClientSession() as session:
            source = Callbacks(session, f"{service.url}/callbacks/sms-dr")
            yield _Stage(service, "deliver", admin_port, source, receiver, others)
    finally:
        await asyncio.to_thread(service.stop)


@asynccontextmanager
async def _on_kafka(
    folder: Path, rows: Sequence[dict[str, Any]], receiver: Receiver, others: Sequence[str]
) -> AsyncIterator[_Stage]:
    with broker(is_fresh=True) as bootstrap:
        process = FanOutProcess(folder, "fanout-0", bootstrap, rows)
        async with kafka_side.feed(bootstrap, rate=0, keys=_KEYS) as source:
            service = process.start()
            try:
                await asyncio.to_thread(service.wait_ready)
                yield _Stage(service, "deliver-0", process.admin_port, source, receiver, others)
            finally:
                await asyncio.to_thread(process.stop)


async def _at_full_rate(stage: _Stage, heap: int, rounds: int) -> dict[str, Any]:
    """Deliver heaps of events in turns: with all up, with one down."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for is_down in (False, True):
            if is_down:
                await stage.set_down(True)
            before, spent, began = stage.delivered_to_others(), stage.cpu_s(), time.monotonic()
            await stage.append(heap)
            await stage.until_others()
            delivered = stage.delivered_to_others() - before
            rates[is_down].append(delivered / (time.monotonic() - began))
            cpu[is_down].append((stage.cpu_s() - spent) / delivered * 1e6)
        await stage.set_down(False)
        await stage.until_caught_up()
    lost = [(1 - down / up) * 100 for up, down in zip(rates[False], rates[True], strict=True)]
    return {
        "full_per_s": statistics.median(rates[False]) / len(stage.others),
        "others_at_full_rate_per_s": report.summary(rates[False], 0),
        "lost_at_full_rate_percent": round(statistics.median(lost), 1),
        "cpu_us": report.summary(cpu[False]),
        "cpu_us_with_one_down": report.summary(cpu[True]),
    }


async def _over_time(stage: _Stage, inflow: float, down_s: float, steady_s: float) -> dict[str, Any]:
    """A steady inflow with all up, with one down, and until that one has caught up."""
    pace = asyncio.create_task(_pace(stage, inflow))
    try:
        steady = await _rate_of_others(stage, pause(steady_s, "so long it is measured"))
        await stage.set_down(True)
        down = await _rate_of_others(stage, pause(down_s, "so long it is down"))
        await stage.set_down(False)
        backlog = stage.given - stage.receiver.counts()[DOWN]
        catch_up = asyncio.create_task(_catch_up(stage))
        # For a while at least: the others get what comes, and a moment shows none of it.
        catching_up = await _rate_of_others(stage, asyncio.gather(catch_up, pause(steady_s, "so long it is measured")))
        speed, took_s = catch_up.result()
    finally:
        pace.cancel()
        await asyncio.gather(pace, return_exceptions=True)
    return {
        "inflow_per_s": round(inflow, 1),
        "lost_when_down_percent": round((1 - down / steady) * 100, 1),
        "backlog": backlog,
        "lost_in_catch_up_percent": round((1 - catching_up / steady) * 100, 1),
        "catch_up_times": round(speed / inflow, 1),
        "catch_up_s": round(took_s, 1),
    }


async def _catch_up(stage: _Stage) -> tuple[float, float]:
    """Wait until the one has caught up; events a second meanwhile, and seconds."""
    before, began = stage.receiver.counts()[DOWN], time.monotonic()
    await stage.until_caught_up()
    took_s = time.monotonic() - began
    return (stage.receiver.counts()[DOWN] - before) / took_s, took_s


async def _rate_of_others(stage: _Stage, doing: Any) -> float:
    before, began = stage.delivered_to_others(), time.monotonic()
    await doing
    return (stage.delivered_to_others() - before) / (time.monotonic() - began)


async def _pace(stage: _Stage, rate: float) -> None:
    """Append events at a rate, for ever."""
    started, count = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - started) * rate) - count
        if due > 0:
            count += due
            await stage.append(due)
        await pause(0.01, "the load's rate")
