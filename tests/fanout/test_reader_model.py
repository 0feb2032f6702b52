"""The reader against a model: whatever happens, at least once, in order per key, never committed ahead."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.circuit_breaker import BreakerPolicy
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry import RetryPolicy
from gateway.log import Record
from tests.effort import examples
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryCursors, MemoryLog
from tests.fanout.running import make, retry_topics, subscription
from tests.fanout.scripted import DOWN, OK, Asked, ScriptedSink

GROUP = "gateway.billing"
TIMEOUT = AttemptResult(error="timeout")
KEYS = ["a", "b", "c"]


class ReaderMachine(RuleBasedStateMachine):
    """Success, failure, time-out, rebalance, crash, restart, failing commits and appends, faults of ours, a clock that
    is set: in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.log = MemoryLog(partitions=2, now=self.clock.now)
        self.number = 0
        self.faults = 0
        #: Everything that any sink took, in order; one entry for each success.
        self.delivered: list[tuple[str, int]] = []

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    @initialize(
        on_failure=st.sampled_from(["block", "pass"]),
        attempts=st.sampled_from([1, 2, 1000]),
        first_delay_s=st.sampled_from([10.0, 100.0]),
        min_attempts=st.sampled_from([6, 10**6]),
    )
    def begin(self, on_failure: str, attempts: int, first_delay_s: float, min_attempts: int) -> None:
        self.plan = subscription(
            concurrency=4,
            on_failure=on_failure,
            tiers=(30.0,),
            retry=RetryPolicy(attempts=attempts, first_delay_s=first_delay_s, max_delay_s=100.0),
            breaker=BreakerPolicy(min_attempts=min_attempts, first_open_s=2.0, max_open_s=8.0),
            window=Window(max_events=12, max_span=20),
            wants=self.wants,
        )
        self.start()

    def start(self) -> None:
        async def go() -> None:
            self.sink = ScriptedSink()
            self.reader = make(self.log, self.sink, self.plan, clock=self.clock, seed=self.number)
            self.topics = retry_topics(self.log, self.reader, clock=self.clock, tiers=self.plan.tiers, max_events=36)
            self.reader.start()
            self.topics.start()
            await turns()

        self.run(go())

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=12))
    def append(self, keys: list[str]) -> None:
        async def go() -> None:
            failing, self.log.failing_appends = self.log.failing_appends, 0  # the reader's appends are to fail
            made = []
            for key in keys:
                self.number += 1
                made.append(entry(self.number, key))
            await self.log.append(made)
            self.log.failing_appends = failing
            await turns()

        self.run(go())

    @precondition(lambda self: self.sink.asked)
    @rule(
        answers=st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([OK, OK, AttemptResult(500), TIMEOUT, DOWN])),
            min_size=1,
            max_size=10,
        )
    )
    def answer(self, answers: list[tuple[int, AttemptResult]]) -> None:
        for which, result in answers:
            if self.sink.asked:
                self.resolve(self.sink.asked[which % len(self.sink.asked)], result)

    def resolve(self, asked: Asked, result: AttemptResult) -> None:
        if result.is_success:
            self.delivered.append((asked.record.key, _number(asked.record.value)))
        asked.answer.set_result(result)
        self.run(turns())

    @rule(seconds=st.sampled_from([0.5, 5.0, 40.0]))
    def let_pass(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        async def go() -> None:
            until = self.clock.time + seconds
            while (due := self.clock.next_call()) is not None and due <= until:
                self.clock.advance_to(due)
                await turns()
            self.clock.advance_to(until)
            await turns()

        self.run(go())

    @rule(partition=st.sampled_from(["events-0", "events-1", "retry.30s", "retry.60s"]))
    def rebalance(self, partition: str) -> None:
        """In flight attempts of the partition are cancelled; then it comes back at its commit."""

        async def go() -> None:
            reader = next((one for one in self.log.shared if partition in one.at), None)
            if reader is None:
                return
            task = asyncio.create_task(reader.rebalance([partition]))
            while not task.done():
                await turns()
                if (due := self.clock.next_call()) is not None and not task.done():
                    self.clock.advance_to(due)
            await task
            await turns()

        self.run(go())

    @rule(is_crash=st.booleans())
    def restart(self, is_crash: bool) -> None:
        """A crash: tasks and memory are gone, attempts in flight have an unknown outcome. Else a stop in order."""

        async def crash() -> None:
            self.reader.flow.suspend()  # timers of a process that is no more
            tasks = asyncio.all_tasks(self.loop) - {asyncio.current_task(self.loop)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.log.readers.clear()
            self.log.shared.clear()
            self.log.cursors = MemoryCursors(self.log)

        async def stop() -> None:
            await self.reader.stop(0.0)
            await self.topics.stop()

        self.run(crash() if is_crash else stop())
        self.start()

    @rule(failing_appends=st.integers(0, 3), failing_fetches=st.integers(0, 2), is_forgetting=st.booleans())
    def the_log_fails(self, failing_appends: int, failing_fetches: int, is_forgetting: bool) -> None:
        """Appends and fetches that raise, commits that are lost, from now on."""
        self.log.failing_appends = failing_appends
        self.log.failing_fetches = failing_fetches
        self.log.is_forgetting = is_forgetting

    @rule(faults=st.integers(1, 3))
    def we_break(self, faults: int) -> None:
        """Reading meets a fault of ours, in the middle of a batch or at its beginning."""
        self.faults = faults

    def wants(self, record: Record) -> bool:
        if self.faults and record.offset % 3 == 2:
            self.faults -= 1
            raise ZeroDivisionError
        return True

    @rule(seconds=st.sampled_from([-50.0, 50.0]))
    def the_clock_is_set(self, seconds: float) -> None:
        self.clock.set_by_s += seconds

    @invariant()
    def one_of_a_key_in_flight(self) -> None:
        if hasattr(self, "sink"):
            keys = [asked.record.key for asked in self.sink.asked]
            assert len(keys) == len(set(keys))

    @invariant()
    def never_committed_ahead(self) -> None:
        settled = {number for _, number in self.delivered} | self.put_away()
        for partition in ("events-0", "events-1"):
            committed = self.log.committed.get((GROUP, partition), 0)
            behind = {_number(record.value) for record in self.log.records.get(partition, [])[:committed]}
            assert behind <= settled

    @invariant()
    def in_order_per_key(self) -> None:
        """First deliveries of a key are in order, except for events that were parked or given up."""
        put_away = self.put_away()
        for key in KEYS:
            first: dict[int, None] = {}
            for one, number in self.delivered:
                if one == key and number not in put_away:
                    first.setdefault(number)
            assert list(first) == sorted(first)

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "reader"):
            assert self.reader.outstanding <= self.plan.window.max_events + 36 + 4

    def left(self) -> int:
        """Records in the main topics, the tier and the replay topic that are not committed."""
        cursors = {
            name: "gateway.retry" if name.startswith(("retry.", "replay")) else "gateway.billing"
            for name in self.log.records
            if not name.startswith("dlq.")
        }
        committed = self.log.committed
        return sum(len(self.log.records[name]) - committed.get((cursor, name), 0) for name, cursor in cursors.items())

    def put_away(self) -> set[int]:
        topics = ("retry.30s", "retry.60s", "dlq.billing")
        return {_number(record.value) for topic in topics for record in self.log.topic(topic)}

    def teardown(self) -> None:
        """When all is well again, everything arrives: delivered or a dead letter, and all of it is committed."""
        if not hasattr(self, "plan"):
            self.loop.close()
            return
        self.log.failing_appends = self.log.failing_fetches = 0
        self.log.is_forgetting = False
        self.faults = 0
        for _ in range(2000):
            while self.sink.asked:
                self.resolve(self.sink.asked[0], OK)
            if not self.left():
                break
            self.advance(10.0)
        letters = {_number(record.value) for record in self.log.topic("dlq.billing")}
        arrived = {number for _, number in self.delivered} | letters
        self.run(self.reader.stop(0.0))
        self.run(self.topics.stop())
        self.loop.close()
        structlog.reset_defaults()
        assert arrived == set(range(1, self.number + 1))


def _number(value: bytes) -> int:
    return int(orjson.loads(value)["data"]["number"])


ReaderMachine.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
test_reader_keeps_its_promises = pytest.mark.timeout(300)(ReaderMachine.TestCase)
