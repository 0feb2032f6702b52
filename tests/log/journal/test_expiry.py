"""What retention takes before it was read is reported once, when it goes, to those whose loss it is; or is a gap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from gateway.log import Batch, Entry, Gap, Placed
from gateway.log.journal import EVENTS, Journal, JournalReader, Retention
from gateway.telemetry.metrics import METRICS

DAY_S = 86_400.0
BILLING = "gateway.billing"


class Days:
    """A journal that is opened day by day and keeps one day; ``told`` is what the log said so far of expired events."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = 1_770_000_000.0
        self._next = 0
        self._lines: list[Mapping[str, Any]] = []

    @property
    def told(self) -> list[tuple[Any, int, int, int]]:
        """Groups, range and count of each line."""
        lines = [line for line in self._lines if line["event"] == "journal.expired"]
        return [(line["group"], line["first"], line["last"], line["count"]) for line in lines]

    @asynccontextmanager
    async def opened(self, *, days_later: float = 0.0) -> AsyncIterator[Journal]:
        self._now += days_later * DAY_S
        journal = Journal(self._folder, Retention(1 << 30, DAY_S), clock=lambda: self._now)
        with capture_logs() as self._lines:
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


async def load(journal: Journal, name: str = BILLING) -> Mapping[str, Placed]:
    return await journal.cursors.load(name, ["sms.dr"], [EVENTS], start="earliest")


async def fetched(reader: JournalReader) -> Batch:
    return await reader.fetch(max_records=9, wait_s=0)


async def test_what_went_while_the_gateway_was_down_is_a_gap(tmp_path: Path) -> None:
    """For a cursor that was there; who has passed it does not meet it again, and a new one has none."""
    days = Days(tmp_path)
    gap = Gap(EVENTS, 0, 9, "expired")
    async with days.opened() as journal:
        await load(journal, "gateway.audit")
        await days.append(journal, *["sms.dr", "call.event"] * 5)
    async with days.opened(days_later=2) as journal:
        await journal.writer.housekeep()
        assert {EVENTS: Placed(10, gap)} == await load(journal, "gateway.audit")
        assert {EVENTS: 0} == journal.cursors.committed("gateway.audit")
        journal.cursors.commit("gateway.audit", EVENTS, 10)
        reader = await journal.browse("look", ["sms.dr"], positions={EVENTS: 0})
        assert ([], [gap], {EVENTS: 10}) == (list(batch := await fetched(reader)), batch.gaps, batch.ends)
        await days.append(journal, "sms.dr")
        assert [10] == [record.offset for record in await fetched(reader)]
        assert {EVENTS: Placed(10)} == await load(journal, "gateway.new")
        assert [] == days.told
    async with days.opened() as journal:
        assert {EVENTS: Placed(10)} == await load(journal, "gateway.audit")


async def test_a_subscriber_that_was_removed_is_not_told_of_until_it_comes_back(tmp_path: Path) -> None:
    """Its position stays where it is, however often retention passes it."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        await load(journal)
        await days.append(journal, *["sms.dr", "call.event"] * 3)
        journal.cursors.forget(BILLING)
        await days.passes(journal, 2)
        assert [] == days.told
    for _ in range(2):
        async with days.opened(days_later=2) as journal:
            await days.append(journal, "sms.dr")
            await journal.writer.housekeep()
            assert [] == days.told
    async with days.opened(days_later=2) as journal:
        await journal.writer.housekeep()
        assert {EVENTS: Placed(8, Gap(EVENTS, 0, 7, "expired"))} == await load(journal)


async def test_who_is_known_is_told_of_when_it_goes_and_not_again_after_a_restart(tmp_path: Path) -> None:
    """Also while it does not read: counted by its topics, with what it has in memory; its position passes it."""
    days = Days(tmp_path)
    counter = METRICS.counter("gateway_journal_expired_events").labels(BILLING)
    before = counter._value.get()
    async with days.opened() as journal:
        await load(journal)
        await days.append(journal, *["sms.dr", "call.event"] * 5)
        await days.passes(journal, 2)
        assert [(BILLING, 0, 9, 5)] == days.told
        await days.append(journal, "sms.dr")
        await days.passes(journal, 2)
        assert [(BILLING, 10, 10, 1)] == days.told[1:]
        journal.cursors.commit(BILLING, EVENTS, 5)  # of what it had in memory
        assert {EVENTS: 11} == journal.cursors.committed(BILLING)
    assert 6 == counter._value.get() - before
    async with days.opened() as journal:
        assert {EVENTS: Placed(11)} == await load(journal)
        assert [] == days.told


async def test_a_browser_gets_what_expires_in_front_of_it_as_a_gap(tmp_path: Path) -> None:
    """Whether it was reported for others or not: it is handed on for its owner to report."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        await load(journal)
        looking = await journal.browse("look", ["sms.dr"], start="earliest")
        await days.append(journal, *["sms.dr"] * 7)
        await days.passes(journal, 2)
        assert [(BILLING, 0, 6, 7)] == days.told
        await days.append(journal, "sms.dr")
        batch = await fetched(looking)
        assert ([7], [Gap(EVENTS, 0, 6, "expired")]) == ([record.offset for record in batch], batch.gaps)


async def test_what_nobody_wants_expires_in_silence(tmp_path: Path) -> None:
    """Events of other topics are no loss; the position passes them all the same."""
    days = Days(tmp_path)
    async with days.opened() as journal:
        await load(journal)
        await days.append(journal, *["call.event"] * 3)
        await days.passes(journal, 2)
        assert ([], {EVENTS: 3}) == (days.told, journal.cursors.committed(BILLING))


async def test_many_who_lose_the_same_share_a_line(tmp_path: Path) -> None:
    """It names ten of them and says how many they are; each is counted."""
    days = Days(tmp_path)
    names = [f"gateway.s{number:03}" for number in range(300)]
    async with days.opened() as journal:
        for name in names:
            await load(journal, name)
        await days.append(journal, "sms.dr", "sms.dr")
        await days.passes(journal, 2)
        (line,) = (line for line in days._lines if line["event"] == "journal.expired")
        assert (names[:10], 300, 2, {"sms.dr": 2}) == (line["group"], line["groups"], line["count"], line["topics"])
        assert {2} == {journal.positions()[name, EVENTS] for name in names}
    for name in names:
        assert 2 == METRICS.counter("gateway_journal_expired_events").labels(name)._value.get()
