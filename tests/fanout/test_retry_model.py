"""Shared retry topics against a model: nothing parked is lost, positions go on, and memory is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.fanout import retry_records
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.circuit_breaker import BreakerPolicy
from gateway.fanout.reader import SubscriberReader
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.retry_moves import LATE_S
from gateway.log import Record
from tests.effort import examples
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.running import OwnRetryTopics, make, subscription
from tests.fanout.scripted import DOWN, OK, ScriptedSink

GROUP = "gateway.retry"
NAMES = ["a", "b", "c"]
TOPICS = ["replay", "retry.30s", "retry.60s"]
BAD = AttemptResult(422)
MAX_EVENTS = 12


class RetryMachine(RuleBasedStateMachine):
    """Parking, due times, subscribers that are down, slow, paused, removed; rebalances, crashes, a log that fails."""

    def __init__(self) -> None:
        super().__init__()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.log = MemoryLog(now=self.clock.now)
        self.number = 0
        self.known = set(NAMES)
        self.readers: dict[str, SubscriberReader] = {}
        self.sinks: dict[str, ScriptedSink] = {}
        self.parked: set[int] = set()
        self.delivered: set[int] = set()
        self.run(self.start())

    def run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    async def start(self) -> None:
        self.topics = OwnRetryTopics(
            self.log,
            find=self.readers.get,
            known=lambda: self.known,
            clock=self.clock,
            max_events=MAX_EVENTS,
            max_bytes=2**20,
        )
        self.topics.apply([30.0])
        for name in sorted(self.known):
            self.begin(name)
        self.topics.start()
        await turns()

    def begin(self, name: str) -> None:
        sink = self.sinks[name] = ScriptedSink()
        numbers = subscription(
            name,
            topics=(f"none.{name}",),
            concurrency=2,
            tiers=(30.0,),
            retry=RetryPolicy(attempts=4, first_delay_s=40.0, max_delay_s=100.0),
            breaker=BreakerPolicy(min_attempts=4, first_open_s=2.0, max_open_s=8.0),
        )
        self.readers[name] = make(self.log, sink, numbers, clock=self.clock, seed=self.number)
        self.readers[name].start()

    @rule(
        name=st.sampled_from(NAMES),
        keys=st.lists(st.sampled_from("kl"), min_size=1, max_size=20),
        topic=st.sampled_from(TOPICS),
        delay_s=st.sampled_from([0.0, 30.0, 90.0, 250.0]),
    )
    def park(self, name: str, keys: list[str], topic: str, delay_s: float) -> None:
        async def go() -> None:
            made = []
            for key in keys:
                self.number += 1
                self.parked.add(self.number)
                record = Record("p", 0, self.clock.now(), *entry(self.number, key))
                due = self.clock.now() + delay_s
                made.append(retry_records.parked(record, topic, retry_records.AttemptHistory(), due, name))
            failing, self.log.failing_appends = self.log.failing_appends, 0
            await self.log.append(made)
            self.log.failing_appends = failing
            await turns()

        self.run(go())

    @rule(name=st.sampled_from(NAMES), result=st.sampled_from([OK, OK, BAD, DOWN]), times=st.integers(1, 8))
    def answer(self, name: str, result: AttemptResult, times: int) -> None:
        for _ in range(times):
            if name in self.sinks and self.sinks[name].asked:
                self.resolve(name, result)

    def resolve(self, name: str, result: AttemptResult) -> None:
        asked = self.sinks[name].asked[0]
        if result.is_success:
            self.delivered.add(int(asked.record.id, 16))
        asked.answer.set_result(result)
        self.run(turns())

    @rule(seconds=st.sampled_from([0.5, 5.0, 35.0, 70.0, 400.0]))
    def let_pass(self, seconds: float) -> None:
        self.run(self.advance(seconds))

    async def advance(self, seconds: float) -> None:
        until = self.clock.time + seconds
        while (due := self.clock.next_call()) is not None and due <= until:
            self.clock.advance_to(due)
            await turns(5)
        self.clock.advance_to(until)
        await turns()

    @rule(name=st.sampled_from(NAMES), is_paused=st.booleans())
    def pause(self, name: str, is_paused: bool) -> None:
        if name in self.readers:
            flow = self.readers[name].flow
            self.run(self.call(flow.pause if is_paused else flow.resume))

    async def call(self, what: Any) -> None:
        what()
        await turns()

    @rule(name=st.sampled_from(NAMES), is_known=st.booleans())
    def configure(self, name: str, is_known: bool) -> None:
        """Remove a subscriber, or add it, or restart it with other numbers."""

        async def go() -> None:
            old = self.readers.pop(name, None)
            self.sinks.pop(name, None)
            self.known.discard(name)
            if is_known:
                self.known.add(name)
            if old is not None:
                await old.stop(0.0)
                self.topics.left(old)
            if is_known:
                self.begin(name)
            await turns()

        self.run(go())

    @rule(topic=st.sampled_from(TOPICS))
    def rebalance(self, topic: str) -> None:
        async def go() -> None:
            group = self.topics.reading.group
            reader = next((one for one in self.log.shared if one.group == group and topic in one.at), None)
            if reader is None:
                return
            task = asyncio.create_task(reader.rebalance([topic]))
            while not task.done():
                await turns(5)
                if (due := self.clock.next_call()) is not None and not task.done():
                    self.clock.advance_to(due)
            await task
            await turns()

        self.run(go())

    @rule()
    def crash(self) -> None:
        """Tasks and memory are gone; attempts under way have an unknown outcome."""

        async def go() -> None:
            tasks = asyncio.all_tasks(self.loop) - {asyncio.current_task(self.loop)}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.log.readers.clear()
            self.log.shared.clear()
            for reader in self.readers.values():
                reader.flow.suspend()  # timers of a process that is no more
            self.readers.clear()
            self.sinks.clear()
            await self.start()

        self.run(go())

    @rule(failing_appends=st.integers(0, 3), failing_fetches=st.integers(0, 2))
    def the_log_fails(self, failing_appends: int, failing_fetches: int) -> None:
        self.log.failing_appends, self.log.failing_fetches = failing_appends, failing_fetches

    def waiting(self, topic: str) -> list[Record]:
        return self.log.records.get(topic, [])[self.log.committed.get((GROUP, topic), 0) :]

    def letters(self) -> set[int]:
        return {int(record.id, 16) for name in NAMES for record in self.log.topic(f"dlq.{name}")}

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each parked event was delivered, is a dead letter, or stands in a topic at or behind the position."""
        waiting = {int(record.id, 16) for topic in TOPICS for record in self.waiting(topic)}
        assert self.parked <= self.delivered | self.letters() | waiting

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.topics.held <= MAX_EVENTS + len(TOPICS)

    @precondition(lambda self: self.parked)
    @rule(result=st.sampled_from([BAD, DOWN]))
    def positions_go_on(self, result: AttemptResult) -> None:
        """Whoever is down, slow or gone: an hour on, no event holds a position that was due long ago."""
        self.log.failing_appends = self.log.failing_fetches = 0

        async def go() -> None:
            for _ in range(120):
                for sink in self.sinks.values():
                    for asked in list(sink.asked):
                        asked.answer.set_result(result)
                await self.advance(5.0)

        self.run(go())
        for topic in TOPICS:
            for record in self.waiting(topic)[:1]:
                assert self.clock.now() - retry_records.read(record).due <= LATE_S + 60.0

    def teardown(self) -> None:
        """When all is well again, everything arrives, and all of it is committed."""
        self.log.failing_appends = self.log.failing_fetches = 0

        async def go() -> None:
            for name in NAMES:
                if name not in self.known:
                    self.known.add(name)
                    self.begin(name)
                self.readers[name].flow.resume()
            for _ in range(3000):
                for sink in self.sinks.values():
                    for asked in list(sink.asked):
                        self.delivered.add(int(asked.record.id, 16))
                        asked.answer.set_result(OK)
                await turns()
                if not any(self.waiting(topic) for topic in TOPICS):
                    break
                if not any(sink.asked for sink in self.sinks.values()):
                    await self.advance(5.0)
            left = {topic: len(self.waiting(topic)) for topic in TOPICS}
            for reader in self.readers.values():
                await reader.stop(0.0)
            await self.topics.stop()
            assert left == dict.fromkeys(TOPICS, 0)
            assert self.parked <= self.delivered | self.letters()

        try:
            self.run(go())
        finally:
            self.loop.close()
            structlog.reset_defaults()


RetryMachine.TestCase.settings = settings(
    max_examples=examples(15), stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_retry_topics_keep_their_promises = pytest.mark.timeout(300)(RetryMachine.TestCase)
