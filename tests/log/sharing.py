"""What every log promises to those who share a reading: joining, cursors, gaps, falling behind and meeting again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.log import Begin, Entry, EventLog
from gateway.log.catch_up import ReadingPolicy
from gateway.log.shared_reader import SharedReader
from tests.log.consumers import Noting
from tests.log.contract import Subject, a_new_moment, by_key, entries, entry

#: An internal topic of each log.
RETRIES = "retry.60s"


class SharingSubject(Subject, Protocol):
    """A log that can be opened again, and whose records can expire."""

    async def expire(self, topic: str) -> None:
        """Retention takes all that is in the log now."""


@asynccontextmanager
async def shared(log: EventLog, *consumers: Noting, policy: ReadingPolicy | None = None) -> AsyncIterator[SharedReader]:
    """A reading that feeds these."""
    reader = SharedReader(log, "gateway.readers", SystemClock(), policy or ReadingPolicy(max_records=100))
    for consumer in consumers:
        consumer.changed = reader.changed
        reader.add(consumer)
    reader.start()
    try:
        yield reader
    finally:
        await reader.stop()
        for consumer in consumers:
            assert [] == consumer.objections


def ids(records: Sequence[Entry]) -> list[str]:
    return sorted(item.id for item in records)


class SharingContract:
    """Subclass, or parametrise the fixture ``subject``."""

    async def test_one_reading_feeds_cursors_of_all_topics(self, subject: SharingSubject) -> None:
        """Each has what it asked for, in order per key; a topic that is not there yet is empty until it is."""
        log = await subject.open()
        both = Noting("both", ["sms.dr", "call.event"], log.cursors, window=1000)
        calls = Noting("calls", ["call.event"], log.cursors, window=1000)
        retries = Noting("retries", [RETRIES], log.cursors, window=1000)
        texts, events = entries(60), entries(40, topic="call.event")
        async with shared(log, both, calls, retries):
            await log.append([*texts, *events])
            await both.until(lambda: len(both.taken) >= 100)
            await calls.until(lambda: len(calls.taken) >= 40)
            await log.append([entry(1, topic=RETRIES)])
            await retries.until(lambda: len(retries.taken) >= 1)
        assert by_key(calls.taken) == by_key(events)
        assert by_key([one for one in both.taken if one.topic == "sms.dr"]) == by_key(texts)
        assert [entry(1, topic=RETRIES).id] == [one.id for one in retries.taken]

    async def test_a_consumer_that_comes_with_new_topics_is_fed(self, subject: SharingSubject) -> None:
        """The reading goes on for the others meanwhile."""
        log = await subject.open()
        texts = Noting("texts", ["sms.dr"], log.cursors, window=1000)
        await log.append([*entries(10), *entries(10, topic="call.event")])
        async with shared(log, texts) as reader:
            await texts.until(lambda: len(texts.taken) >= 10)
            late = Noting("late", ["call.event", RETRIES], log.cursors, window=1000)
            late.changed = reader.changed
            reader.add(late)
            await log.append([entry(20), entry(1, topic=RETRIES)])
            await late.until(lambda: len(late.taken) >= 11)
            await texts.until(lambda: len(texts.taken) >= 11)
        assert [] == late.objections

    async def test_cursors_go_on_behind_what_they_committed(self, subject: SharingSubject) -> None:
        """Each at its own place, after a restart as well; what was taken and is not done comes again."""
        log = await subject.open()
        given = entries(50)
        quick, slow = (Noting(name, ["sms.dr"], log.cursors, window=1000) for name in ("quick", "slow"))
        async with shared(log, quick, slow):
            await log.append(given)
            await slow.until(lambda: len(slow.taken) >= 50, acknowledges=False)
            await quick.until(lambda: len(quick.taken) >= 50)
        await subject.close()
        log = await subject.open()
        quick, slow = (Noting(name, ["sms.dr"], log.cursors, window=1000) for name in ("quick", "slow"))
        async with shared(log, quick, slow):
            await log.append([entry(100)])
            await slow.until(lambda: len(slow.taken) >= 51)
            await quick.until(lambda: len(quick.taken) >= 1)
        assert ids([*given, entry(100)]) == sorted(one.id for one in slow.taken)
        assert [entry(100).id] == [one.id for one in quick.taken]

    async def test_a_new_cursor_begins_where_it_was_told(self, subject: SharingSubject) -> None:
        """With what comes, with all, or with what was appended since a time; that is kept over a restart.

        A time that is yet to come is now, whatever clocks say.
        """
        log = await subject.open()
        await log.append(entries(10))
        since = await a_new_moment(0.0)
        await a_new_moment(since)
        await log.append([entry(10)])
        partitions = await _partitions(log)
        late = await log.cursors.load("late", ["sms.dr"], partitions, start="latest")
        all_ = await log.cursors.load("all", ["sms.dr"], partitions, start="earliest")
        timed = await log.cursors.load("timed", ["sms.dr"], partitions, start={"sms.dr": Begin(since)})
        later = {"sms.dr": Begin(time.time() + 3600)}
        assert late == await log.cursors.load("later", ["sms.dr"], partitions, start=later)
        assert 11 == sum(late[name].offset - all_[name].offset for name in all_)
        assert 1 == sum(late[name].offset - timed[name].offset for name in timed)
        await log.append(entries(20)[11:])
        await subject.close()
        log = await subject.open()
        assert late == await log.cursors.load("late", ["sms.dr"], partitions, start="earliest")

    async def test_lag_counts_what_is_not_committed(self, subject: SharingSubject) -> None:
        """The number of records behind the commits, and nothing when all is committed."""
        log = await subject.open()
        one = Noting("one", ["sms.dr"], log.cursors, window=100)
        async with shared(log, one) as reader:
            await log.append(entries(12))
            await one.until(lambda: len(one.taken) >= 12, acknowledges=False)
            assert {one: 12} == await reader.lags()
            one.acknowledge_all()
            assert {one: 0} == await reader.lags()

    async def test_commits_go_forward_only_and_outlast_the_process(self, subject: SharingSubject) -> None:
        """A late completion moves nothing back; a partition that was released, or never loaded, is left alone."""
        log = await subject.open()
        await log.append(entries(20))
        partitions = await _partitions(log)
        places = await log.cursors.load("g", ["sms.dr"], partitions, start="earliest")
        name = next(iter(places))
        log.cursors.commit("g", name, places[name].offset + 2)
        log.cursors.commit("g", name, places[name].offset + 1)
        log.cursors.commit("nobody", name, 1)
        assert places[name].offset + 2 == log.cursors.committed("g")[name]
        await log.cursors.flush()
        log.cursors.release([name])
        log.cursors.commit("g", name, places[name].offset + 3)
        await subject.close()
        log = await subject.open()
        again = await log.cursors.load("g", ["sms.dr"], partitions, start="latest")
        assert places[name].offset + 2 == again[name].offset

    async def test_who_is_stuck_is_left_behind_and_meets_the_others_again(self, subject: SharingSubject) -> None:
        """The others get everything meanwhile; then it gets everything too, once and in order."""
        log = await subject.open()
        stuck = Noting("stuck", ["sms.dr"], log.cursors, window=20)
        quick = Noting("quick", ["sms.dr"], log.cursors, window=1000)
        given = entries(600)
        async with shared(log, stuck, quick) as reader:
            await log.append(given[:300])
            await quick.until(lambda: len(quick.taken) >= 300)
            assert not reader.is_attached(stuck)
            assert len(stuck.taken) <= 20
            await log.append(given[300:])
            await stuck.until(lambda: len(stuck.taken) >= 600)
            await quick.until(lambda: len(quick.taken) >= 600)
            await log.append([entry(1000)])
            await stuck.until(lambda: len(stuck.taken) >= 601)
            assert reader.is_attached(stuck)
        assert by_key(given) == by_key(stuck.taken[:600])
        assert by_key(given) == by_key(quick.taken[:600])

    async def test_what_expired_before_it_was_read_is_a_gap_and_reported_once(self, subject: SharingSubject) -> None:
        """For a cursor that was not there; one that had it all is told of nothing."""
        log = await subject.open()
        away, here = _two(log, "away", "here")
        async with shared(log, away, here):
            await log.append([entry(0)])
            await away.until(lambda: len(away.taken) >= 1)
            await here.until(lambda: len(here.taken) >= 1)
        log.cursors.forget("away")
        _, here = _two(log, "away", "here")
        async with shared(log, here):
            await log.append(entries(41)[1:])
            await here.until(lambda: len(here.taken) >= 40)
        await subject.expire("sms.dr")
        await log.append([entry(100)])
        away, here = _two(log, "away", "here")
        with capture_logs() as lines:
            async with shared(log, away, here):
                await away.until(lambda: len(away.taken) >= 1)
                await here.until(lambda: len(here.taken) >= 1)
        await subject.close()
        log = await subject.open()
        away, here = _two(log, "away", "here")
        async with shared(log, away, here):
            await log.append([entry(101)])
            await away.until(lambda: len(away.taken) >= 1)
        told = [line for line in lines if line["event"] == f"{log.kind}.expired"]
        assert {"away"} == {line["group"] for line in told}
        assert 40 == sum(line["count"] for line in told)
        assert [entry(101).id] == [one.id for one in away.taken]

    async def test_what_expires_in_front_of_who_was_left_behind_stops_nobody(self, subject: SharingSubject) -> None:
        """It goes on behind what is gone, and what is gone was reported."""
        log = await subject.open()
        stuck = Noting("stuck", ["sms.dr"], log.cursors, window=10)
        quick = Noting("quick", ["sms.dr"], log.cursors, window=1000)
        with capture_logs() as lines:
            async with shared(log, stuck, quick):
                await log.append(entries(200))
                await quick.until(lambda: len(quick.taken) >= 200)
                await subject.expire("sms.dr")
                await log.append([entry(300)])
                last = entry(300).id
                await stuck.until(lambda: any(one.id == last for one in stuck.taken))
                await quick.until(lambda: len(quick.taken) >= 201)
        told = {line["group"] for line in lines if line["event"] == f"{log.kind}.expired"}
        assert {"stuck"} == told
        counted = sum(line["count"] for line in lines if line["event"] == f"{log.kind}.expired")
        assert counted >= 200 - (len(stuck.taken) - 1)

    async def test_a_browser_reads_the_partitions_that_it_was_given(self, subject: SharingSubject) -> None:
        """From these offsets, and says how far it has looked."""
        log = await subject.open()
        await log.append(entries(30))
        partitions = await _partitions(log)
        places = await log.cursors.load("g", ["sms.dr"], partitions, start="earliest")
        heads = await log.cursors.load("heads", ["sms.dr"], partitions, start="latest")
        ends = {name: place.offset for name, place in heads.items()}
        name = max(ends, key=lambda name: ends[name] - places[name].offset)
        begin = ends[name] - 2
        reader = await log.browse("look", ["sms.dr"], positions={name: begin})
        found = await reader.fetch(max_records=10, wait_s=10.0)
        assert [(name, begin), (name, begin + 1)] == [(one.partition, one.offset) for one in found]
        assert {name: ends[name]} == found.ends
        await reader.close()


def _two(log: EventLog, *names: str) -> list[Noting]:
    return [Noting(name, ["sms.dr"], log.cursors, window=1000) for name in names]


async def _partitions(log: EventLog) -> list[str]:
    """All partitions of the texts."""
    reader = await log.browse("partitions", ["sms.dr"], start="earliest")
    try:
        return sorted(await reader.ends())
    finally:
        await reader.close()
