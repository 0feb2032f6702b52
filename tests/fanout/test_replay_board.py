"""What every process knows of replays: numbers, progress, cancellation, replays that broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.clock import SystemClock
from gateway.fanout.attempts import attempts_of
from gateway.fanout.replay import Replayed, Selection, replay
from gateway.fanout.replay_board import TOPIC, NotAvailable, ReplayBoard
from gateway.fanout.subscriptions import FanOut
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver
from tests.fanout.test_subscriptions import subscriber
from tests.waiting import until

CLOCK = SystemClock()
ALL = Selection().document()


@asynccontextmanager
async def board(log: MemoryLog, *, is_alone: bool = False) -> AsyncIterator[ReplayBoard]:
    made = ReplayBoard(log, clock=CLOCK, instance="here", is_alone=is_alone)
    await made.start()
    try:
        await made.known()
        yield made
    finally:
        await made.stop()


async def test_two_processes_never_share_a_number_and_know_each_others_replays() -> None:
    """Begun at the same moment in both, and known in both and after a restart, with all that was asked for."""
    log = MemoryLog()
    selection = Selection(
        since=5.0, until=9.0, ids=frozenset({"b", "a"}), is_from_dlq=True, state="all", after={"p": 3}
    )
    async with board(log) as one, board(log) as other:
        begun = await asyncio.gather(
            *(which.begin("billing", selection.document(), 2.0) for which in (one, other, one, other))
        )
        assert {1, 2, 3, 4} == {job.number for job in begun}
        job = begun[0]
        await log.append([one.progress(job, 10, {"events-0": 12})])
        await one.ended(job, "done", stored=11, found={"looked_at": 20})
        await until(lambda: (other.get(job.number) or job).state == "done")
    async with board(log) as later:
        found = later.get(job.number)
        assert found is not None
        assert ("done", 11, {"events-0": 12}, 2.0, {"looked_at": 20}) == (
            found.state,
            found.stored,
            found.positions,
            found.rate_per_s,
            found.found,
        )
        assert selection == Selection.parse(found.selection)
        assert 5 == (await later.begin("billing", ALL, None)).number


async def test_a_replay_whose_process_died_is_interrupted() -> None:
    """At once where no other process can run it; otherwise when it was not heard of for a while."""
    log = MemoryLog()
    async with board(log) as one:
        job = await one.begin("billing", ALL, None)
        assert "running" == job.state
    async with board(log, is_alone=True) as later:
        (found,) = later.replays()
        assert ("interrupted", job.number) == (found.state, found.number)
    async with board(log) as elsewhere:
        assert ["running"] == [found.state for found in elsewhere.replays()]
        elsewhere.replays()[0].heard_at -= 100.0
        assert ["interrupted"] == [found.state for found in elsewhere.replays()]


async def test_nothing_begins_while_the_record_cannot_be_read() -> None:
    log = MemoryLog()
    async with board(log) as before:
        await before.begin("billing", ALL, None)
    log.failing_fetches = 10**6
    made = ReplayBoard(log, clock=CLOCK, instance="here", is_alone=True)
    await made.start()
    try:
        with pytest.raises(NotAvailable):
            await made.begin("billing", ALL, None)
        with pytest.raises(NotAvailable):
            made.replays()
    finally:
        await made.stop()
    assert 1 == len(log.topic(TOPIC))


async def test_a_cancelled_replay_is_withdrawn_and_counted_in_every_process() -> None:
    """Copies that are not under way are delivered no more, wherever it was cancelled; ordinary events go on."""
    log = MemoryLog()
    await log.append(entries(30, 1))
    is_held, reached = asyncio.Event(), asyncio.Event()

    async def hold(post: Post) -> web.StreamResponse:
        if post.headers.get("gateway-replay"):
            reached.set()
            await is_held.wait()
        return web.Response()

    async with Receiver(hold) as receiver, board(log) as one, board(log) as other:
        billing = subscriber("billing", receiver.url, concurrency=1)
        fanout = FanOut(log, [billing], load_wait_s=0.01, metrics=Metrics(CollectorRegistry()), replays=one)
        fanout.start()
        await receiver.until_delivered(30)
        job = await other.begin("billing", ALL, None)
        await replay(log, billing, Selection(), clock=CLOCK, name=job.name)
        await other.ended(job, "done", stored=30, found={})
        await reached.wait()
        await other.cancel(job.number)
        await until(lambda: one.is_cancelled(job.number))
        is_held.set()
        await log.append([entry(31, "key-0")])
        await receiver.until(lambda: len(receiver.delivered) == 32)
        await until(lambda: (job.count("delivered"), job.count("withdrawn")) == (1, 29))
        assert "cancelled" == job.state
        await fanout.stop(2.0)
    assert 32 == len(receiver.delivered)
    told = await attempts_of(log, entry(5).id, clock=CLOCK)
    assert [("delivered", ""), ("withdrawn", job.name)] == [(one.outcome, one.replay) for one in told]


async def test_failed_only_and_what_a_cancelled_replay_delivered_are_left_out() -> None:
    """By the record of attempts: of any delivery, or of one replay's."""
    log = MemoryLog()
    await log.append(entries(6, 6))
    async with Receiver() as receiver:
        billing = subscriber("billing", receiver.url)
        fanout = FanOut(log, [billing], load_wait_s=0.01, metrics=Metrics(CollectorRegistry()))
        fanout.start()
        await receiver.until_delivered(6)
        await replay(log, billing, Selection(ids=frozenset({entry(2).id})), clock=CLOCK, name="r-7")
        await receiver.until(lambda: len(receiver.delivered) == 7)
        await fanout.stop(2.0)
    await log.append(entries(3, 3, first=7))

    async def counted(selection: Selection) -> Replayed:
        return await replay(log, billing, selection, clock=CLOCK, is_dry_run=True)

    failed = await counted(Selection(is_failed_only=True))
    assert (3, 6, 9) == (failed.events, failed.delivered_already, failed.looked_at)
    left = await counted(Selection(delivered_by=frozenset({"r-7"})))
    assert (8, 1) == (left.events, left.delivered_already)
    assert 4 == (await counted(Selection(after={"events-0": 5}))).events
