"""Events that end as parked ones or dead letters: what the log refuses, and what nobody takes."""

from __future__ import annotations

import logging

import orjson
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.fanout import retry_records
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.transform import Transform
from gateway.log import Record
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Post, Receiver, status
from tests.fanout.running import make, running, subscription, webhook
from tests.fanout.test_reader import GROUP, QUICK
from tests.waiting import until


async def test_given_up_events_become_dead_letters_with_their_story() -> None:
    """After the last attempt: reason, attempts, history, last answer, origin, the bytes; the others go on."""

    async def refuse_one(post: Post) -> web.StreamResponse:
        return web.Response(status=422, text="no such order") if post.number == 3 else web.Response()

    log = MemoryLog()
    await log.append(entries(9, 3))
    async with Receiver(refuse_one) as receiver, running(log, receiver.url, retry=QUICK):
        await until(lambda: log.committed.get((GROUP, "events-0")) == 9)
    (letter,) = log.topic("dlq.billing")
    headers = dict(letter.headers)
    assert entries(9, 3)[2].value == letter.value
    assert (f"{3:032x}", "key-2") == (letter.id, letter.key)
    assert ("attempts", "3", "422") == (
        headers["gateway-reason"],
        headers["gateway-attempts"],
        headers["gateway-last-status"],
    )
    assert "no such order" == headers["gateway-last-response"]
    assert "sms.dr@events-0:2" == headers["gateway-origin"]
    assert ["422", "422", "422"] == [step[1] for step in orjson.loads(headers["gateway-trail"])]
    assert float(headers["gateway-first-attempt-at"]) <= float(headers["gateway-last-attempt-at"])
    assert [6, 9] == receiver.numbers_by_key()["key-2"]


async def test_a_dead_letter_that_the_log_refuses_is_tried_again_and_the_cursor_waits() -> None:
    """An append that raises NotNow loses nothing: the position stays before the event until it is stored."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append(entries(3, 3))
    log.failing_appends = 2
    async with (
        Receiver(status(400)) as receiver,
        running(log, receiver.url, retry=RetryPolicy(attempts=1), clock=clock),
    ):
        await until(lambda: log.appends == 4 and log.committed.get((GROUP, "events-0"), 0) < 3)
        while log.committed.get((GROUP, "events-0"), 0) < 3:
            clock.advance(1.0)
            await turns()
    assert 3 == len(receiver.posts)
    assert {1, 2, 3} == {orjson.loads(letter.value)["data"]["number"] for letter in log.topic("dlq.billing")}


async def test_long_waits_are_parked_and_delivered_from_their_tier_in_time() -> None:
    """A wait as long as a tier goes to its topic: the cursor and the key go on, the event comes when it is due."""
    clock = ManualClock()
    is_refusing = True

    async def refuse_first(post: Post) -> web.StreamResponse:
        return web.Response(status=500 if is_refusing and post.number == 1 else 200)

    log = MemoryLog(now=clock.now)
    await log.append(entries(4, 1))
    policy = RetryPolicy(attempts=5, first_delay_s=10_000.0, max_delay_s=10_000.0)
    async with Receiver(refuse_first) as receiver, running(log, receiver.url, retry=policy, clock=clock) as reader:
        await until(lambda: log.committed.get((GROUP, "events-0")) == 4)
        (parked,) = [record for name in ("60s", "600s") for record in log.topic(f"retry.{name}")]
        headers = dict(parked.headers)
        due = float(headers["gateway-due"])
        assert parked.topic == ("retry.600s" if due - clock.now() >= 600 else "retry.60s")
        assert "1" == headers["gateway-attempts"]
        assert [2, 3, 4] == receiver.numbers_by_key()["key-0"]
        is_refusing = False
        await until(lambda: reader.outstanding == 1)
        clock.advance_to(due - 0.5)
        await turns()
        assert (0, 4) == (reader.in_flight, len(receiver.posts))
        clock.advance(1.0)
        await receiver.until_delivered(4)
        await until(lambda: log.committed.get(("gateway.retry", parked.topic)) == 1)
    assert 0 == len(log.topic("dlq.billing"))
    assert receiver.posts[0].body == receiver.posts[-1].body


async def test_on_failure_block_keeps_the_key_behind_whatever_the_wait() -> None:
    """With ``block`` nothing is parked: the key waits in memory, others go on, the cursor stays."""
    clock = ManualClock()
    is_refusing = True

    async def refuse_first(post: Post) -> web.StreamResponse:
        return web.Response(status=500 if is_refusing and post.number == 1 else 200)

    log = MemoryLog(now=clock.now)
    await log.append(entries(6, 2))
    policy = RetryPolicy(attempts=5, first_delay_s=10_000.0, max_delay_s=10_000.0)
    async with (
        Receiver(refuse_first) as receiver,
        running(log, receiver.url, retry=policy, clock=clock, on_failure="block") as reader,
    ):
        await receiver.until_delivered(3)
        await until(lambda: reader.outstanding == 3 and reader.in_flight == 0)
        assert {"key-1": [2, 4, 6]} == receiver.numbers_by_key()
        assert (GROUP, "events-0") not in log.committed or log.committed[GROUP, "events-0"] == 0
        is_refusing = False
        clock.advance(10_001)
        await receiver.until_delivered(6)
        await until(lambda: reader.in_flight == 0)
    assert [1, 3, 5] == receiver.numbers_by_key()["key-0"]
    assert [] == [name for name in log.records if name.startswith("retry.")]
    assert 6 == log.committed[GROUP, "events-0"]


async def test_replays_go_the_normal_way_with_their_mark() -> None:
    """A record of the replay topic is delivered with the same id and bytes and ``gateway-replay: true``."""
    log = MemoryLog()
    one = entry(1)
    await log.append([retry_records.replay(Record("events-0", 0, 0.0, *one), 0.0, "billing")])
    async with Receiver() as receiver, running(log, receiver.url):
        await receiver.until_delivered(1)
        await until(lambda: log.committed.get(("gateway.retry", "replay")) == 1)
    (post,) = receiver.posts
    assert ("true", one.id, one.value) == (post.headers["gateway-replay"], post.id, post.body)


async def test_poison_becomes_a_dead_letter_at_once_and_the_others_go_on() -> None:
    """A record that can never be sent, as its transform cannot read it, holds up nobody."""
    log = MemoryLog()
    one, two = entries(2, 1)
    await log.append([one._replace(value=b"not json"), two])
    async with Receiver() as receiver:
        reader = make(log, webhook(receiver.url, transform=Transform(exclude=["data.raw"])), subscription())
        reader.start()
        await receiver.until_delivered(1)
        await until(lambda: log.committed.get((GROUP, "events-0")) == 2)
        await reader.stop(1.0)
    (letter,) = log.topic("dlq.billing")
    assert (letter.value, dict(letter.headers)["gateway-reason"]) == (b"not json", "poison")
    assert [post.number for post in receiver.posts] == [2]


async def test_a_dead_letter_that_is_too_large_is_stored_with_the_least_of_its_headers() -> None:
    """A trail makes a record larger than the event was; where the log refuses it for that, the event is kept."""
    log = MemoryLog()
    one, two = entries(2, 2)
    log.max_bytes["dlq.billing"] = len(one.value) + 200
    await log.append([one, two])

    async def refuse_one(post: Post) -> web.StreamResponse:
        return web.Response(status=422, text="x" * 1000) if post.number == 1 else web.Response()

    async with Receiver(refuse_one) as receiver, running(log, receiver.url, retry=QUICK):
        await until(lambda: log.committed.get((GROUP, "events-0")) == 2)
    (letter,) = log.topic("dlq.billing")
    headers = dict(letter.headers)
    assert one.value == letter.value
    assert ("attempts", "422", "3", "sms.dr@events-0:0") == tuple(
        headers[f"gateway-{name}"] for name in ("reason", "last-status", "attempts", "origin")
    )


async def test_a_parked_event_that_is_too_large_becomes_a_dead_letter() -> None:
    """What its retry topic will never take does not hold the position; the dead letter says why."""
    log = MemoryLog()
    log.max_bytes["retry.60s"] = 100
    await log.append(entries(1))
    async with Receiver(status(500, headers={"Retry-After": "90"})) as receiver, running(log, receiver.url):
        await until(lambda: log.committed.get((GROUP, "events-0")) == 1)
    (letter,) = log.topic("dlq.billing")
    headers = dict(letter.headers)
    assert ("poison", "retry.60s: ") == (headers["gateway-reason"], headers["gateway-last-detail"][:11])
    assert ["500", "poison"] == [step[1] for step in orjson.loads(headers["gateway-trail"])]


async def test_what_the_log_takes_in_no_form_is_counted_as_lost_and_the_others_go_on() -> None:
    """An event that can be neither delivered nor stored holds up nobody, and is named."""
    log = MemoryLog()
    log.max_bytes["dlq.billing"] = 10
    await log.append(entries(3, 3))

    async def refuse_one(post: Post) -> web.StreamResponse:
        return web.Response(status=422 if post.number == 1 else 200)

    metrics = Metrics(CollectorRegistry())
    async with Receiver(refuse_one) as receiver:
        reader = make(log, webhook(receiver.url), subscription(retry=QUICK), metrics=metrics)
        reader.start()
        with structlog.testing.capture_logs() as lines:
            await until(lambda: log.committed.get((GROUP, "events-0")) == 3)
        await reader.stop(1.0)
    labels = {"subscriber": "billing", "outcome": "lost"}
    assert 1 == metrics.registry.get_sample_value("gateway_deliveries_total", labels)
    (line,) = [line for line in lines if line["event"] == "delivery.lost"]
    assert (f"{1:032x}", "events-0", 0) == (line["id"], line["partition"], line["offset"])


class BrokenSink:
    """A fault of ours, not of the subscriber."""

    async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
        raise ZeroDivisionError

    async def close(self) -> None:
        pass


async def test_a_fault_of_ours_ends_as_a_dead_letter_too() -> None:
    """Whatever breaks in an attempt, the worker lives and the retries end."""
    log = MemoryLog()
    await log.append(entries(2, 1))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    reader = make(log, BrokenSink(), subscription(retry=QUICK, concurrency=1))
    reader.start()
    await until(lambda: len(log.topic("dlq.billing")) == 2)
    await reader.stop(1.0)
    assert {dict(letter.headers)["gateway-last-status"] for letter in log.topic("dlq.billing")} == {"internal"}
