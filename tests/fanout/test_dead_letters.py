"""The life of dead letters: open, delivered, resolved, and open again."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.clock import SystemClock
from gateway.event import parse
from gateway.fanout import dead_letters, retry_records
from gateway.fanout.dead_letters import DeadLetterIndex
from gateway.fanout.open_dead_letters import OpenDeadLetters
from gateway.fanout.replay import Selection, replay
from gateway.fanout.retry import RetryPolicy
from gateway.fanout.retry_records import AttemptHistory, Closing
from gateway.log import Entry, Record
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entries, entry
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver, ok, status
from tests.fanout.running import running
from tests.fanout.test_subscriptions import subscriber
from tests.waiting import until

CLOCK = SystemClock()
BILLING = subscriber("billing", "http://127.0.0.1:1/")
TOPIC = "dlq.billing"


def given_up(number: int, reason: str = "attempts") -> Entry:
    made = entry(number, f"key-{number}")
    record = Record("events-0", number, 1000.0, *made)
    return retry_records.dead_letter(record, TOPIC, AttemptHistory(), reason)


def closed(number: int, outcome: str = "resolved", note: str = "by hand") -> Entry:
    record = Record(TOPIC, 0, 1000.0, *given_up(number))
    return retry_records.closing(record, "billing", Closing(outcome, 1000.0, by="ann", note=note))  # type: ignore[arg-type]


def appended(made: list[Entry]) -> list[Record]:
    return [Record(TOPIC, offset, float(offset), *one) for offset, one in enumerate(made)]


_STEP = st.tuples(st.sampled_from(["attempts", "age", "delivered", "resolved"]), st.integers(1, 4))


@given(st.lists(_STEP, max_size=40), st.integers(0, 40))
def test_the_last_record_of_an_event_counts(steps: list[tuple[str, int]], begin: int) -> None:
    """Against a plain list: one open letter for each event whose last record is none that closes; retention ends it."""
    made = [given_up(number, what) if what in ("attempts", "age") else closed(number, what) for what, number in steps]
    records = appended(made)
    letters, open_only = DeadLetterIndex(keeps_closed=True), DeadLetterIndex()
    for record in records:
        letters.apply(record)
        open_only.apply(record)
    for known in (letters, open_only):
        known.forget({TOPIC: begin})
    newest = {record.id: record for record in records if not retry_records.is_closing(record)}
    kept = {id_: record for id_, record in newest.items() if record.offset >= begin}
    closing = {
        id_: next((one for one in records[record.offset :] if one.id == id_ and retry_records.is_closing(one)), None)
        for id_, record in kept.items()
    }
    is_open = {id_ for id_, one in closing.items() if one is None}
    reasons = Counter(dict(kept[id_].headers)["gateway-reason"] for id_ in is_open)
    assert reasons == letters.counts == open_only.counts
    for record in records:
        is_newest = kept.get(record.id) is record
        assert (is_newest and record.id in is_open) == letters.is_wanted(record, "open")
        assert letters.is_wanted(record, "open") == open_only.is_wanted(record, "open")
        assert is_newest == letters.is_wanted(record, "all")
        first = closing.get(record.id)
        if is_newest and first is not None:
            outcome = dict(first.headers)["gateway-closes"]
            assert letters.is_wanted(record, outcome)  # type: ignore[arg-type]


def test_past_the_bound_letters_are_counted_only() -> None:
    """Memory is bounded; the counts go on, also down."""
    letters = DeadLetterIndex(may_keep=lambda: len(letters) < 2)
    records = appended([*(given_up(number) for number in range(5)), closed(0), closed(4)])
    for record in records[:5]:
        letters.apply(record)
    assert (2, {"attempts": 5}) == (len(letters), letters.counts)
    for record in records[5:]:
        letters.apply(record)
    assert {"attempts": 3} == letters.counts


def test_a_closing_record_is_an_event_of_its_own() -> None:
    """In the partition of its dead letter, with its id; a reader of the topic that knows nothing of it can parse it."""
    letter = given_up(1)
    made = closed(1, note="an account that is gone – Übertrag\nsecond line")
    assert (letter.topic, letter.key, letter.id) == (made.topic, made.key, made.id)
    event = parse(made.value)
    assert (retry_records.CLOSED_TYPE, letter.id, letter.key) == (event["type"], event["id"], event["partitionkey"])
    found = retry_records.read_closing(Record(TOPIC, 1, 2000.0, *made))
    assert Closing("resolved", 1000.0, "ann", "an account that is gone – Übertrag\nsecond line") == found
    assert retry_records.read_closing(Record(TOPIC, 0, 2000.0, *letter)) is None


async def test_resolving_closes_what_is_open_and_is_chosen_once() -> None:
    """By id, by reason, all; a second time there is nothing left to close; who and why can be read."""
    log = MemoryLog()
    await log.append([given_up(1), given_up(2, "age"), given_up(3, "age"), given_up(4), closed(4, note="before")])

    async def resolve(**which: Any) -> int:
        return await dead_letters.resolve(log, "billing", clock=CLOCK, note="by hand", by="ann", **which)

    assert 1 == await resolve(ids=[entry(1).id, entry(4).id, "unknown"])
    assert [2, 0] == [await resolve(reasons=["age"]) for _ in range(2)]
    assert 0 == await resolve()
    found = await dead_letters.find(log, "billing", wanted="resolved")
    notes = {letter.id: letter.closing.note for letter in found if letter.closing is not None}
    assert {entry(number).id: "before" if number == 4 else "by hand" for number in range(1, 5)} == notes
    assert [] == await dead_letters.find(log, "billing")
    await log.append([given_up(2)])
    again = await dead_letters.find(log, "billing")
    assert [(entry(2).id, "attempts", "open")] == [(one.id, one.reason, one.state) for one in again]


async def test_a_delivered_replay_closes_the_letter_wherever_its_copy_came_from() -> None:
    """From the dead letters or from the topic; the closing says which replay; nothing is replayed a second time."""
    log = MemoryLog()
    await log.append(entries(4, 4))
    async with Receiver(status(422)) as receiver, running(log, receiver.url, retry=RetryPolicy(attempts=1)):
        await until(lambda: len(log.topic(TOPIC)) == 4)
        receiver.answer = ok
        one = Selection(is_from_dlq=True, ids=frozenset({entry(1).id}))
        await replay(log, BILLING, one, clock=CLOCK, name="r-7")
        await until(lambda: len(log.topic(TOPIC)) == 5)
        found = await dead_letters.find(log, "billing", wanted="delivered")
        assert [(entry(1).id, "r-7", "")] == [
            (letter.id, letter.closing.replay, letter.closing.by) for letter in found if letter.closing is not None
        ]
        rest = await replay(log, BILLING, Selection(is_from_dlq=True), clock=CLOCK, is_dry_run=True)
        assert 3 == rest.events
        await replay(log, BILLING, Selection(ids=frozenset({entry(1).id, entry(2).id})), clock=CLOCK, name="r-8")
        await receiver.until(lambda: len(receiver.delivered) == 3)
        await until(lambda: len(log.topic(TOPIC)) == 6)  # the first one was closed already
        assert 2 == len(await dead_letters.find(log, "billing"))
        every = await replay(log, BILLING, Selection(is_from_dlq=True, state="all"), clock=CLOCK, is_dry_run=True)
        assert 4 == every.events


async def test_a_letter_that_is_given_up_again_is_open_once() -> None:
    """A replay that fails leaves one open dead letter, the newest, which names the replay."""
    log = MemoryLog()
    await log.append([entry(1)])
    async with Receiver(status(422)) as receiver, running(log, receiver.url, retry=RetryPolicy(attempts=1)):
        await until(lambda: len(log.topic(TOPIC)) == 1)
        await replay(log, BILLING, Selection(is_from_dlq=True), clock=CLOCK, name="r-7")
        await until(lambda: len(log.topic(TOPIC)) == 2)
        (letter,) = await dead_letters.find(log, "billing")
        assert (1, "r-7") == (letter.offset, letter.replay)
        receiver.answer = ok
        await replay(log, BILLING, Selection(is_from_dlq=True), clock=CLOCK, name="r-8")
        await until(lambda: len(log.topic(TOPIC)) == 3)
        assert [] == await dead_letters.find(log, "billing")


async def test_a_closing_that_the_log_does_not_take_is_tried_again() -> None:
    """The position waits for it, and the event is not delivered a second time."""
    log = MemoryLog()
    await log.append([entry(1)])
    async with Receiver(status(422)) as receiver, running(log, receiver.url, retry=RetryPolicy(attempts=1)):
        await until(lambda: len(log.topic(TOPIC)) == 1)

        receiver.answer = ok
        await replay(log, BILLING, Selection(is_from_dlq=True), clock=CLOCK)
        log.failing_appends = 1
        await until(lambda: len(log.topic(TOPIC)) == 2, within_s=30)
        assert (1, 0) == (len(receiver.delivered), log.failing_appends)


@asynccontextmanager
async def following(log: MemoryLog, *names: str, **more: Any) -> AsyncIterator[tuple[OpenDeadLetters, Metrics]]:
    metrics = Metrics(CollectorRegistry())
    followed = OpenDeadLetters(log, lambda: names, clock=CLOCK, metrics=metrics, **more)
    assert followed.open_counts(names[0]) is None
    await followed.start()
    try:
        yield followed, metrics
    finally:
        await followed.stop()


def shown(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return dict(metrics.values("gateway_dead_letters_open"))


async def test_processes_know_what_is_open() -> None:
    """Unknown until it is read, then as the log has it, in each process; a topic that is not there yet is empty."""
    log = MemoryLog()
    await log.append([given_up(1), given_up(2, "age"), closed(1)])
    async with following(log, "billing", "crm") as (one, metrics), following(log, "billing") as (other, _):
        await until(lambda: one.open_counts("billing") == {"age": 1} == other.open_counts("billing"))
        assert {} == one.open_counts("crm")
        await log.append([given_up(3), given_up(1)])
        await until(lambda: one.open_counts("billing") == {"age": 1, "attempts": 2} == other.open_counts("billing"))
        await until(lambda: shown(metrics).get(("billing", "attempts")) == 2)
        await dead_letters.resolve(log, "billing", clock=CLOCK, note="by hand", by="ann")
        await until(lambda: one.open_counts("billing") == {} == other.open_counts("billing"))
        await until(lambda: shown(metrics).get(("billing", "attempts")) == 0)
        assert {("billing", "attempts"): 0, ("billing", "age"): 0, ("crm", "attempts"): 0} == shown(metrics)


async def test_a_log_that_is_away_makes_them_unknown() -> None:
    """What cannot be read is never shown as none: the metric goes, too."""
    log = MemoryLog()
    await log.append([given_up(1)])
    log.failing_fetches = 1
    async with following(log, "billing") as (one, metrics):
        await until(lambda: not log.failing_fetches)
        assert (None, {}) == (one.open_counts("billing"), shown(metrics))
        await until(lambda: one.open_counts("billing") == {"attempts": 1}, within_s=30)


@pytest.mark.parametrize("most", [0, 3])
async def test_what_is_remembered_is_bounded(most: int) -> None:
    log = MemoryLog()
    await log.append([given_up(number) for number in range(8)])
    async with following(log, "billing", most=most) as (one, _):
        await until(lambda: one.open_counts("billing") == {"attempts": 8})
        await log.append([closed(number) for number in range(8)])
        await until(lambda: one.open_counts("billing") == {})
