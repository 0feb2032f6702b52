from __future__ import annotations

from collections import Counter

import pytest

from gateway.clock import SystemClock
from gateway.fanout import dead_letters
from gateway.fanout.attempts import AttemptWriter, attempts_of
from gateway.fanout.replay import Selection, replay
from gateway.fanout.retry import RetryPolicy
from tests.fanout.events import entries, entry, in_order
from tests.fanout.manual_clock import ManualClock
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver, ok, status
from tests.fanout.running import make, running, subscription, webhook
from tests.fanout.test_subscriptions import subscriber
from tests.waiting import until

CLOCK = SystemClock()
BILLING = subscriber("billing", "http://127.0.0.1:1/")


@pytest.fixture
async def log() -> MemoryLog:
    """Ten receipts and ten others, one each second from 1000 on."""
    seconds = iter(range(1000, 2000))
    made = MemoryLog(partitions=2, now=lambda: float(next(seconds)))
    for number in range(1, 21):
        type_ = "nxcloud.sms.dr" if number % 2 else "nxcloud.did.dr"
        await made.append([entry(number, f"key-{number % 4}", type_=type_)])
    made.now = CLOCK.now
    return made


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (Selection(), range(1, 21)),
        (Selection(since=1010.0), range(11, 21)),
        (Selection(since=1005.0, until=1008.0), [6, 7, 8]),
        (Selection(ids=frozenset({entry(3).id, entry(4).id})), [3, 4]),
        (Selection(types=frozenset({"nxcloud.did.dr"})), range(2, 21, 2)),
        (Selection(types=frozenset({"nxcloud.did.dr"}), until=1004.0), [2, 4]),
        (Selection(types=frozenset({"no.such"})), []),
    ],
)
async def test_selections(log: MemoryLog, selection: Selection, numbers: list[int]) -> None:
    """By id, time and type; a dry run counts the same and stores nothing."""
    counted = await replay(log, BILLING, selection, clock=CLOCK, is_dry_run=True)
    assert (counted.events, log.topic("replay")) == (len(numbers), [])
    done = await replay(log, BILLING, selection, clock=CLOCK)
    assert done.by_type == counted.by_type
    assert {record.id for record in log.topic("replay")} == {entry(number).id for number in numbers}


async def test_replayed_events_arrive_with_same_id_and_bytes_in_order_and_marked(log: MemoryLog) -> None:
    """Through the normal path: the subscriber sees the same events again, and that they are replays."""
    async with Receiver() as receiver, running(log, receiver.url):
        await receiver.until_delivered(20)
        await replay(log, BILLING, Selection(), clock=CLOCK)
        await receiver.until(lambda: len(receiver.delivered) == 40)
    first, again = receiver.delivered[:20], receiver.delivered[20:]
    assert {(post.id, post.body) for post in first} == {(post.id, post.body) for post in again}
    assert {post.headers.get("gateway-replay") for post in first} == {None}
    assert {post.headers.get("gateway-replay") for post in again} == {"true"}
    receiver.delivered = again
    assert in_order(receiver.numbers_by_key())


async def test_what_was_filtered_can_be_sent_all_the_same(log: MemoryLog) -> None:
    """Nothing that a filter left out is beyond replay."""
    picky = subscriber("billing", "http://127.0.0.1:1/", filter={"exact": {"type": "nxcloud.sms.dr"}})
    assert (await replay(log, picky, Selection(), clock=CLOCK, is_dry_run=True)).events == 10
    assert (await replay(log, picky, Selection(is_filtered=False), clock=CLOCK, is_dry_run=True)).events == 20


async def test_rate_cap_spreads_the_replay() -> None:
    """Each copy is due when the cap lets it, and not earlier."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append(entries(10))
    clock.advance(1.0)
    await replay(log, BILLING, Selection(), clock=clock, rate_per_s=2.0)
    due = [float(dict(record.headers)["gateway-due"]) - clock.now() for record in log.topic("replay")]
    assert due == pytest.approx([number / 2 for number in range(10)], abs=0.01)


async def test_dead_letters_are_listed_and_replayed_by_reason() -> None:
    """After a fix, what was given up goes out again; the letter tells what had happened."""
    log = MemoryLog()
    await log.append(entries(6, 6))
    once = RetryPolicy(attempts=1)
    async with Receiver(status(422, text="bad order")) as receiver, running(log, receiver.url, retry=once):
        await until(lambda: len(log.topic("dlq.billing")) == 6)
        letters = await dead_letters.find(log, "billing")
        assert [letter.offset for letter in letters] == list(range(6))
        assert {(letter.reason, letter.attempts, letter.last_status, letter.last_response) for letter in letters} == {
            ("attempts", 1, "422", "bad order")
        }
        assert await dead_letters.find(log, "billing", reasons=["age"]) == []
        assert len(await dead_letters.find(log, "billing", limit=2)) == 2
        receiver.answer = ok
        none = await replay(log, BILLING, Selection(is_from_dlq=True, reasons=frozenset({"age"})), clock=CLOCK)
        all_ = await replay(log, BILLING, Selection(is_from_dlq=True, reasons=frozenset({"attempts"})), clock=CLOCK)
        assert (none.events, all_.events) == (0, 6)
        await receiver.until_delivered(6)
    assert {post.id for post in receiver.delivered} == {letter.id for letter in letters}


async def test_every_attempt_can_be_told_afterwards() -> None:
    """Explain: when, by whom, with what result, which attempt, and what became of the event."""
    log = MemoryLog()
    attempts = AttemptWriter(log, clock=CLOCK)
    one = entry(1)
    await log.append([one])
    async with Receiver(status(500)) as receiver:
        reader = make(
            log,
            webhook(receiver.url),
            subscription(retry=RetryPolicy(attempts=3, first_delay_s=0.01, max_delay_s=0.01)),
            writer=attempts,
        )
        reader.start()
        await receiver.until(lambda: len(receiver.posts) == 2)
        receiver.answer = ok
        await receiver.until_delivered(1)
        await reader.stop(1.0)
    await attempts.stop()
    told = await attempts_of(log, one.id, clock=CLOCK)
    assert [(attempt.subscriber, attempt.outcome, attempt.result, attempt.number) for attempt in told] == [
        ("billing", "retried", "500", 1),
        ("billing", "retried", "500", 2),
        ("billing", "delivered", "200", 3),
    ]
    assert await attempts_of(log, entry(2).id, clock=CLOCK) == []
    assert Counter(record.topic for record in log.topic("fanout.attempts")) == {"fanout.attempts": 1}
