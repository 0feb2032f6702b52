"""One of ten topics cannot be written for minutes, under load: what the other nine feel, and what comes of the one.

    python -m tests.benchmarks stuck-topic [--minutes 10]

One process with journal and publisher; events are appended at a rate, to all topics in turn. After a while the broker
is told to refuse the records of one topic, and later to take them again. The lag of an event is the time from its
commit to its acknowledgement. With a broker of its own, unless KAFKA_BOOTSTRAP_SERVERS names one.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from gateway.log import Entry, Record
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaOptions, topics
from gateway.publisher import GROUP, Publisher
from tests.benchmarks import report
from tests.benchmarks.parts import broker
from tests.kafka.surgery import configure
from tests.kafka.traffic import compare, event, published, stored
from tests.waiting import until

_TOPICS: Final = tuple(f"stuck-topic.{number}" for number in range(10))
_STUCK: Final = _TOPICS[0]
#: All records are of the past: with the first setting none of them is taken.
_REFUSED: Final = {"message.timestamp.before.max.ms": "0"}
_TAKEN: Final = {"message.timestamp.before.max.ms": str(2**63 - 1)}
_RUNS: Final = itertools.count()


class _Lags:
    """Lags of acknowledged events, of the one topic and of the others, and how long the others had none."""

    def __init__(self) -> None:
        self.others = array("d")
        self.stuck = 0
        self.longest_s = 0.0
        self._last = time.monotonic()

    def published(self, topic: str, _partition: int, _offset: int, records: Sequence[Entry | Record]) -> None:
        if topic == _STUCK:
            self.stuck += len(records)
            return
        at, now = time.time(), time.monotonic()
        self.longest_s, self._last = max(self.longest_s, now - self._last), now
        self.others.extend(at - record.appended_at for record in records if isinstance(record, Record))

    async def take(self) -> dict[str, float]:
        """Return what came since the last call; wait for the others' first, on a machine that is slow to begin."""
        await until(lambda: self.others)
        lags, self.others = sorted(self.others), array("d")
        longest_s, self.longest_s = self.longest_s, 0.0
        stuck, self.stuck = self.stuck, 0
        return {
            "p50_ms": round(lags[len(lags) // 2] * 1000, 1),
            "p99_ms": round(lags[len(lags) * 99 // 100] * 1000, 1),
            "worst_ms": round(lags[-1] * 1000, 1),
            "silence_ms": round(longest_s * 1000, 1),
            "others": len(lags),
            "stuck": stuck,
        }


class _Intake:
    """Appends events at a rate."""

    def __init__(self, journal: Journal, rate: float) -> None:
        self._journal = journal
        self._rate = rate
        self.count = 0
        self.is_ending = False

    async def run(self) -> None:
        """Until it is told to end."""
        started = time.monotonic()
        while not self.is_ending:
            due = int((time.monotonic() - started) * self._rate) - self.count
            if due > 0:
                await self._journal.append([_event(number) for number in range(self.count, self.count + due)])
                self.count += due
            await asyncio.sleep(0.005)


def _event(number: int) -> Entry:
    return event(number, f"key-{number % 499}", _TOPICS[number % len(_TOPICS)], filling=400)


async def _watch(publisher: Publisher, most: dict[str, int]) -> None:
    """Keep the most bytes that were in memory: of the one topic, and of all."""
    while True:
        held = {topic.name: topic.bytes for topic in await publisher.topics()}
        most["stuck_bytes"] = max(most["stuck_bytes"], held.get(_STUCK, 0))
        most["all_bytes"] = max(most["all_bytes"], sum(held.values()))
        await asyncio.sleep(0.1)


async def measure(bootstrap: str, folder: Path, *, seconds: float, rate: float) -> dict[str, Any]:
    """Run the load: a fifth of the time before, then with the one topic stuck, then until all is published."""
    options = KafkaOptions((bootstrap,), prefix=f"bench-{time.time_ns()}-{next(_RUNS)}.", partitions=6)
    await topics.create(options, _TOPICS)
    journal = Journal(folder, Retention(2**36, 86_400.0, protected=GROUP))
    await journal.start()
    lags, intake = _Lags(), _Intake(journal, rate)
    publisher = Publisher(journal, options, on_published=lags.published)
    await publisher.start()
    most = {"stuck_bytes": 0, "all_bytes": 0}
    tasks = [asyncio.create_task(intake.run()), asyncio.create_task(_watch(publisher, most))]
    await until(lambda: lags.others)  # the publisher has connected, and knows the topics
    await asyncio.sleep(max(1.0, seconds / 20))
    await lags.take()
    await asyncio.sleep(max(2.0, seconds / 5))
    found: dict[str, Any] = {"before": await lags.take()}
    await configure(options, _STUCK, _REFUSED)
    await asyncio.sleep(seconds)
    found["during"] = await lags.take()
    await configure(options, _STUCK, _TAKEN)
    repaired = time.monotonic()
    await until(lambda: _is_caught_up(publisher), within_s=3600, look_s=0.1)
    found["after"] = await lags.take() | {"caught_up_s": round(time.monotonic() - repaired, 1)}
    intake.is_ending = True
    await tasks[0]
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    await published(publisher, within_s=300)
    await publisher.stop()
    await journal.stop()
    return found | {"memory": most, "arrived": await _arrived(options, intake.count)}


async def _is_caught_up(publisher: Publisher) -> bool:
    """Return whether the one topic is no more behind than the others are on this machine."""
    lag = {topic.name: topic.lag for topic in await publisher.topics()}
    return lag[_STUCK] <= 2 * max(lag[topic] for topic in _TOPICS[1:]) + 100


async def _arrived(options: KafkaOptions, count: int) -> dict[str, int]:
    """Compare what was accepted with what is in the topics."""
    total = {"events": count, "missing": 0, "keys_out_of_order": 0, "repeated": 0}
    for number, topic in enumerate(_TOPICS):
        accepted = [_event(n) for n in range(number, count, len(_TOPICS))]
        result = compare(accepted, await stored(options, topic))
        total["missing"] += result.missing
        total["keys_out_of_order"] += len(result.out_of_order)
        total["repeated"] += result.repeated
    return total


def run(minutes: float = 10.0, rate: float = 2000.0) -> dict[str, Any]:
    """Measure, and print what the one topic cost the others.

    Args:
        minutes: for which it cannot be written.
        rate: events a second, of all topics together.
    """
    with broker() as bootstrap, tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(measure(bootstrap, Path(folder), seconds=minutes * 60, rate=rate))
    for name, figures in found.items():
        print(report.line(name, figures))
    ratio = found["during"]["p99_ms"] / found["before"]["p99_ms"]
    print(f"p99 of the other topics, during / before: {ratio:.2f} (the bar: 0.8 to 1.2)")
    return found
