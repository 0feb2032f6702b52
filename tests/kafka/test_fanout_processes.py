"""Fan-out processes that are restarted, killed and suspended under load: nothing lost, in order, not twice at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.log import Entry
from gateway.log.kafka import KafkaLog
from tests.kafka.fanout_process import options
from tests.kafka.traffic import event, tell
from tests.waiting import pause, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]
_KEYS = 30


@dataclass(slots=True)
class Attempt:
    """One attempt as its process printed it; without an end for one whose process was killed."""

    id: str
    key: str
    process: str
    begin: float
    end: float = float("inf")
    is_cancelled: bool = False


@dataclass(slots=True)
class Seen:
    """What all processes printed."""

    attempts: list[Attempt] = field(default_factory=list)
    deals: list[tuple[str, str, int]] = field(default_factory=list)
    open: dict[tuple[str, str], Attempt] = field(default_factory=dict)

    def line(self, process: str, line: str) -> None:
        what, subject, key, at = line.split()
        if what in ("assigned", "revoked"):
            self.deals.append((process, what, int(subject)))
        elif what == "begin":
            attempt = self.open[process, key] = Attempt(subject, key, process, float(at))
            self.attempts.append(attempt)
        else:
            attempt = self.open.pop((process, key))
            attempt.end, attempt.is_cancelled = float(at), what == "cancel"

    def done(self) -> set[str]:
        return {one.id for one in self.attempts if one.end < float("inf") and not one.is_cancelled}

    def held(self, process: str) -> int:
        deals = [(what, count) for who, what, count in self.deals if who == process]
        return deals[-1][1] if deals and deals[-1][0] == "assigned" else 0


@dataclass(slots=True)
class Worker:
    """One process, started again under the same name."""

    name: str
    bootstrap: str
    prefix: str
    seen: Seen
    session_s: float
    lives: int = 0
    process: asyncio.subprocess.Process | None = None
    reading: asyncio.Task[None] | None = None

    @property
    def life(self) -> str:
        return f"{self.name}/{self.lives}"

    async def start(self) -> None:
        self.lives += 1
        self.process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "tests.kafka.fanout_process",
                self.bootstrap,
                self.prefix,
                self.name,
                str(self.session_s),
            ),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        self.reading = asyncio.create_task(self._read(self.process, self.life))

    async def _read(self, process: asyncio.subprocess.Process, life: str) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode()
            if text.endswith("\n") and text.split()[0] in ("begin", "end", "cancel", "assigned", "revoked"):
                self.seen.line(life, text)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> None:
        assert self.process is not None
        assert self.reading is not None
        await self.process.wait()
        await self.reading


@asynccontextmanager
async def _load(bootstrap: str, prefix: str) -> AsyncIterator[list[Entry]]:
    log = KafkaLog(options(bootstrap, prefix))
    await log.start()
    given: list[Entry] = []
    is_over = False

    async def publish() -> None:
        while not is_over:
            batch = [event(n, f"key-{n % _KEYS}") for n in range(len(given), len(given) + 6)]
            await log.append(batch)
            given.extend(batch)
            await pause(0.04, "the load's rate")

    task = asyncio.create_task(publish())
    try:
        yield given
    finally:
        is_over = True
        await task
        await log.stop()


@asynccontextmanager
async def _running(
    bootstrap: str, prefix: str, count: int, session_s: float
) -> AsyncIterator[tuple[Seen, list[Worker]]]:
    seen = Seen()
    workers = [Worker(f"fanout-{number}", bootstrap, prefix, seen, session_s) for number in range(count)]
    try:
        await asyncio.gather(*(worker.start() for worker in workers))
        await until(lambda: all(seen.held(worker.life) == 6 // count for worker in workers), within_s=60)
        yield seen, workers
    finally:
        for worker in workers:
            if worker.process is not None and worker.process.returncode is None:
                worker.send(signal.SIGKILL)
                await worker.ended()


async def _settled(given: list[Entry], seen: Seen) -> None:
    await until(lambda: {entry.id for entry in given} <= seen.done(), within_s=60)


def _check(given: list[Entry], seen: Seen, frozen: tuple[str, float] = ("", 0.0)) -> None:
    """Each key in the order of its events, and no two attempts of one key at a time.

    Args:
        frozen: a process and when it was suspended: what was in flight there then stays in flight.
    """
    order: dict[str, list[str]] = defaultdict(list)
    for entry in given:
        order[entry.key].append(entry.id)
    by_key: dict[str, list[Attempt]] = defaultdict(list)
    for one in sorted(seen.attempts, key=lambda one: one.begin):
        by_key[one.key].append(one)
    for key, attempts in by_key.items():
        firsts = list(dict.fromkeys(one.id for one in attempts))
        assert firsts == order[key][: len(firsts)]
        whole = [one for one in attempts if one.end < float("inf") and not _is_frozen(one, frozen)]
        for one, other in pairwise(whole):
            assert other.begin >= one.end, (one, other)


def _is_frozen(one: Attempt, frozen: tuple[str, float]) -> bool:
    return one.process == frozen[0] and one.begin <= frozen[1] <= one.end


def _pause_s(seen: Seen, since: float) -> float:
    """The longest time between two attempts of a key, of those that ended after ``since``."""
    ends: dict[str, list[float]] = defaultdict(list)
    for one in seen.attempts:
        if one.end < float("inf"):
            ends[one.key].append(one.end)
    pairs = [pair for times in ends.values() for pair in pairwise(sorted(times))]
    return max(later - max(earlier, since) for earlier, later in pairs if later > since)


async def _more(given: list[Entry], seen: Seen, count: int = 150) -> None:
    reached = len(given) + count
    await until(lambda: len(given) >= reached, within_s=60)
    wanted = {entry.id for entry in given[:reached]}
    await until(lambda: wanted <= seen.done(), within_s=60)


async def test_a_rolling_restart_moves_nothing(kafka: str, prefix: str) -> None:
    """Each of three in turn: the others keep what they have and do not pause; keys of the one wait for its start."""
    async with _running(kafka, prefix, 3, 60.0) as (seen, workers), _load(kafka, prefix) as given:
        await _more(given, seen)
        pauses = []
        for worker in workers:
            before = list(seen.deals)
            began = time.time()
            worker.send(signal.SIGTERM)
            await worker.ended()
            await worker.start()
            await until(lambda worker=worker: seen.held(worker.life) == 2, within_s=60)  # type: ignore[misc]
            await _more(given, seen)
            pauses.append(_pause_s(seen, began))
            others = [deal for deal in seen.deals[len(before) :] if not deal[0].startswith(worker.name)]
            assert others == []
        await _settled(given, seen)
    _check(given, seen)
    ends = [one for one in seen.attempts if not one.is_cancelled]
    tell(f"rolling restart of 3: longest pause of a key {max(pauses):.2f} s, {len(ends) - len(given)} repeated")
    assert len(ends) - len(given) <= 3 * 6


async def test_a_killed_process_is_replaced_after_its_session(kafka: str, prefix: str) -> None:
    """SIGKILL of one of three: the others get its partitions."""
    async with _running(kafka, prefix, 3, 6.0) as (seen, workers), _load(kafka, prefix) as given:
        await _more(given, seen)
        began = time.time()
        workers[0].send(signal.SIGKILL)
        await workers[0].ended()
        await until(lambda: sum(seen.held(worker.life) for worker in workers[1:]) == 6, within_s=60)
        await _more(given, seen)
        pause_s = _pause_s(seen, began)
        await _settled(given, seen)
    _check(given, seen)
    tell(f"SIGKILL of 1 of 3, session 6 s: longest pause of a key {pause_s:.2f} s")
    assert pause_s < 6 + 12  # two on a machine that does nothing else


async def test_a_suspended_process_begins_nothing_that_others_have(kafka: str, prefix: str) -> None:
    """SIGSTOP for longer than its session: when it goes on it has lost its partitions, and knows it before it acts."""
    async with _running(kafka, prefix, 2, 6.0) as (seen, workers), _load(kafka, prefix) as given:
        await _more(given, seen)
        stopped = time.time()
        workers[0].send(signal.SIGSTOP)
        await until(lambda: seen.held(workers[1].life) == 6, within_s=60)
        await _more(given, seen)
        workers[0].send(signal.SIGCONT)
        await until(lambda: [seen.held(worker.life) for worker in workers] == [3, 3], within_s=60)
        await _more(given, seen)
        await _settled(given, seen)
    _check(given, seen, (workers[0].life, stopped))
