"""One round of one side: load, then waiting until everything that was accepted is published."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from tests.benchmarks import ingest_requests, scrape, wrk
from tests.benchmarks.peers.sides import Running
from tests.waiting import hold_up

#: A side that used less than this share of a processor has nothing left to do.
_IDLE: Final = 0.07
_LOOK_S: Final = 0.3
#: A side that is busy for longer than this after the load does something else; that is counted as its cost.
_SETTLE_S: Final = 30.0
#: Further than the last ids that a gateway recognises, see :func:`tests.benchmarks.ingest.gateway`.
_APART: Final = ingest_requests.COUNT // 8


class SideFailed(RuntimeError):
    """A side answered something else than 200, or did not publish what it had answered."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of one side came to.

    Args:
        load: what wrk saw.
        cpu_us: processor time of all its processes for each answer, up to the last event published.
        by_kind_us: the same for each kind of process.
    """

    load: wrk.Load
    cpu_us: float
    by_kind_us: dict[str, float]


class Stored:
    """How many records the topics of the sides have."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "peers", "enable.auto.commit": False})

    def records(self, topic: str) -> int:
        """Return the count of one topic."""
        partitions = self._consumer.list_topics(topic, 10).topics[topic].partitions
        ends = [self._consumer.get_watermark_offsets(TopicPartition(topic, number), 10) for number in partitions]
        return sum(high - low for low, high in ends)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


class Driver:
    """Drives the sides, each from where it was left, so that it recognises no receipt of the round before.

    Args:
        requests: file of what is sent.
        folder: for wrk's script.
        processors: of the load.
        stored: None where no side has Kafka.
    """

    def __init__(self, requests: Path, folder: Path, processors: set[int], stored: Stored | None) -> None:
        self._requests = requests
        self._folder = folder
        self._processors = processors
        self._stored = stored
        self._next: dict[str, int] = {}

    def warm_up(self, side: str, running: Running) -> None:
        """Drive until a side answers: connections to Kafka are made, caches are filled.

        Raises:
            SideFailed: it did not answer.
        """
        for _ in range(10):
            if self._drive(side, running, connections=16, seconds=1).requests:
                settle(running)
                return
        raise SideFailed(f"it answers nothing: {running.service.last_lines()[-400:]}")

    def round(self, side: str, running: Running, *, connections: int, seconds: float) -> Round:
        """Drive for so many seconds and wait for what follows.

        Raises:
            SideFailed: see there.
        """
        before, records = running.service.cpu_by_process_s(), self._records(running)
        load = self._drive(side, running, connections=connections, seconds=seconds)
        settle(running)
        after, published = running.service.cpu_by_process_s(), self._records(running) - records
        if load.other_answers or not load.requests:
            raise SideFailed(
                f"{load.other_answers} of {load.requests} answers are not 200, {load.socket_errors} socket errors"
            )
        if running.topic and published < load.requests:
            raise SideFailed(f"{load.requests} answers, and {published} records in Kafka")
        spent = {name: (now - before.get(name, 0.0)) / load.requests * 1e6 for name, now in after.items()}
        return Round(load, sum(spent.values()), by_kind(spent))

    def _drive(self, side: str, running: Running, *, connections: int, seconds: float) -> wrk.Load:
        start = self._next.get(side, 0)
        load = wrk.drive(
            running.service.url, self._requests, self._folder, connections=connections, seconds=seconds, start=start,
            processors=self._processors,
        )  # fmt: skip
        threads = max(1, min(len(self._processors), connections))
        self._next[side] = (start + load.requests // threads + _APART) % ingest_requests.COUNT
        return load

    def _records(self, running: Running) -> int:
        return self._stored.records(running.topic) if self._stored and running.topic else 0


def settle(running: Running) -> None:
    """Wait until a side has nothing left to do: it is idle, and a gateway has published and indexed everything."""
    deadline = time.monotonic() + _SETTLE_S
    before = running.service.cpu_s()
    while time.monotonic() < deadline:
        hold_up(_LOOK_S, "between two samples")
        now = running.service.cpu_s()
        if now - before <= _IDLE * _LOOK_S:
            break
        before = now
    if running.admin_port:
        scrape.wait_for_zero(running.admin_port, "gateway_publisher_lag_records", "gateway_search_lag_records")


def by_kind(by_process: dict[str, float]) -> dict[str, float]:
    """Return the sums of ``ingest-0``, ``ingest-1`` … as ``ingest``; what a gateway has besides is its supervisor."""
    found: dict[str, float] = {}
    is_split = "log" in by_process
    for name, value in by_process.items():
        kind = re.sub(r"-\d+$", "", name)
        if is_split and kind not in ("ingest", "log", "deliver"):
            kind = "supervisor"
        found[kind] = found.get(kind, 0.0) + value
    return found
