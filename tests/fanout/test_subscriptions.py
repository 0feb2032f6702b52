from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.config.settings import Subscriber
from gateway.errors import ConfigError
from gateway.fanout.partition_queue import SETTLE_S
from gateway.fanout.subscription import problems, why_skipped
from gateway.fanout.subscriptions import FanOut, UnknownSubscriber
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry, in_order, repeats
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver, ok, status
from tests.fanout.running import SECRET
from tests.waiting import pause, until


def subscriber(name: str, url: str = "", **options: object) -> Subscriber:
    known = {"url": url} if url else {}
    return Subscriber.model_validate(
        {
            "name": name,
            "topics": ["sms.dr"],
            "secrets": [SECRET],
            "allow_private": True,
            "start": "earliest",
            **known,
            **options,
        }
    )


def make(log: MemoryLog, *subscribers: Subscriber) -> FanOut:
    return FanOut(log, subscribers, load_wait_s=0.01, metrics=Metrics(CollectorRegistry()))


@asynccontextmanager
async def running(log: MemoryLog, *subscribers: Subscriber) -> AsyncIterator[FanOut]:
    fanout = make(log, *subscribers)
    fanout.start()
    await fanout.is_started.wait()
    try:
        yield fanout
    finally:
        await fanout.stop(2.0)


async def test_each_subscriber_gets_everything() -> None:
    """Every subscriber has a cursor of its own."""
    log = MemoryLog()
    await log.append(entries(200, 10))
    async with (
        Receiver() as one,
        Receiver() as two,
        running(log, subscriber("one", one.url), subscriber("two", two.url)),
    ):
        await one.until_delivered(200)
        await two.until_delivered(200)
    assert [200, 200] == [log.committed[f"gateway.{name}", "events-0"] for name in ("one", "two")]


@pytest.mark.quiet
async def test_dead_and_hanging_subscribers_do_not_change_the_rate_of_a_healthy_one() -> None:
    """Before and during, in one run: within 10 %. The receiver's delay is the pace, not this machine."""

    async def paced(_: Post) -> web.StreamResponse:
        await pause(0.02, "a slow subscriber")
        return web.Response()

    async def hang(_: Post) -> web.StreamResponse:
        await pause(30, "one that hangs")
        return web.Response()

    log = MemoryLog()
    async with Receiver(paced) as healthy, Receiver(status(500)) as dead, Receiver(hang) as hanging:
        options = {"concurrency": 4, "timeout_s": 5}
        well = subscriber("well", healthy.url, **options)
        async with running(log, well) as fanout:

            async def rate(first: int, count: int) -> float:
                await log.append(entries(count, 40, first=first))
                started = time.monotonic()
                await healthy.until_delivered(first + count - 1)
                return count / (time.monotonic() - started)

            await rate(1, 40)  # connections and code are warm
            alone = await rate(41, 600)
            ill = [subscriber("dead", dead.url, concurrency=32), subscriber("hanging", hanging.url, concurrency=32)]
            await fanout.apply([well, *ill])
            await dead.until(lambda: len(dead.posts) >= 10)
            await hanging.until(lambda: len(hanging.posts) >= 10)
            beside = await rate(641, 600)
    assert abs(beside / alone - 1) < 0.10
    assert in_order(healthy.numbers_by_key())
    assert 0 == repeats([post.id for post in healthy.posts])


async def test_apply_leaves_the_unchanged_alone_and_changes_the_rest() -> None:
    """Added ones start, removed ones stop, a changed one goes on where it stood, an unchanged one is not touched."""
    log = MemoryLog()
    await log.append(entries(10, 5))
    async with Receiver() as kept, Receiver() as gone, Receiver() as before, Receiver() as after, Receiver() as new:
        stays = subscriber("kept", kept.url)
        async with running(log, stays, subscriber("gone", gone.url), subscriber("moved", before.url)) as fanout:
            for receiver in (kept, gone, before):
                await receiver.until_delivered(10)
            untouched = fanout._running["kept"][1]
            await fanout.apply([stays, subscriber("moved", after.url), subscriber("new", new.url)])
            await log.append(entries(10, 5, first=11))
            await kept.until_delivered(20)
            await after.until_delivered(10)
            await new.until_delivered(20)
            assert untouched is fanout._running["kept"][1]
            assert ["kept", "moved", "new"] == [one.name for one in fanout.statuses()]
    assert (10, 10) == (len(gone.posts), len(before.posts))
    assert 0 == repeats([post.id for post in before.posts + after.posts])


async def test_a_bad_configuration_changes_nothing() -> None:
    """A refused reload leaves the old subscribers in force."""
    log = MemoryLog()
    async with Receiver() as receiver:
        good = subscriber("good", receiver.url)
        async with running(log, good) as fanout:
            with pytest.raises(ConfigError):
                await fanout.apply([subscriber("good", receiver.url, filter={"exactly": {}})])
            await log.append(entries(3))
            await receiver.until_delivered(3)


def test_everything_wrong_is_said_at_once_with_key_paths(tmp_path: Path) -> None:
    """``gateway check`` shows all problems of all subscribers."""
    (tmp_path / "ca.pem").write_text("not a certificate")
    bad = subscriber(
        "bad",
        "https://example.com/",
        filter={"exactly": {"type": "x"}},
        secrets=["whsec_short"],
        allow=["10.0.0.1/8"],
        headers={"webhook-id": "mine", "x-ok": "fine", "x-bad": "line\nbreak"},
        transform={"exclude": ["id"], "include": ["Data"]},
        tls={"ca_file": str(tmp_path / "ca.pem")},
    )
    other = subscriber("other", "https://example.com/", tls={"key_file": "k"})
    found = {problem.split(": ")[0] for problem in problems([bad, other])}
    assert {
        "subscribers[bad].filter.exactly",
        "subscribers[bad].secrets[0]",
        "subscribers[bad].allow[0]",
        "subscribers[bad].headers.webhook-id",
        "subscribers[bad].headers.x-bad",
        "subscribers[bad].transform.exclude",
        "subscribers[bad].transform.include[0]",
        "subscribers[bad].tls.ca_file",
        "subscribers[other].tls.key_file",
    } == found


@pytest.mark.parametrize(
    ("value", "why"),
    [(entry(1).value, None), (entry(2).value, "filter.exact.data.number"), (b"{", "filter"), (b"[]", "filter")],
)
def test_why_an_event_was_skipped_can_be_told(value: bytes, why: str | None) -> None:
    """Explain names the part of the configuration that said no."""
    picky = subscriber("picky", "https://example.com/", filter={"exact": {"data.number": 1}})
    assert why_skipped(picky, value) == why
    assert why_skipped(subscriber("all", "https://example.com/"), value) is None


async def test_paused_outlives_a_restart_and_holds_in_every_process() -> None:
    """A pause is kept in the log: the next process finds it, another one that runs hears of it."""
    log = MemoryLog()
    async with Receiver() as receiver:
        settings = subscriber("billing", receiver.url)
        async with running(log, settings) as fanout:
            fanout.pause("billing")
        other = FanOut(log, [settings], load_wait_s=0.01, instance="other", metrics=Metrics(CollectorRegistry()))
        async with running(log, settings) as fanout:
            assert ["paused"] == [one.state for one in fanout.statuses()]
            await log.append(entries(5))
            other.start()
            await other.is_started.wait()
            assert ["paused"] == [one.state for one in other.statuses()]
            fanout.resume("billing")
            await receiver.until_delivered(5)
            await until(lambda: other.statuses()[0].state == "closed", within_s=10)
            await other.stop(1.0)


async def test_a_stop_by_410_outlives_a_restart_and_ends_with_a_new_address() -> None:
    """Gone is gone until a person resumes it, or gives another address."""
    log = MemoryLog()
    await log.append(entries(5))
    async with Receiver(status(410)) as gone, Receiver() as new:
        settings = subscriber("billing", gone.url)
        async with running(log, settings) as fanout:
            await gone.until(lambda: len(gone.posts) == 1)
            await until(lambda: fanout._running["billing"][1].flow.status == "stopped")
        gone.answer = ok
        async with running(log, settings) as fanout:
            assert [("stopped", "gone")] == [(one.state, one.stopped) for one in fanout.statuses()]
            await fanout.apply([subscriber("billing", new.url)])
            await new.until_delivered(5)
    assert 1 == len(gone.posts)


async def test_unknown_subscribers_are_named() -> None:
    """A pause of nobody is an error that the caller can show."""
    fanout = make(MemoryLog())
    with pytest.raises(UnknownSubscriber, match="'nobody'"):
        fanout.pause("nobody")


async def test_stop_may_come_before_the_start_and_twice() -> None:
    """The owner need not know how far the start came."""
    fanout = make(MemoryLog())
    await fanout.stop(1.0)
    fanout.start()
    await fanout.stop(1.0)
    other = make(MemoryLog())
    other.start()
    await other.stop(1.0)
    await other.stop(1.0)


async def test_stop_cuts_slow_attempts_where_others_share_the_log() -> None:
    """As a rebalance does: our partitions are read by nobody until we have left, or are back."""
    hold = asyncio.Event()

    async def hang(_: Post) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    log = MemoryLog()
    async with Receiver(hang) as receiver:
        fanout = FanOut(
            log,
            [subscriber("slow", receiver.url)],
            keeps_times=True,
            load_wait_s=0.01,
            metrics=Metrics(CollectorRegistry()),
        )
        fanout.start()
        await fanout.is_started.wait()
        await log.append(entries(3, 3))
        await receiver.until(lambda: len(receiver.posts) == 3)
        started = time.monotonic()
        await fanout.stop(60.0)
        assert SETTLE_S <= time.monotonic() - started < 30.0
        hold.set()
    assert not log.committed.get(("gateway.slow", "events-0"))


async def test_who_is_quick_is_delivered_to_while_a_slow_one_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others share the log: its events would wait for a slow attempt, and then for the process to come back."""
    monkeypatch.setattr("gateway.fanout.subscriptions.SETTLE_S", 60.0)
    is_over = asyncio.Event()

    async def hang(_: Post) -> web.StreamResponse:
        await is_over.wait()
        return web.Response()

    log = MemoryLog()
    async with Receiver(hang) as slow, Receiver() as quick:
        fanout = FanOut(
            log,
            [subscriber("slow", slow.url), subscriber("quick", quick.url)],
            keeps_times=True,
            load_wait_s=0.01,
            metrics=Metrics(CollectorRegistry()),
        )
        fanout.start()
        await fanout.is_started.wait()
        await log.append([entry(1)])
        await slow.until(lambda: len(slow.posts) == 1)
        await quick.until_delivered(1)
        stopping = asyncio.create_task(fanout.stop(60.0))
        await until(lambda: "slow" not in fanout._running)
        await log.append([entry(2, "another")])
        await quick.until_delivered(2)
        assert not stopping.done()
        is_over.set()
        await stopping
        assert len(slow.posts) == 1
    assert log.committed["gateway.slow", "events-0"] == 1
    assert log.committed["gateway.quick", "events-0"] == 2


async def test_stop_while_the_log_does_not_answer_takes_seconds() -> None:
    """States, attempts and cursors wait to be written: the process still ends in the time that it has."""
    log = MemoryLog()
    await log.append(entries(3))
    async with Receiver() as receiver, running(log, subscriber("one", receiver.url)) as fanout:
        await receiver.until_delivered(3)
        log.is_silent = True
        fanout.pause("one")
        started = time.monotonic()
        await fanout.stop(1.0)
        assert time.monotonic() - started < 9.0


async def test_a_subscriber_that_is_gone_has_no_lag() -> None:
    """Its last values would otherwise stand there, and alarm, until the process ends. What was counted stays."""
    log, clock, metrics = MemoryLog(), ManualClock(), Metrics(CollectorRegistry())
    await log.append(entries(1))
    async with Receiver() as receiver:
        stays = subscriber("stays", receiver.url)
        fanout = FanOut(log, [stays, subscriber("gone", receiver.url)], load_wait_s=0.01, metrics=metrics, clock=clock)
        fanout.start()
        await fanout.is_started.wait()
        await receiver.until(lambda: len(receiver.delivered) == 2)
        clock.advance(5.0)
        await until(lambda: _series("gone", metrics) >= GAUGES)
        await fanout.apply([stays])
        clock.advance(5.0)
        await turns()
        assert GAUGES <= _series("stays", metrics)
        assert not GAUGES & _series("gone", metrics)
        assert "gateway_deliveries_total" in _series("gone", metrics)
        await fanout.stop(1.0)


GAUGES = {"gateway_subscriber_lag_records", "gateway_delivery_in_flight"}


def _series(name: str, metrics: Metrics) -> set[str]:
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return {sample.name for sample in samples if sample.labels.get("subscriber") == name}


async def test_metrics_tell_lag_and_outcomes() -> None:
    """What is delivered is counted, by subscriber and outcome."""
    log = MemoryLog()
    await log.append(entries(7))
    metrics = Metrics(CollectorRegistry())
    async with Receiver() as receiver:
        fanout = FanOut(log, [subscriber("billing", receiver.url)], load_wait_s=0.01, metrics=metrics)
        fanout.start()
        await receiver.until_delivered(7)
        await fanout.stop(1.0)
    labels = {"subscriber": "billing", "outcome": "delivered"}
    assert 7 == metrics.registry.get_sample_value("gateway_deliveries_total", labels)
    assert 7 == metrics.registry.get_sample_value("gateway_delivery_attempt_seconds_count", {"subscriber": "billing"})
