"""What retention takes before it was read is told once, to those whose loss it is: group, range and count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from gateway.log import Entry
from gateway.log.journal import EVENTS, Expired, Journal, JournalReader, Retention

DAY_S = 86_400.0


class Days:
    """A journal that is opened day by day and keeps one day; ``told`` is what was said so far."""

    def __init__(self, folder: Path) -> None:
        self.told: list[Expired] = []
        self._folder = folder
        self._now = 1_770_000_000.0
        self._next = 0

    @asynccontextmanager
    async def opened(self, *, days_later: float = 0.0) -> AsyncIterator[Journal]:
        self._now += days_later * DAY_S
        journal = Journal(self._folder, Retention(1 << 30, DAY_S), clock=lambda: self._now, on_expired=self.told.append)
        await journal.start()
        try:
            yield journal
        finally:
            await journal.stop()

    async def append(self, journal: Journal, *topics: str) -> None:
        """One commit for each."""
        for topic in topics:
            await journal.append([Entry(topic, "k", f"{self._next:032x}", b"{}")])
            self._next += 1

    async def passes(self, journal: Journal, days: float) -> None:
        self._now += days * DAY_S
        await journal.writer.housekeep()


async def billing(journal: Journal) -> JournalReader:
    return await journal.reader("gateway.billing", ["sms.dr"], start="earliest")


async def test_what_went_while_the_gateway_was_down_is_told_once(tmp_path: Path) -> None:
    """Counted by topic when the reader comes, with log line; not again at the next start, nor to a new reader."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        await billing(journal)
        await days.append(journal, *["sms.dr", "call.event"] * 5)
    async with days.opened(days_later=2) as journal:
        await journal.writer.housekeep()
        assert days.told == []
        with capture_logs() as lines:
            reader = await billing(journal)
        lost = Expired("gateway.billing", EVENTS, 0, 9, {"sms.dr": 5})
        assert days.told == [lost]
        assert [(0, 9, 5)] == [
            (line["first"], line["last"], line["count"]) for line in lines if line["event"] == "journal.expired"
        ]
        await days.append(journal, "sms.dr")
        assert [10] == [record.offset for record in await reader.fetch(max_records=9, wait_s=0)]
        await journal.reader("gateway.new", ["sms.dr"], start="earliest")
    async with days.opened() as journal:
        await billing(journal)
    assert days.told == [lost]


async def test_a_subscriber_that_was_removed_is_not_told_of_and_one_that_comes_back_is_told_once(
    tmp_path: Path,
) -> None:
    """Its kept position is overtaken day by day; what an earlier process saw go is counted by offsets."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        await billing(journal)
        await days.append(journal, *["sms.dr", "call.event"] * 3)
    for _ in range(3):
        async with days.opened(days_later=2) as journal:
            await journal.writer.housekeep()
            await days.append(journal, "sms.dr", "call.event")
    assert days.told == []
    async with days.opened(days_later=2) as journal:
        await journal.writer.housekeep()
        await (await billing(journal)).close()
        assert days.told == [Expired("gateway.billing", EVENTS, 0, 11, {"unknown": 10, "sms.dr": 1})]
        await billing(journal)
    assert 1 == len(days.told)


async def test_an_open_reader_is_told_at_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    """Also one that has records in flight, so that its position stays: those are told when they cannot come again."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        reader = await billing(journal)
        await days.append(journal, *["sms.dr"] * 10)
        assert 3 == len(await reader.fetch(max_records=3, wait_s=0))
        await days.passes(journal, 2)
        assert days.told == [Expired("gateway.billing", EVENTS, 3, 9, {"sms.dr": 7})]
        await days.append(journal, "sms.dr")
        await days.passes(journal, 2)
        assert days.told[1:] == [Expired("gateway.billing", EVENTS, 10, 10, {"sms.dr": 1})]
    async with days.opened() as journal:
        await billing(journal)
        assert days.told[2:] == [Expired("gateway.billing", EVENTS, 0, 10, {"unknown": 3})]
    async with days.opened() as journal:
        await billing(journal)
    assert 3 == len(days.told)


async def test_all_stretches_that_were_told_are_remembered(tmp_path: Path) -> None:
    """Between them there are records in flight, which are told after a restart, as they cannot come again."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        reader = await billing(journal)
        for _ in range(3):
            await days.append(journal, *["sms.dr"] * 10)
            assert 3 == len(await reader.fetch(max_records=3, wait_s=0))
            await days.passes(journal, 2)
        assert [(3, 9), (13, 19), (23, 29)] == [(item.first, item.last) for item in days.told]
    async with days.opened() as journal:
        await billing(journal)
        assert days.told[3:] == [Expired("gateway.billing", EVENTS, 0, 29, {"unknown": 9})]


async def test_a_stretch_that_was_passed_makes_place_for_the_next(tmp_path: Path) -> None:
    """However often it happens: what is kept of it is bounded, and at the end nothing was told twice."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        reader = await billing(journal)
        for _ in range(20):
            await days.append(journal, *["sms.dr"] * 5)
            records = await reader.fetch(max_records=2, wait_s=0)
            await days.passes(journal, 2)
            reader.commit(EVENTS, records[-1].offset + 1)
        assert 20 * 3 == sum(item.count for item in days.told)
        assert 3 == len(journal.positions())
    async with days.opened() as journal:
        await billing(journal)
    assert 20 * 3 == sum(item.count for item in days.told)


async def test_what_was_in_flight_and_is_done_is_no_loss(tmp_path: Path) -> None:
    """It left the log after it was handed out, and was delivered all the same."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        reader = await billing(journal)
        await days.append(journal, *["sms.dr"] * 3)
        records = await reader.fetch(max_records=9, wait_s=0)
        await days.passes(journal, 2)
        reader.commit(EVENTS, records[-1].offset + 1)
    async with days.opened() as journal:
        await billing(journal)
    assert days.told == []


async def test_what_a_reader_of_the_same_name_has_done_is_no_loss_and_its_position_stays(tmp_path: Path) -> None:
    """One that stands further back, and is still open, tells nothing of it and moves nothing back."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        await billing(journal)
        reader = await billing(journal)
        await days.append(journal, *["sms.dr"] * 10)
        await days.passes(journal, 0.5)
        await days.append(journal, *["sms.dr"] * 10)
        records = await reader.fetch(max_records=20, wait_s=0)
        reader.commit(EVENTS, records[-1].offset + 1)
        await days.passes(journal, 0.75)
        assert 10 == journal.floor(EVENTS)
    assert days.told == []
    async with days.opened() as journal:
        assert 20 == journal.positions()["gateway.billing", EVENTS]


async def test_a_reader_that_only_looks_misses_nothing(tmp_path: Path) -> None:
    """The console and a replay's scan begin where they are sent; what is gone by then is no loss to them."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        for group in ("console.tail.0", "scan.replay.billing"):
            await journal.reader(group, [], start="latest")
        await days.append(journal, "sms.dr")
    async with days.opened(days_later=2) as journal:
        await journal.writer.housekeep()
        await days.append(journal, "sms.dr")
        for group in ("console.tail.0", "scan.replay.billing"):
            reader = await journal.reader(group, [], start="latest")
            assert [1] == [record.offset for record in await reader.fetch(max_records=9, wait_s=0)]
    assert days.told == []
