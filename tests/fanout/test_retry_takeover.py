"""Topics of the layout before: what is left in them arrives, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.fanout import retry_records
from gateway.fanout.retry_records import AttemptHistory
from gateway.fanout.retry_takeover import Takeover, owner, take_over, tier
from gateway.log import Appended, Entry, Record
from gateway.log.journal import Journal, Retention
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryCursors, MemoryLog
from tests.fanout.receiver import Receiver
from tests.fanout.running import retry_topics
from tests.fanout.test_fanout import subscriber
from tests.fanout.test_on_journal import gateway
from tests.waiting import until

OLD = "retry.billing.60s"


def old(number: int, topic: str = OLD, *, due: float = 0.0) -> Entry:
    """An entry as the version before wrote it: nothing in it says whose it is."""
    made = retry_records.parked(Record("p", 0, 5.0, *entry(number)), topic, AttemptHistory(attempts=2), due, "x")
    return made._replace(headers=tuple(header for header in made.headers if header[0] != retry_records.SUBSCRIBER))


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("retry.billing.60s", "billing"),
        ("retry.a.b.600s", "a.b"),
        ("retry.billing.0.001s", "billing"),
        ("retry.x.1.60s", "x.1"),
        ("replay.billing", "billing"),
        ("replay.a.60s", "a.60s"),
        ("retry.60s", None),
        ("retry.1500ms", None),
        ("replay", None),
        ("dlq.billing", None),
        ("retry.billing", None),
    ],
)
def test_whose_an_old_topic_was(topic: str, name: str | None) -> None:
    """By its name; the shared ones are nobody's."""
    assert name == owner(topic, ["x.1"])


def test_a_shared_topic_says_its_delay() -> None:
    """A delay that is configured no longer is read on all the same."""
    assert [60.0, 1.5, None, None] == [tier(one) for one in ("retry.60s", "retry.1500ms", OLD, "replay")]


class Stopped(BaseException):
    """The process was killed."""


class DyingLog(MemoryLog):
    """Killed before or after one of its steps; commits count as durable when they are flushed."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.steps_left = 10**6
        self.dies_after = False
        self.cursors = DyingCursors(self)

    def step(self) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Stopped

    async def append(self, entries: Sequence[Entry]) -> Appended:
        if not self.dies_after:
            self.step()
        appended = await super().append(entries)
        if self.dies_after:
            self.step()
        return appended


class DyingCursors(MemoryCursors):
    """Commits count as durable when they are flushed; killed before or after that."""

    log: DyingLog

    def __init__(self, log: DyingLog) -> None:
        super().__init__(log)
        self.noted: dict[tuple[str, str], int] = {}

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        self.noted[cursor, partition] = offset

    async def flush(self) -> None:
        if not self.log.dies_after:
            self.log.step()
        for (cursor, partition), offset in self.noted.items():
            super().commit(cursor, partition, offset)
        if self.log.dies_after:
            self.log.step()


@pytest.mark.parametrize("dies_after", [False, True])
async def test_killed_at_any_step_it_repeats_and_loses_nothing(dies_after: bool) -> None:
    """Before and after each request to the log: the next start ends what was begun."""
    clock = ManualClock()
    for steps in range(1, 50):
        log = DyingLog(now=clock.now)
        log.dies_after = dies_after
        await log.append([old(number) for number in range(1, 1201)])
        log.steps_left = steps
        try:
            await take_over(log, OLD, "billing", again=lambda _: "retry.60s", clock=clock)
            assert steps > 6
            return
        except Stopped:
            pass
        passed = log.committed.get((OLD, OLD), 0)
        log.steps_left = 10**6
        log.cursors = DyingCursors(log)
        assert {record.id for record in log.records[OLD][:passed]} <= {record.id for record in log.topic("retry.60s")}
        moved = await take_over(log, OLD, "billing", again=lambda _: "retry.60s", clock=clock)
        assert 1200 - passed == moved
        assert {entry(number).id for number in range(1, 1201)} == {record.id for record in log.topic("retry.60s")}
        assert len(log.topic("retry.60s")) <= 1200 + 500
        assert 1200 == log.committed[OLD, OLD]
    raise AssertionError("it never came to an end")


async def test_what_is_beside_the_event_moves_with_it() -> None:
    """Attempts, due time, replay mark, key, id and bytes; the subscriber is said now."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    soon, late = clock.now() + 70.0, clock.now() + 5000.0
    replayed = retry_records.replay(Record("p", 0, 5.0, *entry(3)), 0.0, "x")._replace(topic="replay.billing")
    gone = old(4, "retry.gone.60s", due=soon)
    await log.append([old(1, due=soon), old(2, due=late), replayed, gone])
    topics = retry_topics(log, clock=clock, tiers=(60.0, 3600.0))
    await Takeover(log, topics, known=lambda: ["billing"], is_shared=False, clock=clock).look()
    found = {int(one.id, 16): one for name in ("retry.60s", "retry.3600s", "replay") for one in log.topic(name)}
    assert {1: "retry.60s", 2: "retry.3600s", 3: "replay", 4: "retry.60s"} == {
        number: one.topic for number, one in found.items()
    }
    said = {number: retry_records.read(one) for number, one in found.items()}
    assert {1: "billing", 2: "billing", 3: "billing", 4: "gone"} == {n: one.subscriber for n, one in said.items()}
    assert (2, pytest.approx(soon, abs=0.01), False) == (said[1].trail.attempts, said[1].due, said[1].is_replay)
    assert (entry(1).key, entry(1).value, True) == (found[1].key, found[1].value, said[3].is_replay)
    await Takeover(log, topics, known=lambda: ["billing"], is_shared=False, clock=clock).look()
    assert 4 == sum(len(log.topic(name)) for name in ("retry.60s", "retry.3600s", "replay"))


async def test_of_several_processes_the_one_with_the_first_partition_of_replay_does_it() -> None:
    """It looks as soon as it has it, and again and again; another one, and one that has lost it, does nothing."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append([old(1)])
    topics = retry_topics(log, clock=clock, tiers=(60.0,))
    topics.apply([60.0])
    (replay,) = (feed for feed in topics.feeds if feed.topic == retry_records.REPLAY)
    running = asyncio.create_task(Takeover(log, topics, known=lambda: ["billing"], is_shared=True, clock=clock).run())

    async def moved() -> int:
        await turns(100)
        return len(log.topic("retry.60s"))

    replay.assigned({"replay-1": 0})
    assert 0 == await moved()
    replay.assigned({"replay-0": 0})
    assert 1 == await moved()
    await log.append([old(2)])
    assert 1 == await moved()
    clock.advance(60.0)
    assert 2 == await moved()
    await replay.revoked(["replay-0"])
    await log.append([old(3)])
    clock.advance(600.0)
    assert 2 == await moved()
    replay.assigned({"replay-0": 0})
    assert 3 == await moved()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_on_the_journal_old_topics_are_delivered_once_after_an_upgrade(tmp_path: Path) -> None:
    """A start with what the version before left; the next start finds nothing to do."""
    journal = Journal(tmp_path, Retention(max_bytes=2**30, max_age_s=10**6))
    await journal.start()
    await journal.cursors.load(OLD, [OLD], [OLD], start="earliest")
    await journal.append([old(number) for number in range(1, 701)])
    await journal.append([old(1000, "replay.billing"), old(1001, "retry.billing.7s")])
    journal.cursors.commit(OLD, OLD, 200)  # these were delivered
    await journal.stop()
    async with Receiver() as receiver:
        settings = subscriber("billing", receiver.url)
        for _ in range(2):
            async with gateway(tmp_path, settings) as (log, _):
                await receiver.until_delivered(502)
                await until(lambda: log.positions().get(("gateway.retry", "replay")) == 1)
    assert [*range(201, 701), 1000, 1001] == sorted(post.number for post in receiver.posts)


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
