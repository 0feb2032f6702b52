"""An outage of the broker under load: what the accept path feels, what memory does, how fast the backlog drains.

    python -m tests.benchmarks.outage [--seconds 600] [--rate 1000]

One process with journal and publisher; events are appended at the rate, each append being what an answer waits for. The
broker is killed, and started again ``--seconds`` later. Printed: p50 and p99 of an append before and during the outage,
resident memory, the rate of draining beside the rate of intake (which goes on meanwhile), and what arrived. With
Java and Maven the broker is started here; ``tests/kafka/test_outage.py`` runs a short one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

import uvloop

from gateway.log import Entry
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaOptions
from gateway.publisher import GROUP, Publisher
from tests.broker import cluster
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, compare, event, published, stored
from tests.waiting import pause, until


@dataclass(frozen=True, slots=True)
class Figures:
    """What an outage did.

    Args:
        before_ms: p50 and p99 of one append while Kafka was there.
        during_ms: the same while it was away.
        rss_mb: the most resident memory, from before the outage to the end of the drain; the process's own.
        rss_growth_mb: of these, what came with the outage.
        backlog: records waiting when the broker was back.
        drain_rate: records a second from the first acknowledgement to an empty journal, intake included.
        intake_rate: appended a second.
        missing, out_of_order, repeated: see :class:`tests.kafka.traffic.Comparison`.
    """

    events: int
    before_ms: tuple[float, float]
    during_ms: tuple[float, float]
    rss_mb: float
    rss_growth_mb: float
    backlog: int
    drain_s: float
    drain_rate: float
    intake_rate: float
    failed_appends: int
    missing: int
    out_of_order: int
    repeated: int


class _Intake:
    """Appends single events at a rate, as callbacks come, and times each."""

    def __init__(self, journal: Journal, rate: float) -> None:
        self._journal = journal
        self._rate = rate
        # Numbers, not events: the memory that is measured is to be the gateway's.
        self._numbers = array("I")
        self.took_s = array("d")
        self.failed = 0
        self._is_ending = False

    async def run(self) -> None:
        """Until :meth:`end`, and until the last append was answered: what is stored must be known as accepted."""
        started = time.monotonic()
        number = 0
        async with asyncio.TaskGroup() as pending:
            while not self._is_ending:
                due = int((time.monotonic() - started) * self._rate) - number
                for _ in range(due):
                    pending.create_task(self._one(number))
                    number += 1
                await pause(0.002, "the load's rate")

    def end(self) -> None:
        """Append nothing more."""
        self._is_ending = True

    @property
    def count(self) -> int:
        """Accepted so far."""
        return len(self._numbers)

    def accepted(self) -> list[Entry]:
        """In the order in which they were given to the journal."""
        return [_event(number) for number in sorted(self._numbers)]

    async def _one(self, number: int) -> None:
        started = time.perf_counter()
        try:
            await self._journal.append([_event(number)])
        except Exception:  # counted and judged by the caller
            self.failed += 1
            return
        self.took_s.append(time.perf_counter() - started)
        self._numbers.append(number)


def _event(number: int) -> Entry:
    return event(number, f"key-{number % 500}", filling=400)


async def run(broker: Cluster, folder: Path, *, seconds: float, rate: float) -> Figures:
    """The outage; the broker is running before and after."""
    options = KafkaOptions((broker.bootstrap,), partitions=6)
    journal = Journal(folder, Retention(2**34, 86_400.0, protected=GROUP, publish_grace_records=10_000))
    await journal.start()
    publisher = Publisher(journal, options, create=[TOPIC])
    await publisher.start()
    intake = _Intake(journal, rate)
    task = asyncio.create_task(intake.run())
    started = time.monotonic()
    warm_s = min(30.0, max(3.0, seconds / 10))
    await until(lambda: publisher.state.is_ready)
    await pause(warm_s, "so long it is measured")
    before, intake.took_s = intake.took_s, array("d")
    rss = [_rss_mb()]
    await asyncio.to_thread(broker.node(1).kill)
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        await pause(0.5, "between two samples")
        rss.append(_rss_mb())
    during, intake.took_s = intake.took_s, array("d")
    # Beside the start: the publisher may be back before the broker's start has been noticed here.
    starting = asyncio.create_task(asyncio.to_thread(broker.node(1).start))
    backlog = 0
    while (waiting := await publisher.lag()) >= backlog:
        at, backlog, cursor = time.monotonic(), waiting, journal.head("events") - waiting
        await pause(0.01, "between looks")
    while await publisher.lag() > rate * 0.5:
        await pause(0.02, "between two samples")
        rss.append(_rss_mb())
    drain_s = time.monotonic() - at
    await starting
    drained = journal.head("events") - await publisher.lag() - cursor
    await pause(1.0, "what comes after the drain")
    intake.end()
    await task
    total_s = time.monotonic() - started
    await published(publisher, within_s=3600)
    await publisher.stop()
    await journal.stop()
    result = compare(intake.accepted(), await stored(options))
    return Figures(
        events=intake.count,
        before_ms=_percentiles(before),
        during_ms=_percentiles(during),
        rss_mb=max(rss),
        rss_growth_mb=max(rss) - rss[0],
        backlog=backlog,
        drain_s=drain_s,
        drain_rate=drained / max(drain_s, 1e-6),
        intake_rate=intake.count / total_s,
        failed_appends=intake.failed,
        missing=result.missing,
        out_of_order=len(result.out_of_order),
        repeated=result.repeated,
    )


def _percentiles(took_s: array[float]) -> tuple[float, float]:
    ordered = sorted(took_s)
    return ordered[len(ordered) // 2] * 1000, ordered[len(ordered) * 99 // 100] * 1000


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    arguments = parser.parse_args()
    made = cluster.create()
    made.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            figures = uvloop.run(run(made, Path(folder), seconds=arguments.seconds, rate=arguments.rate))
    finally:
        made.remove()
    print(f"events {figures.events:,}, failed appends {figures.failed_appends}")
    print(f"append p50/p99 ms: before {figures.before_ms[0]:.2f}/{figures.before_ms[1]:.2f}, ", end="")
    print(f"during {figures.during_ms[0]:.2f}/{figures.during_ms[1]:.2f}")
    print(f"resident memory {figures.rss_mb:.0f} MB, grown by {figures.rss_growth_mb:.0f} MB")
    print(f"backlog {figures.backlog:,} drained in {figures.drain_s:.1f} s: {figures.drain_rate:,.0f}/s, ", end="")
    print(f"{figures.drain_rate / figures.intake_rate:.1f} times the intake of {figures.intake_rate:,.0f}/s")
    print(f"missing {figures.missing}, keys out of order {figures.out_of_order}, repeated {figures.repeated}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
