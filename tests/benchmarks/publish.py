"""Processor time per published event: our publisher beside a plain ``await producer.send()`` loop and confluent-kafka.

    python -m tests.benchmarks.publish [--events 100000] [--rounds 3]

All publish the same events (about 650 bytes, a key, one header) to a topic of six partitions with idempotence and
``acks=all``, and end when the last is acknowledged. The figure is processor time of this process, all its threads
included (confluent-kafka works in threads of its own), the median of the rounds; the contenders take
turns, so that a busy machine is busy for all. ``publisher`` is its writer, which takes from a list as the loops do;
``publisher, journal`` reads the SQLite journal, position included.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer

from gateway.log import Entry, Record
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaWriter, topics
from gateway.log.kafka.options import KafkaOptions
from gateway.publisher import GROUP, Publisher
from tests.broker import cluster
from tests.waiting import turn, until

_RUNS = itertools.count()
#: Events that are taken from the list at a time.
_STEP = 1000
_TYPE = b"application/cloudevents+json; charset=utf-8"
Run = Callable[[str, list[Entry]], Awaitable[None]]


def events(count: int, topic: str) -> list[Entry]:
    """Events of the size of an SMS receipt, each with a key of its own as message ids are."""
    filling = b"0123456789" * 45
    made = []
    for number in range(count):
        id_ = os.urandom(16).hex()
        value = (
            b'{"specversion":"1.0","id":"%s","source":"/nxcloud/sms-dr","type":"nxcloud.sms.dr","n":%d,"x":"%s"}'
            % (
                id_.encode(),
                number,
                filling,
            )
        )
        made.append(Entry(topic, f"1000021{id_[:20]}", id_, value))
    return made


class Ticket:
    """Of all events."""

    is_cancelled = False

    def __init__(self, count: int) -> None:
        self._left = count
        self.all_done = asyncio.Event()

    def done(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self.all_done.set()


async def publisher(bootstrap: str, entries: list[Entry]) -> None:
    """The publisher's writer, which takes from a list as the loops do."""
    now, ticket = time.time(), Ticket(len(entries))
    writer = KafkaWriter(KafkaOptions((bootstrap,)), name=GROUP)
    await writer.start()
    for start in range(0, len(entries), _STEP):
        await writer.backlog.wait_for_room([entries[0].topic])
        step = entries[start : start + _STEP]
        writer.submit([Record("list", start + i, now, *entry) for i, entry in enumerate(step)], ticket)
        await turn()
    await ticket.all_done.wait()
    await writer.stop()


async def publisher_journal(bootstrap: str, entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), Retention(2**34, 86400.0, protected=GROUP))
        await journal.start()
        for start in range(0, len(entries), 500):
            await journal.append(entries[start : start + 500])
        ours = Publisher(journal, KafkaOptions((bootstrap,)))
        started = time.process_time()
        await ours.start()
        await until(partial(_is_empty, ours), within_s=600)  # the cursor of a journal has no event to wait for
        _FIGURE.append(time.process_time() - started)
        await ours.stop()
        await journal.stop()


async def _is_empty(publisher: Publisher) -> bool:
    return not await publisher.lag()


async def plain_send(bootstrap: str, entries: list[Entry]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    for entry in entries:
        future = await producer.send(
            entry.topic, entry.value, key=entry.key.encode(), headers=[("content-type", _TYPE)]
        )
    await producer.flush()
    await future
    await producer.stop()


async def confluent(bootstrap: str, entries: list[Entry]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
    failed: list[object] = []

    def answered(error: object, _: object) -> None:
        if error is not None:
            failed.append(error)

    for entry in entries:
        while True:
            try:
                producer.produce(
                    entry.topic,
                    entry.value,
                    key=entry.key.encode(),
                    headers=[("content-type", _TYPE)],
                    on_delivery=answered,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    assert not failed


_FIGURE: list[float] = []
CONTENDERS: dict[str, Run] = {
    "plain send()": plain_send,
    "publisher": publisher,
    "publisher, journal": publisher_journal,
    "confluent-kafka": confluent,
}


async def measure(bootstrap: str, name: str, count: int) -> tuple[float, float]:
    """Processor microseconds per event, and events per second."""
    topic = f"bench.{next(_RUNS)}"
    await topics.create(KafkaOptions((bootstrap,)), [topic])
    entries = events(count, topic)
    _FIGURE.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    await CONTENDERS[name](bootstrap, entries)
    spent = _FIGURE[0] if _FIGURE else time.process_time() - cpu
    return spent / count * 1e6, count / (time.perf_counter() - wall)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.publish", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    made = None if named else cluster.create()
    if made is not None:
        made.start()
    bootstrap = named or (made.bootstrap if made else "")
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    try:
        for name in CONTENDERS:
            uvloop.run(measure(bootstrap, name, min(10_000, arguments.events)))
        for _ in range(arguments.rounds):
            for name, found in figures.items():
                found.append(uvloop.run(measure(bootstrap, name, arguments.events)))
    finally:
        if made is not None:
            made.remove()
    base = statistics.median(cpu for cpu, _ in figures["plain send()"])
    print(f"{'':22}{'CPU µs/event':>14}{'of plain':>10}{'events/s':>12}   rounds (µs)")
    for name, found in figures.items():
        cpu = statistics.median(cpu for cpu, _ in found)
        rate = statistics.median(rate for _, rate in found)
        rounds = " ".join(f"{cpu:.1f}" for cpu, _ in found)
        print(f"{name:22}{cpu:14.2f}{cpu / base:10.2f}{rate:12,.0f}   {rounds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
