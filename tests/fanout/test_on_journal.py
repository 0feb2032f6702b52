"""The same fan-out on the real journal: what is written to the log comes back from the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.fanout import dead_letters
from gateway.fanout.attempts import attempts_of
from gateway.fanout.replay import Selection, replay
from gateway.fanout.sse import EventStream
from gateway.fanout.subscriptions import FanOut
from gateway.log.journal import Journal, Retention
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry, in_order, repeats
from tests.fanout.receiver import Receiver, ok, status
from tests.fanout.test_sse import numbers, take
from tests.fanout.test_subscriptions import subscriber

CLOCK = SystemClock()


@asynccontextmanager
async def gateway(folder: Path, *subscribers: Subscriber) -> AsyncIterator[tuple[Journal, FanOut]]:
    journal = Journal(folder, Retention(max_bytes=2**30, max_age_s=10**6))
    await journal.start()
    fanout = FanOut(journal, subscribers, metrics=Metrics(CollectorRegistry()))
    fanout.start()
    await fanout.is_started.wait()
    try:
        yield journal, fanout
    finally:
        await fanout.stop(5.0)
        await journal.stop()


async def test_delivers_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Everything once over three lives of the process, in order."""
    async with Receiver() as receiver:
        settings = subscriber("billing", receiver.url)
        for life in range(3):
            async with gateway(tmp_path, settings) as (journal, _):
                await journal.append(entries(700, 30, first=1 + life * 700))
                await receiver.until_delivered((life + 1) * 700)
    assert repeats([post.id for post in receiver.posts]) == 0
    assert in_order(receiver.numbers_by_key())


async def test_a_bad_event_is_parked_given_up_told_of_and_replayed(tmp_path: Path) -> None:
    """The whole way of one event that fails: retry tier, dead letter, explain, replay."""
    retry = {"attempts": 3, "first_delay_s": 0.05, "max_delay_s": 0.05, "tiers": [0.001]}
    async with Receiver(status(422, text="no")) as receiver:
        settings = subscriber("billing", receiver.url, retry=retry)
        async with gateway(tmp_path, settings) as (journal, _):
            await journal.append([entry(1)])
            await receiver.until(lambda: len(receiver.posts) == 3)
        async with gateway(tmp_path, settings) as (journal, _):
            (letter,) = await dead_letters.find(journal, "billing")
            assert (letter.id, letter.attempts, letter.last_status, len(letter.steps)) == (entry(1).id, 3, "422", 3)
            assert letter.origin == "sms.dr@events:0"
            told = await attempts_of(journal, entry(1).id, clock=CLOCK)
            assert [attempt.number for attempt in told] == [1, 2, 3]
            assert told[-1].outcome == "dead_lettered"
            receiver.answer = ok
            await replay(journal, settings, Selection(is_from_dlq=True), clock=CLOCK)
            await receiver.until_delivered(1)
    assert len({post.body for post in receiver.posts}) == 1
    assert receiver.posts[-1].headers["gateway-replay"] == "true"


async def test_paused_stays_paused_over_a_restart(tmp_path: Path) -> None:
    """The state is in the log."""
    async with Receiver() as receiver:
        settings = subscriber("billing", receiver.url)
        async with gateway(tmp_path, settings) as (_, fanout):
            fanout.pause("billing")
        async with gateway(tmp_path, settings) as (journal, fanout):
            await journal.append(entries(3))
            assert [one.state for one in fanout.statuses()] == ["paused"]
            fanout.resume("billing")
            await receiver.until_delivered(3)
        async with gateway(tmp_path, settings) as (_, fanout):
            assert [one.state for one in fanout.statuses()] == ["closed"]


async def test_a_stream_resumes_from_the_journal(tmp_path: Path) -> None:
    """``Last-Event-ID`` over a restart of the process."""
    settings = subscriber("console", kind="stream")
    async with gateway(tmp_path) as (journal, _):
        await journal.append(entries(10))
        client = EventStream(journal, settings, clock=CLOCK).events()
        seen = await take(client, 10)
        await client.aclose()  # type: ignore[attr-defined]
    async with gateway(tmp_path) as (journal, _):
        await journal.append(entries(5, first=11))
        client = EventStream(journal, settings, clock=CLOCK).events(seen[4]["id"])
        missed = await take(client, 10)
        await client.aclose()  # type: ignore[attr-defined]
    assert numbers(missed) == list(range(6, 16))
