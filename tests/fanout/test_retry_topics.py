"""Retry topics: nobody waits for another's trouble, and what is appended again is counted."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.fanout import retry_records
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.circuit_breaker import BreakerPolicy
from gateway.fanout.job import JobState, ParkedJob, Standing
from gateway.fanout.partition_queue import PartitionQueue
from gateway.fanout.reader import SubscriberReader
from gateway.fanout.retry_moves import GONE_MOVES, LATE_S, Progress, Share, choose
from gateway.fanout.retry_records import AttemptHistory
from gateway.fanout.retry_topics import RetryTopics, delay_of, is_old
from gateway.log import Entry, Record
from gateway.log.journal import Journal, Retention
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver
from tests.fanout.running import make, retry_topics, subscription
from tests.fanout.scripted import DOWN, OK, ScriptedSink
from tests.fanout.test_on_journal import gateway
from tests.fanout.test_reader import pass_by
from tests.fanout.test_subscriptions import running, subscriber
from tests.waiting import until

GROUP = "gateway.retry"
OLD = "retry.billing.60s"


def parked(name: str, number: int, *, due: float = 0.0, topic: str = "retry.60s", key: str = "") -> Entry:
    record = Record("p", 0, 1.0, *entry(number, key or f"{name}-{number}"))
    return retry_records.parked(record, topic, AttemptHistory().add(1.0, AttemptResult(500), 1), due, name)


def replayed(name: str, number: int) -> Entry:
    return retry_records.replay(Record("p", 0, 1.0, *entry(number, f"{name}-{number}")), 0.0, name)


class Party:
    """Subscribers of one process, with a clock that stands still."""

    def __init__(self, **bounds: int) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(now=self.clock.now)
        self.metrics = Metrics(CollectorRegistry())
        self.sinks: dict[str, ScriptedSink] = {}
        self.readers: dict[str, SubscriberReader] = {}
        self._bounds = bounds
        self.topics: RetryTopics

    def add(self, name: str, answer: AttemptResult | None, **options: Any) -> None:
        self.sinks[name] = ScriptedSink(None if answer is None else lambda _: answer)
        numbers = subscription(name, topics=(f"none.{name}",), **options)
        self.readers[name] = make(self.log, self.sinks[name], numbers, clock=self.clock)

    async def __aenter__(self) -> Party:
        readers = self.readers.values()
        self.topics = retry_topics(self.log, *readers, clock=self.clock, metrics=self.metrics, **self._bounds)
        for reader in readers:
            reader.start()
        self.topics.start()
        await turns()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(reader.stop(0.0) for reader in self.readers.values()))
        await self.topics.stop()

    def moved(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("gateway_retry_moved_total", {"reason": reason}) or 0.0

    async def seconds_until(self, name: str, delivered: int, *, at_most_s: float = 60.0) -> float:
        started = self.clock.time
        while len(self.sinks[name].delivered) < delivered:
            assert self.clock.time - started < at_most_s
            await pass_by(self.clock, 0.05)
        return self.clock.time - started


async def test_ten_thousand_events_of_one_that_is_down_delay_nobody_by_more_than_seconds() -> None:
    """They stand before the others' in the topic; memory stays bounded, and the position goes on."""
    party = Party(max_events=3000)
    party.add("down", DOWN)
    party.add("well", OK)
    await party.log.append([parked("down", number) for number in range(10_000)])
    await party.log.append([parked("well", number) for number in range(10_000, 10_020)])
    party.readers["down"].flow.pause()
    async with party:
        assert await party.seconds_until("well", 20) <= 5.0
        assert party.topics.held <= 1003
        await pass_by(party.clock, 5.0)
        assert 10_020 == party.log.committed[GROUP, "retry.60s"]
        assert 10_000 == party.moved("down") == len(party.log.topic("retry.60s")) - 10_020


async def test_its_probe_is_one_of_them_and_they_follow_when_it_is_back() -> None:
    """One due event stays with it; when that is delivered the others come, none is lost."""
    party = Party()
    party.add("billing", DOWN, breaker=BreakerPolicy(min_attempts=4, first_open_s=2.0, max_open_s=8.0))
    await party.log.append([parked("billing", number) for number in range(200)])
    async with party:
        await pass_by(party.clock, 20.0)
        assert "open" == party.readers["billing"].flow.status
        assert party.readers["billing"].outstanding >= 1
        attempts = party.sinks["billing"].attempts
        await pass_by(party.clock, 600.0)
        assert 20 <= party.sinks["billing"].attempts - attempts <= 600 / 4 + 10
        party.sinks["billing"].answer = lambda _: OK
        await party.seconds_until("billing", 200, at_most_s=700.0)
    assert {f"{number:032x}" for number in range(200)} == {one.id for one in party.sinks["billing"].delivered}


async def test_a_large_replay_of_one_that_is_slow_lets_another_pass() -> None:
    """It takes nothing for now and is not down: who waits behind it is found, and only then anything is copied."""
    party = Party(max_events=3000)
    party.add("slow", None, concurrency=4, timeout_s=600.0)
    party.add("well", OK)
    await party.log.append([replayed("slow", number) for number in range(5000)])
    async with party:
        await pass_by(party.clock, 20.0)
        assert 0 == party.moved("full")
        assert party.topics.held <= 1003
        await party.log.append([replayed("well", number) for number in range(5000, 5005)])
        assert await party.seconds_until("well", 5) <= 10.0
        assert 3000 <= party.moved("full") + party.moved("late") <= 5000
        assert party.topics.held <= 3003


async def test_a_large_replay_flows_without_copies_while_nobody_waits() -> None:
    """Through a window much smaller than it."""
    party = Party(max_events=300)
    party.add("billing", OK, rate_per_s=100.0)
    await party.log.append([replayed("billing", number) for number in range(3000)])
    async with party:
        assert await party.seconds_until("billing", 3000) <= 31.0
    assert 3000 == len(party.sinks["billing"].delivered)
    assert [] == party.log.topic("retry.60s")


async def test_an_event_behind_a_key_that_hangs_gives_its_place_up() -> None:
    """Others of the subscriber are delivered: it is passed over, appended again, and delivered when its key is free."""
    party = Party()
    party.add("billing", None, concurrency=2, timeout_s=600.0)
    keys = ["hangs", "hangs", *(f"k{number}" for number in range(60))]
    await party.log.append([parked("billing", number, key=key) for number, key in enumerate(keys)])
    async with party:
        sink = party.sinks["billing"]
        while len(sink.delivered) < 60:
            for asked in list(sink.asked):
                if asked.record.key != "hangs":
                    asked.answer.set_result(OK)
            await pass_by(party.clock, 1.0)
        assert ["hangs"] == [asked.record.key for asked in sink.asked]
        await pass_by(party.clock, LATE_S)
        assert 1 == party.moved("late")
        sink.answer = lambda _: OK
        sink.asked[0].answer.set_result(OK)
        await turns()
        assert 62 <= party.log.committed[GROUP, "retry.60s"]
        await pass_by(party.clock, 70.0)
        assert 62 == len(sink.delivered)


async def test_events_of_a_subscriber_that_is_gone_become_dead_letters_after_minutes() -> None:
    """Another process may know it already; until then they are appended again."""
    party = Party()
    party.add("billing", OK)
    await party.log.append([parked("gone", number) for number in range(3)])
    async with party:
        await pass_by(party.clock, 60.0)
        assert [] == party.log.topic("dlq.gone")
        await pass_by(party.clock, 400.0)
        letters = party.log.topic("dlq.gone")
        assert 3 * (GONE_MOVES + 1) == party.moved("gone")
    assert [("no_subscriber", "500", "1")] * 3 == [
        tuple(dict(one.headers)[f"gateway-{name}"] for name in ("reason", "last-status", "attempts")) for one in letters
    ]


async def test_a_record_that_is_not_ours_is_passed_and_counted() -> None:
    """Other programs write to Kafka's topics too."""
    party = Party()
    party.add("billing", OK)
    await party.log.append([entry(1)._replace(topic="retry.60s"), parked("billing", 2)])
    async with party:
        assert await party.seconds_until("billing", 1) <= 1.0
        assert 1 == party.moved("not_ours")
        assert 2 == party.log.committed[GROUP, "retry.60s"]


async def test_a_copy_that_the_log_refuses_becomes_a_dead_letter() -> None:
    """The position goes on all the same."""
    party = Party()
    party.add("billing", OK)
    await party.log.append([parked("billing", number) for number in range(5)])
    party.log.max_bytes["retry.60s"] = 10
    party.readers["billing"].flow.pause()
    async with party:
        await pass_by(party.clock, 5.0)
        assert 5 == party.log.committed[GROUP, "retry.60s"]
    assert ["poison"] * 5 == [dict(one.headers)["gateway-reason"] for one in party.log.topic("dlq.billing")]


async def test_while_the_log_takes_nothing_events_wait_where_they_are() -> None:
    """A move that fails is tried again; nothing is passed before it is stored."""
    party = Party()
    party.add("billing", OK)
    await party.log.append([parked("billing", number) for number in range(5)])
    party.log.failing_appends = 3
    party.readers["billing"].flow.pause()
    async with party:
        await pass_by(party.clock, 2.5)
        assert 0 == party.log.committed.get((GROUP, "retry.60s"), 0)
        await pass_by(party.clock, 5.0)
        assert 5 == party.log.committed[GROUP, "retry.60s"]
    assert 10 == len(party.log.topic("retry.60s"))


async def test_a_subscriber_with_a_new_address_gets_what_is_parked() -> None:
    """What the one before it had in memory is handed on; that of a removed one waits for its return."""
    log = MemoryLog()
    async with AsyncExitStack() as stack:
        before, after = [await stack.enter_async_context(Receiver()) for _ in range(2)]
        old = subscriber("billing", before.url)
        fanout = await stack.enter_async_context(running(log, old))
        fanout.pause("billing")
        due = log.now() + 3.0
        await log.append([parked("billing", number, due=due) for number in range(20)])
        await until(lambda: fanout._running["billing"][1].outstanding == 20)
        await fanout.apply([subscriber("billing", after.url)])
        fanout.resume("billing")
        await after.until_delivered(20)
        assert [] == before.posts


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("retry.billing.60s", True),
        ("retry.x.1.0.001s", True),
        ("replay.billing", True),
        ("retry.gone.60s", False),
        ("retry.60s", False),
        ("replay", False),
        ("dlq.billing", False),
        ("retry.billing", False),
    ],
)
def test_which_topics_are_of_the_layout_before(topic: str, expected: bool) -> None:
    """By the names of the subscribers: the shared ones are nobody's."""
    assert is_old(topic, ["billing", "x.1"]) == expected


def test_a_shared_topic_says_its_delay() -> None:
    """A delay that is configured no longer is read on all the same."""
    assert [60.0, 1.5, None, None] == [delay_of(one) for one in ("retry.60s", "retry.1500ms", OLD, "replay")]


async def test_what_is_left_in_topics_that_are_not_configured_is_read_on_or_reported() -> None:
    """At the start and again and again; each topic is reported once, with what to do, and left as it is."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append([entry(1)._replace(topic=OLD), entry(2)._replace(topic="retry.7s")])
    topics = retry_topics(log, clock=clock, tiers=(60.0,), known=["billing"], is_shared=True)
    with capture_logs() as lines:

        async def reported() -> list[list[str]]:
            await turns(100)
            return [line["topics"] for line in lines if line["event"] == "retry.old_topics"]

        topics.start()
        assert [[OLD]] == await reported()
        assert "retry.7s" in {feed.topic for feed in topics.feeds}
        await log.append([entry(3)._replace(topic="replay.billing")])
        clock.advance(600.0)
        assert [[OLD], ["replay.billing", OLD]] == await reported()
        clock.advance(600.0)
        assert 2 == len(await reported())
        await topics.stop()
    (line, *_) = (line for line in lines if line["event"] == "retry.old_topics")
    assert ("error", 1, 1) == (line["log_level"], line["number"], line["records"])
    assert "run the version that wrote them" in line["advice"]
    assert [1] == [int(record.id, 16) for record in log.topic(OLD)]


async def test_a_delay_that_is_configured_no_longer_is_read_on(tmp_path: Path) -> None:
    """The shared topic of it still holds events."""
    journal = Journal(tmp_path, Retention(max_bytes=2**30, max_age_s=10**6))
    await journal.start()
    await journal.append(
        [retry_records.parked(Record("p", 0, 5.0, *entry(1)), "retry.7s", AttemptHistory(), 0.0, "billing")]
    )
    await journal.stop()
    async with Receiver() as receiver, gateway(tmp_path, subscriber("billing", receiver.url)):
        await receiver.until_delivered(1)


STANDINGS = st.sampled_from(list(Standing))


@given(
    jobs=st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(-100, 100), st.sampled_from([*JobState]), st.integers(0, 9)),
        max_size=30,
    ),
    standings=st.fixed_dictionaries({"a": STANDINGS, "b": STANDINGS}),
    share=st.none() | st.integers(1, 5),
    has_progress=st.booleans(),
)
def test_what_is_appended_again(
    jobs: list[tuple[str, float, JobState, int]], standings: dict[str, Standing], share: int | None, has_progress: bool
) -> None:
    """Nothing under way; nothing early, unless others wait; all that is due of one that is down, but one; later."""
    now = 1000.0
    held = []
    for offset, (name, overdue_s, place, moves) in enumerate(jobs):
        record = Record("p", offset, 0.0, "retry.60s", "k", f"{offset:032x}", b"{}")
        job = ParkedJob(record, None, PartitionQueue("p"), subscriber=name, moves=moves)  # type: ignore[arg-type]
        job.due, job.state = now - overdue_s, place
        held.append(job)
    moves = choose(
        held,
        now,
        standing=standings.__getitem__,
        progress=lambda _: Progress(now) if has_progress else None,
        share=None if share is None else Share(share, 2**20),
    )
    chosen = [move.job for move in moves]
    assert len(chosen) == len(set(map(id, chosen)))
    for move in moves:
        assert move.job.state is not JobState.FLIGHT
        assert move.due >= now + 60.0
        assert move.is_dead == (move.reason == "gone" and move.job.moves >= GONE_MOVES)
        assert move.job.due <= now or move.reason == "full"
    for name, standing in standings.items():
        kept = [
            job for job in held if job.subscriber == name and job not in chosen and job.state is not JobState.FLIGHT
        ]
        due = [job for job in kept if job.due <= now]
        if standing in (Standing.GONE, Standing.HELD):
            assert [] == due
        elif standing is Standing.DOWN:
            assert len(due) <= 1
        elif standing is Standing.ABSENT or not has_progress:
            assert all(now - job.due < LATE_S for job in due)
        if share is not None and standing in (Standing.WELL, Standing.ABSENT):
            assert len(kept) <= share
