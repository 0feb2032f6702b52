"""What the writer has in its books is what it has, whatever becomes of batches and of those who wait."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from aiokafka import TopicPartition, errors
from aiokafka.structs import RecordMetadata
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import NotNow
from gateway.log import Entry
from gateway.log.kafka import KafkaLog, KafkaOptions, KafkaWriter, WriterPolicy, topics
from gateway.log.kafka.aiokafka_workarounds import Refused
from gateway.log.kafka.backlog import weight
from gateway.log.kafka.errors import Problem
from tests.effort import examples
from tests.kafka.traffic import event
from tests.waiting import turn, until

_STEPS = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(["a", "b", "later"]), st.integers(1, 5)),
    st.tuples(st.just("give up"), st.integers(0, 3)),
    st.tuples(st.just("send"), st.sampled_from(["taken", "refused"])),
    st.tuples(st.just("answer"), st.sampled_from(["well", "lost", "too large", "refused", "perhaps written"])),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("place")),
    st.tuples(st.just("retire")),
)


@dataclass(slots=True, eq=False)
class Waiting:
    """One append's ticket."""

    remaining: int
    is_cancelled: bool = False

    def done(self, count: int) -> None:
        self.remaining -= count
        assert self.remaining >= 0


@dataclass(slots=True)
class Builder:
    """As aiokafka's: room for three records."""

    count: int = 0

    def append(self, **_: Any) -> object:
        self.count += 1
        return object() if self.count <= 3 else None

    def size(self) -> int:
        return self.count * 10


@dataclass(slots=True)
class Client:
    """Takes the place of aiokafka's producer and its client: batches wait for an answer, or are refused at once."""

    is_refusing: bool = False
    asked: list[tuple[TopicPartition, Builder, asyncio.Future[RecordMetadata]]] = field(default_factory=list)
    numbers: dict[TopicPartition, int] = field(default_factory=lambda: defaultdict(int))
    failure: Problem | None = None

    @property
    def client(self) -> Client:
        return self

    @property
    def health(self) -> Client:
        return self

    @property
    def _txn_manager(self) -> Client:
        return self

    @property
    def _sequence_numbers(self) -> dict[TopicPartition, int]:
        return self.numbers

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, batch: Builder, topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        if self.is_refusing:
            raise errors.TopicAuthorizationFailedError
        place = TopicPartition(topic, partition)
        self.numbers[place] += min(batch.count, 3)
        self.asked.append((place, batch, asyncio.get_running_loop().create_future()))
        return self.asked[-1][2]


async def _stored_elsewhere(*_: object) -> None:
    """A dead letter."""


_ANSWERS: Final[dict[str, Exception]] = {
    "lost": OSError(),
    "too large": Refused(errors.MessageSizeTooLargeError(), is_certain=True),
    "refused": Refused(errors.TopicAuthorizationFailedError("a"), is_certain=True),
    "perhaps written": Refused(errors.NotEnoughReplicasAfterAppendError(), is_certain=False),
}


class Books:
    """A writer, driven step by step, beside a count of what it holds and of the numbers that a broker expects."""

    def __init__(self) -> None:
        self.client = Client()
        self.writer = KafkaWriter(KafkaOptions(("127.0.0.1:1",)), name="books", on_poison=_stored_elsewhere)
        self.writer._producer = self.client
        self.backlog = self.writer.backlog
        self.tickets: list[Waiting] = []
        self.expected: dict[TopicPartition, int] = defaultdict(int)
        for name, partitions in (("a", 1), ("b", 2), ("later", 0)):
            self.backlog.place(self.backlog.topic(name), partitions)

    async def step(self, what: str, *how: Any) -> None:
        match what, how:
            case "submit", (topic, count):
                self.tickets.append(Waiting(count))
                entries = [Entry(topic, f"k{n}", f"{n:032x}", b"v" * (n * 100)) for n in range(count)]
                self.writer.submit(entries, self.tickets[-1])
            case "give up", (number,):
                for ticket in self.tickets[-1 - number :][:1]:
                    ticket.is_cancelled = True
            case "send", (outcome,):
                self.client.is_refusing = outcome == "refused"
                for queue in self.backlog.due(math.inf):
                    await self.writer._send(queue, 0.0)
            case "answer", (outcome,):
                await self._answer(outcome)
            case "sweep", ():
                self.backlog.drop_cancelled()
            case "place", ():
                self.backlog.place(self.backlog.topics["later"], 2)
            case "retire", ():
                self._retire()

    async def _answer(self, outcome: str) -> None:
        asked, self.client.asked = self.client.asked, []
        for place, batch, future in asked:
            if outcome == "well":
                self.expected[place] += min(batch.count, 3)
                future.set_result(RecordMetadata("a", 0, None, 0, 0, 0, 0))
            else:
                future.set_exception(_ANSWERS[outcome])
        await turn()  # the futures' callbacks
        await asyncio.gather(*self.writer._poisoned)
        if self.writer._failure is not None:
            self._retire()

    def _retire(self) -> None:
        """Another producer, whose numbers begin anew."""
        self.backlog.take_back()
        self.client.asked.clear()
        self.client.numbers.clear()
        self.expected.clear()
        self.writer._failure = None

    @property
    def held(self) -> dict[str, int]:
        held = {}
        for topic in self.backlog.topics.values():
            items = list(topic.unplaced)
            for queue in topic.partitions:
                items += [*queue.pending, *(queue.in_flight.items if queue.in_flight else ())]
            held[topic.name] = sum(weight(entry) for entry, _, _ in items)
        return held


@settings(max_examples=examples(100))
@given(st.lists(_STEPS, min_size=10, max_size=40))
def test_the_books_of_a_writer_are_what_it_holds(steps: list[tuple[Any, ...]]) -> None:
    """After any order of submits, time-outs, answers and lost producers: no byte too much, none forgotten.

    And each batch has the numbers that its partition's broker expects: those behind what it has acknowledged.
    """

    async def run() -> None:
        books = Books()
        try:
            for step in steps:
                await books.step(*step)
                held = books.held
                assert {name: topic.bytes for name, topic in books.backlog.topics.items()} == held
                assert books.backlog.bytes == sum(held.values())
                in_flight = {place: min(batch.count, 3) for place, batch, _ in books.client.asked}
                for place, number in books.client.numbers.items():
                    assert books.expected[place] == number - in_flight.get(place, 0)
        finally:
            await books.writer.stop()

    asyncio.run(run())


@pytest.mark.kafka
async def test_appends_to_a_topic_that_is_missing_take_no_room_once_they_have_failed(kafka: str, prefix: str) -> None:
    """Others go on beside it, and its problem is forgotten when nothing waits for it."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, create_topics=False)
    await topics.create(options, ["sms.dr"])
    policy = WriterPolicy(topic_bytes=50_000, look_s=0.05, forget_s=0.5)
    log = KafkaLog(options, writer_policy=policy, append_s=0.3)
    await log.start()
    await until(lambda: log.states[""].is_ready)
    failing = [log.append([event(n, "k", "retry.x.60s", filling=2000)]) for n in range(40)]
    outcomes = await asyncio.gather(*failing, return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert "retry.x.60s" in log.states[""].problems
    await until(lambda: log._writer.backlog.bytes == 0, within_s=10)

    async def accepted() -> bool:
        with suppress(NotNow):  # 0.3 s are little on a machine that is busy
            await log.append([event(100, "k", "sms.dr")])
            return True
        return False

    assert await until(accepted)
    await until(lambda: log.states[""].is_ready, within_s=10)
    await log.stop()


@pytest.mark.kafka
async def test_a_topic_in_trouble_does_not_keep_the_others_from_being_drained(kafka: str, prefix: str) -> None:
    """A stop waits for what Kafka takes, also while one topic is missing."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1, create_topics=False)
    await topics.create(options, ["sms.dr"])
    writer = KafkaWriter(options, name="drained")
    await writer.start()
    lost, taken = Waiting(1), Waiting(500)
    writer.submit([event(0, "k", "call.event")], lost)
    await until(lambda: "call.event" in writer.state.problems)
    writer.submit([event(n, "k") for n in range(500)], taken)
    await writer.stop(drain_s=1.0)
    assert (lost.remaining, taken.remaining) == (1, 0)
