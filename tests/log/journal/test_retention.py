"""What the journal keeps, and what it lets go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import JournalDamaged, JournalFull
from gateway.log.journal import EVENTS, Retention
from gateway.log.journal.retention import KEPT_S
from tests.log.journal.test_journal import MIB, entry, opened, with_a_bad_page


async def test_size_limit_drops_the_oldest_and_counts_what_a_reader_missed(tmp_path: Path) -> None:
    """A dead subscriber stops nobody: its events go, counted by topic, and it goes on at the first kept."""
    with capture_logs() as lines:
        async with opened(tmp_path, Retention(MIB, 3600.0)) as journal:
            await journal.cursors.load("dead", ["sms.dr"], [EVENTS], start="earliest")
            dead = await journal.browse("dead", ["sms.dr"], start="earliest")
            for number in range(600):
                await journal.append([entry(2 * number, size=4000), entry(2 * number + 1, topic="call.event")])
            floor = journal.floor(EVENTS)
            assert floor > 0
            assert journal.used_bytes <= MIB
            records = await dead.fetch(max_records=5000, wait_s=0)
            assert floor <= records[0].offset
    missed = [line for line in lines if line["event"] == "journal.expired"]
    assert {"dead"} == {line["group"] for line in missed}
    assert {"sms.dr"} == {topic for line in missed for topic in line["topics"]}
    assert records[0].offset // 2 == sum(line["count"] for line in missed)


async def test_unpublished_events_never_go_and_the_journal_says_that_it_is_full(tmp_path: Path) -> None:
    """With a protected cursor the limit answers JournalFull; when the cursor moves, appends succeed again."""
    policy = Retention(MIB, 3600.0, protected="publisher")
    async with opened(tmp_path, policy) as journal:
        await journal.cursors.load("publisher", ["sms.dr"], [EVENTS], start="earliest")
        stored = 0
        with pytest.raises(JournalFull):
            for number in range(2000):
                await journal.append([entry(number, size=8000)])
                stored += 1
        assert stored > 50
        assert journal.floor(EVENTS) == 0
        with pytest.raises(JournalFull):
            await journal.append([entry(3000, size=8000)])
        assert stored == journal.head(EVENTS)
        journal.cursors.commit("publisher", EVENTS, stored)
        await journal.flush()
        await journal.append([entry(4000, size=8000)])
        assert journal.head(EVENTS) == stored + 1
        assert journal.floor(EVENTS) > 0


async def test_dead_letters_of_the_protected_reader_outlast_a_full_journal(tmp_path: Path) -> None:
    """What Kafka refused for good is let in past the limit; no later callback pushes it out, only its age does."""
    now = 1_000_000.0
    async with opened(tmp_path, Retention(MIB, 60.0, protected="publisher"), clock=lambda: now) as journal:
        await journal.cursors.load("publisher", ["sms.dr"], [EVENTS], start="earliest")
        with pytest.raises(JournalFull):
            for number in range(2000):
                await journal.append([entry(number, size=8000)])
        await journal.append([entry(5000, topic="dlq.publisher", size=8000)])
        with pytest.raises(JournalFull):
            for number in range(2000, 2010):
                await journal.append([entry(number, size=8000)])
        assert 0 == journal.floor("dlq.publisher")

        journal.cursors.commit("publisher", EVENTS, 40)
        await journal.flush()
        with pytest.raises(JournalFull):
            for number in range(3000, 5000):
                await journal.append([entry(number, size=8000)])
        assert (40, 0) == (journal.floor(EVENTS), journal.floor("dlq.publisher"))

        now += 120
        await journal.writer.housekeep()
        assert (40, 1) == (journal.floor(EVENTS), journal.floor("dlq.publisher"))


async def test_old_segments_go_by_age_but_not_what_is_protected(tmp_path: Path) -> None:
    now = 1_000_000.0
    policy = Retention(1 << 30, 60.0, protected="publisher")
    async with opened(tmp_path, policy, clock=lambda: now) as journal:
        await journal.cursors.load("publisher", ["sms.dr"], [EVENTS], start="earliest")
        for number in range(10):
            await journal.append([entry(number)])
        now += 120
        await journal.writer.housekeep()
        assert journal.floor(EVENTS) == 0
        journal.cursors.commit("publisher", EVENTS, 4)
        await journal.flush()
        await journal.writer.housekeep()
        assert journal.floor(EVENTS) == 4


async def test_offsets_never_come_back_when_everything_was_trimmed(tmp_path: Path) -> None:
    now = 1_000_000.0
    async with opened(tmp_path, Retention(1 << 30, 60.0), clock=lambda: now) as journal:
        await journal.append([entry(1), entry(2)])
        now += 120
        await journal.writer.housekeep()
        assert (2, 2) == (journal.floor(EVENTS), journal.head(EVENTS))
    async with opened(tmp_path, Retention(1 << 30, 60.0), clock=lambda: now) as journal:
        await journal.append([entry(3)])
        reader = await journal.browse("late", [], start="earliest")
        assert [2] == [record.offset for record in await reader.fetch(max_records=9, wait_s=0)]


async def test_housekeeping_goes_on_after_a_round_that_failed(tmp_path: Path) -> None:
    """One read that fails must not end retention until the next restart."""
    await with_a_bad_page(tmp_path)
    async with opened(tmp_path) as journal:
        (keeper,) = (task for task in asyncio.all_tasks() if task.get_name() == "journal-housekeeping")
        for _ in range(2):  # the second is behind the keeper's own first round
            with pytest.raises(JournalDamaged):
                await journal.writer.housekeep()
        assert not keeper.done()


async def test_clock_that_was_far_ahead_does_not_stop_retention_nor_searches_for_a_time(tmp_path: Path) -> None:
    """Ten years ahead for some commits, then right: told once; what was stored meanwhile goes with its neighbours."""
    now = 1_000_000.0

    def clock() -> float:
        return now

    async with opened(tmp_path, Retention(1 << 30, 600.0), clock) as journal:
        await journal.append([entry(0)])
        now += 10 * 365 * 86_400
        for number in range(1, 20):
            await journal.append([entry(number)])
    now = 1_000_060.0
    with capture_logs() as lines:
        async with opened(tmp_path, Retention(1 << 30, 600.0), clock) as journal:
            for number in range(20, 40):
                await journal.append([entry(number)])
                now += 10.0
            reader = await journal.browse("any", [], start="earliest")
            records = await reader.fetch(max_records=99, wait_s=0)
            assert [1_000_060.0 + 10.0 * number for number in range(20)] == [one.appended_at for one in records[20:]]
            assert [1, 1, 21, 21, 30, 39, 40] == [
                await journal.file.offset_at(EVENTS, at)
                for at in (1_000_001.0, 1_000_060.0, 1_000_061.0, 1_000_070.0, 1_000_160.0, 1_000_250.0, 2_000_000.0)
            ]
            now = 1_000_000.0 + 661.0  # older than 600 s: what was stored at 60, and all before it
            await journal.writer.housekeep()
            assert 21 == journal.floor(EVENTS)
    (told,) = (line for line in lines if line["event"] == "journal.clock_set_back")
    assert told["seconds"] == 10 * 365 * 86_400 - 60


async def test_age_takes_everything_that_is_old_however_much_it_is(tmp_path: Path) -> None:
    """Thousands of small commits go in one round of housekeeping, in steps between which commits are served."""
    now = 1_000_000.0
    async with opened(tmp_path, Retention(1 << 30, 60.0), clock=lambda: now) as journal:
        for number in range(1500):
            await journal.append([entry(number)])
        now += 120
        keeping = asyncio.create_task(journal.writer.housekeep())
        await journal.append([entry(5000)])
        await keeping
        assert journal.floor(EVENTS) == 1500


async def test_published_events_go_early_but_for_the_window_of_known_ids(tmp_path: Path) -> None:
    policy = Retention(1 << 30, 3600.0, protected="publisher", publish_grace_records=100)
    async with opened(tmp_path, policy) as journal:
        await journal.cursors.load("publisher", ["sms.dr"], [EVENTS], start="earliest")
        for number in range(1000):
            await journal.append([entry(number)])
        journal.cursors.commit("publisher", EVENTS, 1000)
        await journal.flush()
        await journal.writer.housekeep()
        assert journal.floor(EVENTS) == 900


async def test_stored_subscribers_outlive_retention_by_age_and_by_size(tmp_path: Path) -> None:
    """They go after a year only, and make no room for events."""
    now = 1_000_000.0
    async with opened(tmp_path, Retention(MIB, 60.0), clock=lambda: now) as journal:
        await journal.append([entry(0, topic="fanout.subscribers"), entry(1, topic="fanout.state")])
        now += KEPT_S - 1000.0
        for number in range(2, 160):
            await journal.append([entry(number, size=8000)])
        await journal.flush()
        await journal.writer.housekeep()
        assert (0, 1) == (journal.floor("fanout.subscribers"), journal.floor("fanout.state"))
        assert 0 < journal.floor(EVENTS)
        now += 2000.0
        await journal.writer.housekeep()
        assert 1 == journal.floor("fanout.subscribers")


async def test_a_stream_can_have_a_shorter_age(tmp_path: Path) -> None:
    """Its records go after it, and those of the others stay."""
    now = 1_000_000.0
    policy = Retention(1 << 30, 3600.0, ages={"fanout.attempts": 60.0, "retry.60s": 9e9})
    async with opened(tmp_path, policy, clock=lambda: now) as journal:
        await journal.append([entry(1), entry(2, topic="fanout.attempts"), entry(3, topic="retry.60s")])
        for age_s, left in ((61.0, (1, 0, 1)), (3601.0, (0, 0, 0))):
            now = 1_000_000.0 + age_s
            await journal.writer.housekeep()
            kept = [journal.head(name) - journal.floor(name) for name in (EVENTS, "fanout.attempts", "retry.60s")]
            assert tuple(kept) == left
