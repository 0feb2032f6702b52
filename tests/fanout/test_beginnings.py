"""Where subscribers begin: times that several processes fix and agree on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.fanout.cursor import Beginning
from gateway.fanout.subscriber_state import (
    NO_START,
    TOPIC,
    Beginnings,
    SubscriberStateStore,
    added,
    begins,
    merged,
    opened,
    parse,
)
from gateway.log import Begin, Entry
from gateway.log.journal import Journal, Retention
from tests.fanout.manual_clock import ManualClock
from tests.fanout.memory_log import MemoryLog
from tests.fanout.running import make, subscription
from tests.fanout.scripted import OK, ScriptedSink
from tests.waiting import until

_KEPT = st.dictionaries(
    st.sampled_from(["sms.dr", "call.event", "task.status"]),
    st.fixed_dictionaries({"since": st.integers(0, 9).map(float), "id": st.sampled_from(["", "c/1", "c/2"])}),
).map(lambda topics: {"topics": topics})

Open = Callable[[], SubscriberStateStore]


@given(_KEPT.filter(lambda kept: bool(kept["topics"])), _KEPT.filter(lambda kept: bool(kept["topics"])))
def test_the_earlier_time_counts_whoever_is_read_first(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two processes that read each other's records keep the same times; reading again changes nothing."""
    here, there = merged(one, other), merged(other, one)
    assert {t: item["since"] for t, item in here["topics"].items()} == {
        t: item["since"] for t, item in there["topics"].items()
    }
    assert merged(here, other) == here
    assert parse(orjson.loads(orjson.dumps(here))) == here


@given(_KEPT, st.dictionaries(st.sampled_from(["sms.dr", "call.event"]), st.integers(0, 9).map(float)))
def test_what_is_known_is_not_moved_to_later(kept: dict[str, Any], times: dict[str, float]) -> None:
    """Applying a configuration again never makes a time later, and forgets no incarnation."""
    new = begins(added(kept, times))
    for topic, begin in begins(kept).items():
        assert new[topic].since <= begin.since
        assert new[topic].incarnation == begin.incarnation
    assert new.keys() == kept["topics"].keys() | times.keys()


def test_a_removed_subscriber_is_forgotten() -> None:
    """A record without topics ends what was kept; one that was opened keeps its incarnation."""
    kept = opened(added(NO_START, {"sms.dr": 5.0}), {"sms.dr": "c/1", "other": "c/2"})
    assert begins(kept) == {"sms.dr": Begin(5.0, "c/1")}
    assert merged(kept, NO_START) == NO_START


@pytest.fixture
async def boards() -> AsyncIterator[Callable[..., Any]]:
    """Start boards, as processes of their own, and wait until they know what is kept."""
    running: list[SubscriberStateStore] = []

    async def start(log: MemoryLog, **applied: float) -> SubscriberStateStore:
        is_loaded = asyncio.Event()
        board = SubscriberStateStore(
            log, clock=SystemClock(), instance=str(len(running)), load_wait_s=60.0, on_loaded=is_loaded.set,
            on_change=lambda _: None,
        )  # fmt: skip
        for name, since in applied.items():
            board.apply(name, {"sms.dr": since})
        running.append(board)
        board.start()
        await asyncio.wait_for(is_loaded.wait(), 5)
        return board

    yield start
    for board in running:
        await board.stop()


def _last(log: MemoryLog, key: str) -> Any:
    return orjson.loads([record for record in log.topic(TOPIC) if record.key == key][-1].value)["topics"]


async def _written(log: MemoryLog, key: str, since: float) -> None:
    def is_so() -> bool:
        return bool(log.topic(TOPIC)) and _last(log, key).get("sms.dr", {}).get("since") == since

    await until(is_so, within_s=10)


@pytest.mark.timeout(30)
async def test_processes_agree_on_the_earliest_time(boards: Callable[..., Any]) -> None:
    """Whoever writes last: all know the earliest, and it is the last word, which compaction keeps."""
    log = MemoryLog()
    late = await boards(log, billing=200.0)
    await _written(log, "billing/start", 200.0)
    early = await boards(log, billing=100.0)
    await _written(log, "billing/start", 100.0)
    assert (await late.begins("billing"))["sms.dr"].since == 100.0
    assert (await early.begins("billing"))["sms.dr"].since == 100.0


@pytest.mark.timeout(30)
async def test_a_later_word_of_a_process_that_knew_nothing_is_put_right(boards: Callable[..., Any]) -> None:
    """A record with a later time, as of an older process, is followed by the earlier one again."""
    log = MemoryLog()
    board = await boards(log, billing=100.0)
    await _written(log, "billing/start", 100.0)
    stray = orjson.dumps({"topics": {"sms.dr": {"since": 300.0, "id": ""}}, "by": "stray"})
    await log.append([Entry(TOPIC, "billing/start", "0" * 32, stray)])
    await _written(log, "billing/start", 100.0)
    assert (await board.begins("billing"))["sms.dr"].since == 100.0


@pytest.mark.timeout(30)
async def test_a_restart_moves_nothing_and_writes_nothing(boards: Callable[..., Any]) -> None:
    """What is kept counts; a start that brings nothing new adds no record."""
    log = MemoryLog()
    first = await boards(log, billing=100.0)
    await _written(log, "billing/start", 100.0)
    first.opened("billing", {"sms.dr": "c/1"})
    await first.stop()
    count = len(log.topic(TOPIC))
    again = await boards(log, billing=500.0)
    assert await again.begins("billing") == {"sms.dr": Begin(100.0, "c/1")}
    await again.stop()
    assert len(log.topic(TOPIC)) == count


@pytest.mark.timeout(30)
async def test_removed_and_added_again_it_begins_anew(boards: Callable[..., Any]) -> None:
    """In the other processes too."""
    log = MemoryLog()
    one = await boards(log, billing=100.0)
    other = await boards(log)
    await _written(log, "billing/start", 100.0)
    one.drop("billing")

    async def has_none() -> bool:
        return not await other.begins("billing")

    await until(has_none, within_s=10)
    one.apply("billing", {"sms.dr": 900.0})
    await _written(log, "billing/start", 900.0)
    assert (await one.begins("billing"))["sms.dr"].since == 900.0


@pytest.mark.timeout(30)
async def test_a_topic_that_appears_after_the_opening_is_noted_before_its_events_are_delivered() -> None:
    """Otherwise nothing would say later that it was created again: its positions are deleted with it."""
    log, sink = MemoryLog(), ScriptedSink(lambda _: OK)
    noted: list[tuple[dict[str, str], int]] = []

    async def asked() -> dict[str, Begin]:
        return {"sms.dr": Begin(0.0)}

    def on_opened(found: Mapping[str, str]) -> None:
        noted.append((dict(found), sink.attempts))

    await log.append([Entry("call.event", "k", "0" * 32, b"{}")])
    beginning = Beginning(asked, on_opened)
    reader = make(log, sink, subscription(topics=("sms.dr", "call.event")), beginning=beginning)
    reader.start()
    await until(lambda: len(sink.delivered) >= 1, within_s=10)
    await log.append([Entry("sms.dr", "k", "1" * 32, b"{}")])
    await until(lambda: len(sink.delivered) >= 2, within_s=10)
    await reader.stop(1.0)
    known = {"call.event": "memory/1"}
    assert noted == [(known, 0), (known | {"sms.dr": "memory/1"}, 1)]


def _subscriber(name: str, **more: Any) -> Subscriber:
    return Subscriber(name=name, topics=["sms.dr"], url="https://example.com/", **more)


class _Board:
    def __init__(self) -> None:
        self.applied: dict[str, dict[str, float]] = {}
        self.dropped: list[str] = []

    def apply(self, subscriber: str, times: Any) -> None:
        self.applied[subscriber] = dict(times)

    def drop(self, subscriber: str) -> None:
        self.dropped.append(subscriber)


async def test_the_journal_keeps_the_time_until_it_is_known_elsewhere(tmp_path: Path) -> None:
    """After a restart the first time counts; a subscriber that was taken out meanwhile begins anew."""
    clock = ManualClock()
    times = []
    for names in (["billing"], ["billing", "other"], [], ["billing"]):
        journal = Journal(tmp_path, Retention(1 << 30, 3600.0))
        await journal.start()
        board = _Board()
        Beginnings(board, clock, journal).apply([_subscriber(name) for name in names])
        times.append({name: topics["sms.dr"] for name, topics in board.applied.items()})
        await journal.stop()
        clock.advance(10.0)
    first = times[0]["billing"]
    assert times == [
        {"billing": first},
        {"billing": first, "other": pytest.approx(first + 10, abs=0.01)},
        {},
        {"billing": pytest.approx(first + 30, abs=0.01)},
    ]


def test_only_what_a_change_takes_out_is_dropped() -> None:
    """Names that a process never knew are not its business; streams have no position."""
    board = _Board()
    beginnings = Beginnings(board, ManualClock())
    beginnings.apply([_subscriber("a"), _subscriber("b", start="earliest"), _subscriber("s", kind="stream")])
    beginnings.apply([_subscriber("b", start="earliest")])
    assert board.dropped == ["a"]
    assert board.applied["b"] == {"sms.dr": 0.0}
    assert "s" not in board.applied
