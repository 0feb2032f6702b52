"""One reading with many cursors against a plain list: whatever happens, and in whatever order.

Two processes share the partitions and have the same consumers. Records are appended, acknowledged in any order,
expire, are damaged; consumers are stuck, down, fail, go and come; processes crash; partitions move. Each consumer gets
every record of its topics at least once and in order, what it does not get is reported, and nobody waits for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import hypothesis.strategies as st
import structlog
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import LogCapture

from gateway.log.catch_up import ReadingPolicy
from gateway.log.shared_reader import SharedReader
from tests.effort import examples
from tests.fanout.manual_clock import ManualClock
from tests.log.consumers import Noting
from tests.log.list_log import ListLog, Shelf
from tests.waiting import turn

BOTH = frozenset({"x", "y"})
PARTITIONS = {"p0": BOTH, "p1": BOTH, "z0": frozenset({"z"})}
CONSUMERS: Mapping[str, tuple[frozenset[str], int]] = {
    "all": (frozenset({"x", "y", "z"}), 6),
    "only-x": (frozenset({"x"}), 4),
    "also-x": (frozenset({"x"}), 9),
    "y-z": (frozenset({"y", "z"}), 3),
    "only-z": (frozenset({"z"}), 2),
}
POLICY = ReadingPolicy(max_records=5, spread=6, catch_ups=2, max_backoff_s=4.0)
names = st.sampled_from(sorted(CONSUMERS))
numbers = st.sampled_from([0, 1])
partitions = st.sampled_from(sorted(PARTITIONS))


class Process:
    """One process: its log, its reading, its consumers."""

    def __init__(self, shelf: Shelf, clock: ManualClock) -> None:
        self.log = ListLog(shelf)
        self.reader = SharedReader(self.log, "readers", clock, POLICY)
        self.consumers: dict[str, Noting] = {}

    def add(self, name: str) -> None:
        topics, window = CONSUMERS[name]
        consumer = self.consumers[name] = Noting(name, topics, self.log.cursors, window=window)
        consumer.changed = self.reader.changed
        self.reader.add(consumer)


class SharedReading(RuleBasedStateMachine):
    """``shelf`` is the truth."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.lines = LogCapture()
        self.configuration = structlog.get_config()
        structlog.configure(processors=[self.lines])
        self.clock = ManualClock()
        self.shelf = Shelf(PARTITIONS)
        self.owner = {"p0": 0, "p1": 1, "z0": 0}
        self.done: dict[str, set[tuple[str, int]]] = {name: set() for name in CONSUMERS}
        self.failed = False
        self.processes: list[Process] = []
        self.ended: list[Process] = []

        async def start() -> None:
            for number in (0, 1):
                self.processes.append(self._process(number))

        self._do(start())

    def _process(self, number: int) -> Process:
        made = Process(self.shelf, self.clock)
        made.log.mine = {name for name, owner in self.owner.items() if owner == number}
        for name in CONSUMERS:
            made.add(name)
        made.reader.start()
        return made

    def _do(self, work: Any) -> None:
        async def do() -> None:
            await work
            await self._settle()

        self.runner.run(do())

    async def _settle(self) -> None:
        """Until nothing goes on any more, neither by itself nor by a timer of a pause after trouble."""
        for _ in range(200):
            before = self._state()
            for _ in range(30):
                await turn()
            if self._state() == before:
                due = self.clock.next_call()
                if due is None or due - self.clock.time >= POLICY.keep_alive_s:
                    return
                self.clock.advance_to(due)
        raise AssertionError("it does not come to rest")

    def _state(self) -> object:
        return [
            (
                sum(one.log.read.values()),
                [(c.batches, len(c.outstanding), dict(c.next)) for c in one.consumers.values()],
            )
            for one in self.processes
        ]

    # -- what happens -------------------------------------------------------------------------------------------

    @rule(partition=partitions, topics=st.lists(st.sampled_from("xyz"), min_size=1, max_size=12))
    def append(self, partition: str, topics: list[str]) -> None:
        async def put() -> None:
            self.shelf.put(partition, [topic for topic in topics if topic in PARTITIONS[partition]])

        self._do(put())

    @rule(number=numbers, name=names, data=st.data())
    def acknowledge(self, number: int, name: str, data: st.DataObject) -> None:
        """Some of what a consumer has, in any order."""
        consumer = self.processes[number].consumers[name]
        chosen = (
            data.draw(st.lists(st.sampled_from(sorted(consumer.outstanding)), unique=True))
            if (consumer.outstanding)
            else []
        )

        async def done() -> None:
            for place in chosen:
                consumer.acknowledge(place)
                self.done[name].add(place)
                if data.draw(st.booleans()):
                    await turn()

        self._do(done())

    @rule(number=numbers, name=names)
    def acknowledge_all(self, number: int, name: str) -> None:
        async def done() -> None:
            self._acknowledge(self.processes[number].consumers[name])

        self._do(done())

    def _acknowledge(self, consumer: Noting) -> None:
        self.done[consumer.name] |= consumer.outstanding.keys()
        consumer.acknowledge_all()

    @rule(number=numbers, name=names, is_up=st.booleans())
    def down_or_up(self, number: int, name: str, is_up: bool) -> None:
        async def turn() -> None:
            self.processes[number].consumers[name].is_up = is_up
            self.processes[number].reader.changed()

        self._do(turn())

    @rule(partition=partitions, by=st.integers(1, 15))
    def expire(self, partition: str, by: int) -> None:
        async def trim() -> None:
            self.shelf.floors[partition] = min(self.shelf.floors[partition] + by, len(self.shelf.records[partition]))

        self._do(trim())

    @rule(partition=partitions, ago=st.integers(1, 8))
    def damage(self, partition: str, ago: int) -> None:
        offset = len(self.shelf.records[partition]) - ago
        if offset >= 0:
            self.shelf.damaged[partition].add(offset)

    @rule(number=numbers, times=st.integers(1, 3))
    def trouble(self, number: int, times: int) -> None:
        self.processes[number].log.failing = times

    @rule(number=numbers, name=names)
    def fault(self, number: int, name: str) -> None:
        self.processes[number].consumers[name].failing = 1

    @rule(number=numbers, name=names)
    def goes_and_comes(self, number: int, name: str) -> None:
        """A consumer whose settings change: another one of its name goes on where it stood."""
        self._do(self._exchange(self.processes[number], name))

    async def _exchange(self, process: Process, name: str) -> None:
        await process.reader.remove(process.consumers[name])
        batches = process.consumers[name].batches
        await turn()
        assert batches == process.consumers[name].batches
        process.log.cursors.forget(name)
        process.add(name)

    @rule(number=numbers, name=names, partition=partitions)
    def goes_and_comes_while_a_partition_moves(self, number: int, name: str, partition: str) -> None:
        async def both() -> None:
            await asyncio.gather(self._exchange(self.processes[number], name), self._rebalance(partition))

        self._do(both())

    @rule(number=numbers)
    def flush(self, number: int) -> None:
        self._do(self.processes[number].log.cursors.flush())

    @rule(number=numbers)
    def crash(self, number: int) -> None:
        """What was not flushed is gone; another process takes its place."""
        process = self.processes[number]

        async def replace() -> None:
            process.log.cursors.loaded.clear()
            process.log.cursors.commit = lambda *_: None  # type: ignore[method-assign]
            await process.reader.stop()
            self.shelf.logs.remove(process.log)
            self.processes[number] = self._process(number)

        self._do(replace())

    @rule(number=numbers)
    def restart(self, number: int) -> None:
        process = self.processes[number]

        async def replace() -> None:
            await process.reader.stop()
            self.shelf.logs.remove(process.log)
            self.processes[number] = self._process(number)

        self._do(replace())

    @rule(partition=partitions)
    def move(self, partition: str) -> None:
        """A rebalance: one process gives a partition up, and then the other one has it."""
        self._do(self._rebalance(partition))

    async def _rebalance(self, partition: str) -> None:
        old = self.owner[partition]
        await self.processes[old].log.take_away([partition])
        self.owner[partition] = 1 - old
        await self.processes[1 - old].log.give([partition])

    @rule(partition=partitions, topics=st.lists(st.sampled_from("xyz"), min_size=1, max_size=6))
    def move_while_it_is_read(self, partition: str, topics: list[str]) -> None:
        async def rebalance() -> None:
            self.shelf.put(partition, [topic for topic in topics if topic in PARTITIONS[partition]])
            await turn()
            await self._rebalance(partition)

        self._do(rebalance())

    # -- what holds ---------------------------------------------------------------------------------------------

    @precondition(lambda self: hasattr(self, "processes"))
    @invariant()
    def what_is_outstanding_is_bounded(self) -> None:
        for process in self.processes:
            assert process.log.most_browsing <= POLICY.catch_ups
            for consumer in process.consumers.values():
                assert len(consumer.outstanding) <= consumer.window
                assert [] == consumer.objections

    @precondition(lambda self: hasattr(self, "processes"))
    @invariant()
    def who_is_hungry_and_willing_has_all_there_is(self) -> None:
        """Whatever the others do."""
        for number, process in enumerate(self.processes):
            for consumer in process.consumers.values():
                if consumer.is_hungry() and (consumer.is_willing() or process.reader.is_attached(consumer)):
                    assert self._heads(number, consumer) == consumer.next, f"{consumer.name} of {number} waits"

    def _heads(self, number: int, consumer: Noting) -> dict[str, int]:
        mine = [name for name, owner in self.owner.items() if owner == number]
        return {name: len(self.shelf.records[name]) for name in self.shelf.holding(consumer.topics, mine)}

    @precondition(lambda self: hasattr(self, "processes"))
    @invariant()
    def what_was_passed_in_silence_is_of_other_topics(self) -> None:
        for process in self.processes:
            for consumer in process.consumers.values():
                for partition, first, last in consumer.passed:
                    topics = {self.shelf.records[partition][offset].topic for offset in range(first, last + 1)}
                    assert topics.isdisjoint(consumer.topics), f"{consumer.name} lacks {partition} {first} to {last}"
                consumer.passed.clear()

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self._drain()
        finally:
            self.runner.close()
            structlog.configure(**self.configuration)

    def _drain(self) -> None:
        """In the end all are up and well: what then was not acknowledged was reported, to those who lack it."""

        async def acknowledge() -> None:
            for process in self.processes:
                for consumer in process.consumers.values():
                    consumer.is_up, consumer.failing = True, 0
                process.reader.changed()

        self._do(acknowledge())
        rounds = 0
        while any(consumer.outstanding for process in self.processes for consumer in process.consumers.values()):
            rounds += 1
            assert rounds < 1000, "it goes on for ever"

            async def more() -> None:
                for process in self.processes:
                    for consumer in process.consumers.values():
                        self._acknowledge(consumer)

            self._do(more())
        reported = set(self._reported())
        for name, (topics, _) in CONSUMERS.items():
            wanted = {
                (partition, record.offset)
                for partition, records in self.shelf.records.items()
                for record in records
                if record.topic in topics
            }
            lost = wanted - self.done[name]
            assert lost <= {(partition, offset) for of, partition, offset in reported if of == name}

        async def stop() -> None:
            for process in self.processes:
                await process.reader.stop()

        self.runner.run(stop())

    def _reported(self) -> Iterable[tuple[str, str, int]]:
        for line in self.lines.entries:
            if line["event"] in ("journal.expired", "journal.damaged"):
                for name in [line["group"]] if isinstance(line["group"], str) else line["group"]:
                    for offset in range(line["first"], line["last"] + 1):
                        yield name, line["stream"], offset


TestSharedReading = SharedReading.TestCase
TestSharedReading.settings = settings(max_examples=examples(40), stateful_step_count=30, deadline=None)
