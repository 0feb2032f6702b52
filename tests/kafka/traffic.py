"""Events under load into a journal, and what stands in the topic afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewPartitions

from gateway.log import Entry, Record
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaOptions, topics
from gateway.publisher import GROUP, Publisher
from tests.waiting import pause, until

TOPIC = "sms.dr"


def event(number: int, key: str, topic: str = TOPIC, filling: int = 200) -> Entry:
    """An event in the form of ours; ``number`` makes its id."""
    id_ = hashlib.md5(f"{number}".encode()).hexdigest()
    value = b'{"specversion":"1.0","id":"%s","source":"/nxcloud/sms-dr","type":"nxcloud.sms.dr","subject":"%s",' % (
        id_.encode(),
        key.encode(),
    )
    value += b'"time":"2026-01-01T00:00:00Z","recordedtime":"2026-01-01T00:00:00.000000Z","partitionkey":"%s",' % (
        key.encode()
    )
    value += b'"datacontenttype":"application/json","data":{"n":%d,"x":"%s"}}' % (number, b"x" * filling)
    return Entry(topic, key, id_, value)


@asynccontextmanager
async def journal(folder: Path) -> AsyncIterator[Journal]:
    """A journal as the gateway has it in Kafka mode."""
    made = Journal(folder, Retention(max_bytes=2**31, max_age_s=86_400.0, protected=GROUP))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Load:
    """Appends events to a journal at a rate, as callbacks do, and remembers what was accepted."""

    def __init__(self, log: Journal, *, rate: float = 1000.0, keys: int = 50, topic: str = TOPIC) -> None:
        self._log = log
        self._rate = rate
        self._keys = keys
        self._topic = topic
        self.accepted: list[Entry] = []
        self._is_ending = False
        self._task: asyncio.Task[None] | None = None
        self._reached = asyncio.Condition()

    async def __aenter__(self) -> Load:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._is_ending = True  # not a cancel: what is stored must be known as accepted
        await self._task

    async def until(self, count: int) -> None:
        """Wait until so many events were accepted."""
        async with self._reached:
            await self._reached.wait_for(lambda: len(self.accepted) >= count)

    async def more(self, count: int) -> None:
        """Wait for so many further events."""
        await self.until(len(self.accepted) + count)

    async def _run(self) -> None:
        number = 0
        started = time.monotonic()
        while not self._is_ending:
            due = int((time.monotonic() - started) * self._rate) - number
            if due > 0:
                batch = [event(n, f"key-{n % self._keys}", self._topic) for n in range(number, number + due)]
                number += due
                await self._log.append(batch)
                self.accepted += batch
                async with self._reached:
                    self._reached.notify_all()
            await pause(0.01, "the load's rate")


def tell(text: str) -> None:
    """A figure for whoever runs the test with ``-s`` or ``-rP``."""
    print(text)


async def published(publisher: Publisher, *, within_s: float = 60.0) -> None:
    """Wait until Kafka has acknowledged everything in the journal."""

    async def is_so() -> bool:  # a cursor in a file has no event
        return not await publisher.lag()

    await until(is_so, within_s=within_s)


async def stored(options: KafkaOptions, topic: str = TOPIC) -> list[Record]:
    """Everything that stands in a topic, by partition and offset, read by a client that is not ours."""
    name = options.kafka_name(topic)
    consumer = AIOKafkaConsumer(**options.client(), auto_offset_reset="earliest")
    await consumer.start()
    found: list[Record] = []
    try:
        async with asyncio.timeout(60):
            numbers = await consumer._client._wait_on_metadata(name)
            partitions = [TopicPartition(name, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning()
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
                for tp, messages in (await consumer.getmany(timeout_ms=500)).items():
                    for m in messages:
                        id_ = m.value[27:59].decode()
                        found.append(
                            Record(str(tp.partition), m.offset, m.timestamp / 1000, topic, m.key.decode(), id_, m.value)
                        )
    finally:
        await consumer.stop()
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def add_partitions(options: KafkaOptions, topic: str, count: int) -> None:
    """Give a topic more partitions, and wait until its brokers say so."""
    name = options.kafka_name(topic)
    async with topics.admin(options) as client:
        await client.create_partitions({name: NewPartitions(total_count=count)})

        async def are_known() -> bool:
            return len((await client.describe_topics([name]))[0]["partitions"]) >= count

        await until(are_known, within_s=30)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Accepted events beside those that arrived.

    Args:
        missing: accepted and not there.
        invented: there and not accepted.
        out_of_order: keys whose first appearances are not in the order of acceptance.
        repeated: copies beyond the first.
    """

    missing: int
    invented: int
    out_of_order: list[str]
    repeated: int


def compare(accepted: Sequence[Entry], arrived: Sequence[Record]) -> Comparison:
    """``arrived`` in the order of each key's arrival."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for entry in accepted:
        wanted[entry.key].append(entry.id)
    first: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for record in arrived:
        if record.id not in seen:
            seen.add(record.id)
            first[record.key].append(record.id)
    ids = {entry.id for entry in accepted}
    return Comparison(
        missing=len(ids - seen),
        invented=len(seen - ids),
        out_of_order=[key for key, order in wanted.items() if [id_ for id_ in first[key] if id_ in ids] != order],
        repeated=len(arrived) - len(seen),
    )
