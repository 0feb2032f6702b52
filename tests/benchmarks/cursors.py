"""What one more cursor of the same topics costs a shared reading, before what its consumer does with an event.

The journal is embedded and has its writer in this process; only the reading is measured: the events are there, and all
cursors stand in front of them. Processor time of this process, so that a busy machine changes little.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import uvloop

from gateway.clock import SystemClock
from gateway.log import Batch, CursorStore, Start
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.shared_reader import SharedReader
from tests.benchmarks import report
from tests.fanout.events import entry
from tests.waiting import until

#: Of cursors.
COUNTS = (1, 20, 100, 300)
#: Microseconds an event that one more cursor may cost.
WANTED_US = 2.0


class Idle:
    """A consumer that is done with everything at once, and commits it."""

    def __init__(self, number: int, cursors: CursorStore) -> None:
        self.name = f"gateway.s{number}"
        self.topics = frozenset({"sms.dr"})
        self.taken = 0
        self._cursors = cursors

    def room(self) -> int:
        return 1000

    def is_hungry(self) -> bool:
        return True

    def is_willing(self) -> bool:
        return True

    def take(self, batch: Batch) -> None:
        self.taken += len(batch)
        for partition, end in batch.ends.items():
            self._cursors.commit(self.name, partition, end)

    async def begin(self) -> Start:
        return "earliest"

    def assigned(self, positions: Mapping[str, int]) -> None:
        pass

    async def revoked(self, partitions: Collection[str]) -> None:
        pass


async def measure(folder: Path, cursors: int, events: int) -> float:
    """Processor time of reading events for so many cursors, in µs an event; with the commits of positions."""
    journal = Journal(folder, Retention(1 << 30, 86_400.0))
    await journal.start()
    try:
        reader = SharedReader(journal, "bench", SystemClock())
        idle = [Idle(number, journal.cursors) for number in range(cursors)]
        for consumer in idle:
            reader.add(consumer)
        reader.start()
        await until(lambda: all(reader.is_attached(consumer) for consumer in idle))
        batches = [
            [entry(number, f"key-{number % 997}", text="x" * 400) for number in range(at, at + 100)]
            for at in range(0, events, 100)
        ]
        started = time.process_time()
        for batch in batches:
            await journal.append(batch)
        await until(lambda: all(consumer.taken >= events for consumer in idle), within_s=600, look_s=0.002)
        await journal.cursors.flush()
        spent = time.process_time() - started
        assert {events} == {journal.positions()[consumer.name, EVENTS] for consumer in idle}
        await reader.stop()
        return spent / events * 1e6
    finally:
        await journal.stop()


def run(events: int = 50_000, rounds: int = 5) -> dict[str, Any]:
    """Take turns; the cost of one more is what a number of cursors costs above one, by cursor."""
    found: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(rounds):
        for count in COUNTS:
            with tempfile.TemporaryDirectory() as folder:
                found[count].append(uvloop.run(measure(Path(folder), count, events)))
    alone = statistics.median(found[1])
    figures: dict[str, Any] = {}
    for count, values in found.items():
        label = f"{count} cursors"
        figures[label] = {"us": report.summary(values, 2)}
        if count > 1:
            figures[label]["one_more_us"] = round((statistics.median(values) - alone) / (count - 1), 3)
            figures[label]["wanted_us"] = WANTED_US
        print(report.line(label, figures[label]), flush=True)
    return figures
