"""What more subscribers cost: ``python -m tests.benchmarks subscribers [--counts 1,20,100,300]``.

For each number of subscribers a Kafka that nobody has used yet and one ``gateway fanout``. Its first start is timed
until every subscriber has got an event. Then, with everything delivered, the row has what it holds and what it costs
while nothing happens: consumer groups that have members, topics of our own, connections to Kafka, memory, processor
time, open descriptors without those of connections to subscribers. Bars (issue 15) are printed beside the figures.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.benchmarks import kafka_side, machine, report
from tests.benchmarks.kafka_side import FanOutProcess
from tests.benchmarks.parts import broker
from tests.benchmarks.receiver import Receiver
from tests.waiting import pause, until

#: A first start on a fresh cluster; past this something does not deliver at all.
_START_S: Final = 400.0
#: Events after the one that all wait for at the start.
_MORE: Final = 10
_LOOK_S: Final = 0.05
#: After the last delivery: positions are committed, what the start needed is given back.
_SETTLE_S: Final = 8.0


def run(
    *, counts: Sequence[int] = (1, 20, 100, 300), idle_s: float = 15.0, settle_s: float = _SETTLE_S
) -> dict[str, Any]:
    """A row for each number of subscribers.

    Args:
        counts: of subscribers.
        idle_s: for which nothing happens while the processor time is counted.
        settle_s: before that.
    """
    found: dict[str, Any] = {}
    limits = {}
    for count in counts:
        label = f"{count} subscriber{'s' if count > 1 else ''}"
        with broker(is_fresh=True) as bootstrap:
            found[label] = uvloop.run(measure(bootstrap, count, idle_s, settle_s))
        limits[label] = bars(count)
        print(report.line(label, found[label]), flush=True)
    report.judge(found, limits)
    return found


def bars(count: int) -> dict[str, float]:
    """Return the most that each figure may be with so many subscribers."""
    return {
        "groups": 1,
        "own_topics": 6,
        "connections": 12,
        "memory_mib": 80 + 0.2 * count,
        "idle_cpu_percent": 3.0,
        "first_start_s": 10.0,
        "descriptors": 100,
    }


async def measure(bootstrap: str, count: int, idle_s: float, settle_s: float) -> dict[str, Any]:
    """Return the figures of one number of subscribers, on a Kafka that nobody has used yet."""
    names = [f"subscriber-{number:03}" for number in range(count)]
    with tempfile.TemporaryDirectory() as folder, Receiver() as receiver:
        process = FanOutProcess(Path(folder), "fanout-0", bootstrap, [receiver.row(name) for name in names])
        async with kafka_side.feed(bootstrap, rate=0, keys=100) as feed:
            started = time.monotonic()
            service = process.start()
            try:
                await feed.append(1)
                await _until_delivered(receiver, count)
                first_start_s = time.monotonic() - started
                await feed.append(_MORE)
                await _until_delivered(receiver, (1 + _MORE) * count)
                await pause(settle_s, "what the start left to do is over")
                return {**holdings(service.pids()["deliver-0"], bootstrap, receiver.port),
                        "idle_cpu_percent": await _idle_percent(service, idle_s),
                        "first_start_s": round(first_start_s, 1)}  # fmt: skip
            except Exception as exc:
                exc.add_note(service.last_lines())
                raise
            finally:
                process.stop()


def holdings(pid: int, bootstrap: str, receiver_port: int) -> dict[str, Any]:
    """Return what the delivering process holds at this moment, in itself and in Kafka."""
    topics = kafka_side.own_topics(bootstrap)
    ports = [int(address.rpartition(":")[2]) for address in bootstrap.split(",")]
    return {
        "groups": len(kafka_side.groups_with_members(bootstrap)),
        "own_topics": len(topics),
        "partitions": sum(topics.values()),
        "connections": machine.connections(pid, *ports),
        "memory_mib": round(machine.memory_share_bytes(pid) / 2**20, 1),
        "descriptors": machine.descriptors(pid) - machine.connections(pid, receiver_port),
    }


async def _until_delivered(receiver: Receiver, deliveries: int) -> None:
    """Wait until all subscribers together have got so much."""
    await until(lambda: sum(receiver.counts().values()) >= deliveries, within_s=_START_S)


async def _idle_percent(service: machine.Service, seconds: float) -> float:
    """Processor time of all its processes while nothing happens, in percent of one processor."""
    before, started = service.cpu_s(), time.monotonic()
    await pause(seconds, "so long it is measured")
    return round((service.cpu_s() - before) / (time.monotonic() - started) * 100, 1)
