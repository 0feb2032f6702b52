"""What a key waits while fan-out processes come and go: ``python -m tests.benchmarks rebalance``.

Events come at a rate to topics of 12 partitions, and processes of ``gateway fanout`` deliver them to subscribers that
write down each attempt: 1 → 4 → 1 processes, a rolling restart of 4, SIGKILL of one that stays away, SIGSTOP of one
that wakes up a minute later. A key pauses while an event of it waits and the one before is done; the time of a start is
part of it. In a second run, one of 21 subscribers takes 9 s for each event, and the pauses of the others count. Bars
(issue 15): nothing lost, each key in order, none in flight twice but for attempts that were cancelled and counted; a
pause of at most 2 s at a rolling restart, 3 s beside the slow one, and the session time and 2 s after a SIGKILL.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.benchmarks import kafka_side, pauses, report
from tests.benchmarks.kafka_side import FanOutProcess, Feed
from tests.benchmarks.parts import broker
from tests.benchmarks.pauses import Deliveries
from tests.benchmarks.receiver import Receiver
from tests.waiting import until

SESSION_S: Final = 15.0
ROLLING: Final = "rolling restart"
BESIDE_SLOW: Final = "rolling restart while one subscriber is slow"
SIGKILL: Final = "SIGKILL"
SIGSTOP: Final = "SIGSTOP"
#: A subscriber's answer takes so long, so that attempts under way twice are seen.
_ANSWER_S: Final = 0.01
_SLOW_S: Final = 9.0
_PARTITIONS: Final = 12
#: After a phase: what was waiting is delivered.
_SETTLE_S: Final = 3.0
_WAIT_S: Final = 120.0
_ROLLING_S: Final = 2.0
_ROLLING_BESIDE_SLOW_S: Final = 3.0


@dataclass(slots=True)
class _Stage:
    """Processes on one Kafka, their subscribers, the events, and the phases so far."""

    bootstrap: str
    prefix: str
    processes: Sequence[FanOutProcess]
    feed: Feed
    phases: dict[str, tuple[float, float, int]] = field(default_factory=dict)

    @asynccontextmanager
    async def phase(self, label: str) -> AsyncIterator[None]:
        """What happens inside, and a while after it, is a row."""
        begin, cancelled = time.monotonic(), self.cancelled()
        yield
        await asyncio.sleep(_SETTLE_S)
        self.phases[label] = (begin, time.monotonic(), self.cancelled() - cancelled)
        print(f"{label}: {time.monotonic() - begin:.0f} s", flush=True)

    def cancelled(self) -> int:
        return sum(process.cancelled() for process in self.processes)

    async def start(self, *processes: FanOutProcess) -> None:
        """Start processes at once; returns when all are members of the group."""
        running = sum(process.service is not None for process in self.processes)
        services = [process.start() for process in processes]
        await asyncio.gather(*(asyncio.to_thread(service.wait_ready) for service in services))
        await self.until_members(running + len(processes))

    async def stop(self, *processes: FanOutProcess) -> None:
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in processes))

    async def until_members(self, count: int) -> None:
        """Wait until the group has so many members."""
        name = f"{self.prefix}gateway.fanout"

        async def are_there() -> bool:
            return (await asyncio.to_thread(kafka_side.groups_with_members, self.bootstrap)).get(name) == count

        await until(are_there, within_s=_WAIT_S, look_s=0.2)

    async def roll(self) -> None:
        """Restart the processes one after the other."""
        for process in self.processes:
            await self.stop(process)
            await self.start(process)
            await asyncio.sleep(1.0)

    async def until_delivered(self, receiver: Receiver, names: Sequence[str]) -> None:
        """Wait until these have everything; what is missing after a while is lost."""

        def have_all() -> bool:
            counts = receiver.counts()
            return all(counts.get(name, 0) >= len(self.feed.given) for name in names)

        with suppress(TimeoutError):
            await until(have_all, within_s=_WAIT_S, look_s=0.2)


Play = Callable[[_Stage], Awaitable[None]]


def run(
    *, rate: float = 200.0, stopped_s: float = 60.0, session_s: float = SESSION_S, processes: int = 4, fast: int = 20
) -> dict[str, Any]:
    """A row for each phase.

    Args:
        rate: events a second, of the first run.
        stopped_s: for which a process is stopped by SIGSTOP.
        session_s: ``kafka.session_timeout``.
        processes: of ``gateway fanout``.
        fast: subscribers beside the slow one.
    """

    async def come_and_go(stage: _Stage) -> None:
        await _come_and_go(stage, stopped_s)

    with broker(is_fresh=True) as bootstrap:
        names = [f"subscriber-{number}" for number in range(3)]
        found = uvloop.run(
            _play(bootstrap, "", names, [], come_and_go, processes=processes, rate=rate, session_s=session_s)
        )
        names = [f"fast-{number}" for number in range(fast)]
        beside_slow = uvloop.run(
            _play(bootstrap, "slow.", names, ["slow"], _roll, processes=2, rate=20.0, session_s=session_s)
        )
    found[BESIDE_SLOW] = beside_slow[ROLLING]
    limits = {label: bars(label, figures, session_s) for label, figures in found.items()}
    report.judge(found, limits)
    return found


def bars(label: str, figures: dict[str, Any], session_s: float) -> dict[str, float]:
    """Return the most that each figure of a phase may be."""
    limits: dict[str, float] = {"out_of_order": 0, "lost": 0, "in_flight_twice": figures.get("cancelled", 0)}
    if label == ROLLING:
        limits["pause_max_s"] = _ROLLING_S
    elif label == BESIDE_SLOW:
        limits["pause_max_s"] = _ROLLING_BESIDE_SLOW_S
    elif label in (SIGKILL, SIGSTOP) or label.endswith("→ 1"):
        # Static members do not leave when they stop: who goes for good is missed after the session time.
        limits["pause_max_s"] = session_s + 2
    return limits


async def _come_and_go(stage: _Stage, stopped_s: float) -> None:
    others = stage.processes[1:]
    count = len(stage.processes)
    async with stage.phase(f"1 → {count}"):
        await stage.start(*others)
    async with stage.phase(f"{count} → 1"):
        await stage.stop(*others)
        await stage.until_members(1)
    await stage.start(*others)
    await asyncio.sleep(_SETTLE_S)
    async with stage.phase(ROLLING):
        await stage.roll()
    async with stage.phase(SIGKILL):
        others[0].kill()
        await stage.until_members(count - 1)
    await stage.start(others[0])
    await asyncio.sleep(_SETTLE_S)
    async with stage.phase(SIGSTOP):
        stopped = others[-1].service
        assert stopped is not None
        stopped.send(signal.SIGSTOP)
        await asyncio.sleep(stopped_s)
        stopped.send(signal.SIGCONT)
        await stage.until_members(count)


async def _roll(stage: _Stage) -> None:
    await stage.start(*stage.processes[1:])
    await asyncio.sleep(_SETTLE_S)
    async with stage.phase(ROLLING):
        await stage.roll()


async def _play(
    bootstrap: str,
    prefix: str,
    names: Sequence[str],
    slow: Sequence[str],
    play: Play,
    *,
    processes: int,
    rate: float,
    session_s: float,
) -> dict[str, Any]:
    """Start one process, let something happen, and return a row for each phase and one for all.

    Args:
        prefix: of the names of topics and groups.
        names: of the subscribers that count.
        slow: names of subscribers beside them that take long for each event.
    """
    delays_s = {**dict.fromkeys(names, _ANSWER_S), **dict.fromkeys(slow, _SLOW_S)}
    kafka = {"partitions": _PARTITIONS, "session_timeout": session_s}
    with tempfile.TemporaryDirectory() as name, Receiver(delays_s) as receiver:
        rows = [receiver.row(name) for name in delays_s]
        made = [
            FanOutProcess(Path(name), f"fanout-{number}", bootstrap, rows, kafka=kafka, topics={"prefix": prefix})
            for number in range(processes)
        ]
        try:
            async with kafka_side.feed(bootstrap, rate=rate, keys=round(rate / 5), prefix=prefix) as feed:
                stage = _Stage(bootstrap, prefix, made, feed)
                await stage.start(made[0])
                await asyncio.sleep(_SETTLE_S)
                await play(stage)
            await stage.until_delivered(receiver, names)
        finally:
            await asyncio.gather(*(asyncio.to_thread(process.kill) for process in made))
        deliveries = [Deliveries(feed.given, feed.keys, receiver.attempts(name)) for name in names]
        return _rows(deliveries, stage)


def _rows(deliveries: Sequence[Deliveries], stage: _Stage) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for label, (begin, end, cancelled) in stage.phases.items():
        found[label] = {**pauses.summary(deliveries, begin, end), "cancelled": cancelled}
        print(report.line(label, found[label]), flush=True)
    found["all"] = {
        "events": len(stage.feed.given) * len(deliveries),
        "repeats": sum(one.repeats() for one in deliveries),
        "out_of_order": sum(one.out_of_order() for one in deliveries),
        "cancelled": stage.cancelled(),
        "lost": sum(one.lost() for one in deliveries),
    }
    print(report.line("all", found["all"]), flush=True)
    return found
