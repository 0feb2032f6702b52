"""Promises of the journal that the model does not show: who may open it, what goes when, what a bad disk does."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import JournalDamaged, JournalFull, JournalInUse, JournalUnavailable, NotNow, Transient
from gateway.log import ALL_NEW, Entry, Placed
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.journal.recent_ids import newest_ids
from gateway.log.journal.store import FILE_NAME

ROOMY = Retention(1 << 30, 3600.0)
MIB = 1024 * 1024


def entry(number: int, *, topic: str = "sms.dr", size: int = 100) -> Entry:
    return Entry(topic, f"key-{number % 7}", f"{number:032x}", number.to_bytes(8, "big") * (size // 8))


@asynccontextmanager
async def opened(
    folder: Path, retention: Retention = ROOMY, clock: Callable[[], float] | None = None, **options: object
) -> AsyncIterator[Journal]:
    journal = Journal(folder, retention, **({"clock": clock} if clock else {}), **options)  # type: ignore[arg-type]
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


async def test_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """A clear error names the folder and the holder; the first goes on."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom gateway.log.journal import Journal, Retention\n"
        "asyncio.run(Journal(Path(sys.argv[1]), Retention(1 << 30, 3600.0)).start())"
    )
    async with opened(tmp_path) as journal:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path), stderr=subprocess.PIPE
        )
        _, stderr = await process.communicate()
        assert process.returncode != 0
        assert b"JournalInUse" in stderr
        assert str(tmp_path).encode() in stderr
        with pytest.raises(JournalInUse, match=r"in use by another gateway \(process \d+\)"):
            await Journal(tmp_path, ROOMY).start()
        await journal.append([entry(1)])


async def test_start_and_stop_may_come_twice_and_stop_before_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ROOMY)
    await journal.stop()
    await journal.start()
    await journal.start()
    await journal.append([entry(1)])
    await journal.stop()
    await journal.stop()
    with pytest.raises(JournalUnavailable):
        await journal.append([entry(2)])
    async with opened(tmp_path) as again:
        assert again.head(EVENTS) == 1


async def test_stop_stores_what_still_waits(tmp_path: Path) -> None:
    """An append under way when the stop comes is stored, and its waiter told so."""
    journal = Journal(tmp_path, ROOMY)
    await journal.start()
    waiting = [journal.append_soon([entry(number)]) for number in range(100)]
    await journal.stop()
    assert [ALL_NEW] * 100 == [future.result() for future in waiting]
    async with opened(tmp_path) as again:
        assert again.head(EVENTS) == 100


async def test_one_bad_entry_harms_no_other(tmp_path: Path) -> None:
    """An entry that cannot be encoded is its caller's error; those who share the commit are stored."""
    async with opened(tmp_path) as journal:
        good = journal.append_soon([entry(1)])
        with pytest.raises(ValueError, match="32 hex digits"):
            await journal.append([Entry("sms.dr", "k", "abcd", b"")])
        with pytest.raises(ValueError, match="surrogates"):
            await journal.append([Entry("sms.dr", "\ud800", "0" * 32, b"")])
        await good
        assert journal.head(EVENTS) == 1


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


async def test_times_never_run_backward_when_the_clock_does(tmp_path: Path) -> None:
    """A clock set back by an hour must not break the search for a time."""
    now = 1_000_000.0
    async with opened(tmp_path, clock=lambda: now) as journal:
        await journal.append([entry(1)])
        now -= 3600
        await journal.append([entry(2)])
        reader = await journal.browse("any", [], start="earliest")
        first, second = await reader.fetch(max_records=9, wait_s=0)
        assert first.appended_at <= second.appended_at
        assert await journal.offset_at(EVENTS, 1_000_000.0) == 0


async def test_reader_behind_the_memory_reads_the_file_and_comes_back_in_order(tmp_path: Path) -> None:
    """Twice the cache's bytes are read whole and in order, half of it from disk."""
    count = 1200
    async with opened(tmp_path) as journal:
        reader = await journal.browse("slow", [], start="earliest")
        for first in range(0, count, 100):
            await journal.append([entry(number, size=8000) for number in range(first, first + 100)])
        cache = journal.cache(EVENTS)
        assert cache is not None
        assert 0 < cache.first < count
        offsets: list[int] = []
        while records := await reader.fetch(max_records=333, wait_s=0):
            offsets += [record.offset for record in records]
        assert list(range(count)) == offsets


async def test_idle_reader_of_other_topics_moves_on(tmp_path: Path) -> None:
    """What a reader does not want is no lag once it looked at it."""
    async with opened(tmp_path) as journal:
        reader = await journal.browse("calls", ["call.event"], start="earliest")
        await journal.append([entry(number) for number in range(10)])
        assert [] == list(await reader.fetch(max_records=5, wait_s=0))
        assert {EVENTS: 10} == await reader.positions()


async def test_waiting_reader_is_woken_by_an_append(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        reader = await journal.browse("live", [], start="latest")
        fetching = asyncio.create_task(reader.fetch(max_records=5, wait_s=30))
        await journal.append([entry(1)])
        assert [0] == [record.offset for record in await fetching]


async def test_paused_reader_returns_nothing_until_resumed(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        reader = await journal.browse("paused", [], start="earliest")
        await journal.append([entry(1)])
        reader.pause([EVENTS])
        assert not await reader.fetch(max_records=5, wait_s=0)
        fetching = asyncio.create_task(reader.fetch(max_records=5, wait_s=30))
        reader.resume([EVENTS])
        assert len(await fetching) == 1


async def test_flipped_bit_is_told_and_stepped_over_never_served(tmp_path: Path) -> None:
    """A damaged segment costs its own events and no other, and the log names which."""
    async with opened(tmp_path) as journal:
        for number in range(5):
            await journal.append([entry(number, size=2000)])
    path = tmp_path / FILE_NAME
    content = bytearray(path.read_bytes())
    at = content.index((2).to_bytes(8, "big") * 20)
    content[at + 100] ^= 0x10
    path.write_bytes(content)
    async with opened(tmp_path) as journal:
        reader = await journal.browse("any", [], start="earliest")
        offsets: list[int] = []
        while records := await reader.fetch(max_records=10, wait_s=0):
            offsets += [record.offset for record in records]
        assert [0, 1, 3, 4] == offsets
        ids = newest_ids(journal.writer.store, 100)
        assert [number.to_bytes(16) for number in (0, 1, 3, 4)] == list(ids)


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 5000])
async def test_file_that_is_no_journal_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(JournalDamaged, match="gateway journal check"):
        await Journal(tmp_path, ROOMY).start()


async def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalUnavailable, match="cannot be written"):
        await Journal(tmp_path / "file" / "data", ROOMY).start()


_FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from gateway.errors import JournalUnavailable
from gateway.log import Entry
from gateway.log.journal import Journal, Retention
from gateway.log.journal.recent_ids import newest_ids

async def main():
    journal = Journal(Path(sys.argv[1]), Retention(1 << 30, 3600.0))
    await journal.start()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    stored, refused = [], 0
    for number in range(200):
        try:
            await journal.append([Entry("sms.dr", "k", f"{number:032x}", b"x" * 4000)])
            stored.append(number)
        except JournalUnavailable:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await journal.append([Entry("sms.dr", "k", f"{999:032x}", b"y")])
    stored.append(999)
    await journal.stop()
    again = Journal(Path(sys.argv[1]), Retention(1 << 30, 3600.0))
    await again.start()
    kept = [int.from_bytes(event_id) for event_id in newest_ids(again.writer.store, 1000)]
    await again.stop()
    assert refused > 20, refused
    assert set(stored) <= set(kept), (stored, kept)
    assert len(kept) == len(set(kept))

asyncio.run(main())
"""


async def with_a_bad_page(folder: Path) -> bytes:
    """A stopped journal whose oldest records cannot be read by SQLite; the file as it was before."""
    async with opened(folder) as journal:
        for number in range(300):
            await journal.append([entry(number)])
    content = (folder / FILE_NAME).read_bytes()
    page = content.index((1).to_bytes(8, "big") * 10) // 4096
    (folder / FILE_NAME).write_bytes(content[: page * 4096] + b"\xff" * 16 + content[page * 4096 + 16 :])
    return content


async def test_a_page_that_cannot_be_read_is_not_now_for_who_appends(tmp_path: Path) -> None:
    """Room cannot be made for a commit: its sender is told to come again, and no error of SQLite comes out."""
    await with_a_bad_page(tmp_path)
    async with opened(tmp_path, Retention(64 * 1024, 1e9)) as journal:
        with pytest.raises(NotNow, match="gateway journal salvage"):
            await journal.append([entry(1000, size=4000)])
        assert "gateway journal salvage" in journal.last_failure


async def test_housekeeping_goes_on_after_a_round_that_failed(tmp_path: Path) -> None:
    """One read that fails must not end retention until the next restart."""
    await with_a_bad_page(tmp_path)
    async with opened(tmp_path) as journal:
        (keeper,) = (task for task in asyncio.all_tasks() if task.get_name() == "journal-housekeeping")
        for _ in range(2):  # the second is behind the keeper's own first round
            with pytest.raises(JournalDamaged):
                await journal.writer.housekeep()
        assert not keeper.done()


async def test_start_on_damaged_positions_says_what_to_do_and_holds_nothing(tmp_path: Path) -> None:
    """With the advice to salvage; the folder is free again, so that it can be mended and started."""
    async with opened(tmp_path) as journal:
        await journal.append([entry(1)])
    path = tmp_path / FILE_NAME
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'cursor'").fetchone()
    at = (root - 1) * 4096
    path.write_bytes(content[:at] + b"\xff" * 200 + content[at + 200 :])
    damaged = Journal(tmp_path, ROOMY)
    with pytest.raises(JournalDamaged, match="gateway journal salvage"):
        await damaged.start()
    path.write_bytes(content)
    await damaged.start()
    await damaged.stop()


async def test_reading_that_may_heal_is_transient(tmp_path: Path) -> None:
    """What a reader's owner waits out is told from what it cannot."""
    async with opened(tmp_path) as journal:
        await journal.append([entry(1)])
        reader = await journal.browse("any", [], start="earliest")
        journal._read_store.close()
        with pytest.raises(Transient, match="SQLite refused"):
            await reader.fetch(max_records=9, wait_s=0)


async def test_a_beginning_that_cannot_be_stored_leaves_no_cursor(tmp_path: Path) -> None:
    """Its position could not be made durable: nobody has it, and it is asked for again."""
    async with opened(tmp_path) as journal:
        await journal.append([entry(1)])
        with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else may write
            journal.writer.store._db.execute("PRAGMA busy_timeout=0")
            with pytest.raises(Transient):
                await journal.cursors.load("new", ["sms.dr"], [EVENTS], start="earliest")
        assert {} == journal.cursors.committed("new")
        assert {EVENTS: Placed(0)} == await journal.cursors.load("new", ["sms.dr"], [EVENTS], start="earliest")


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
                await journal.offset_at(EVENTS, at)
                for at in (1_000_001.0, 1_000_060.0, 1_000_061.0, 1_000_070.0, 1_000_160.0, 1_000_250.0, 2_000_000.0)
            ]
            now = 1_000_000.0 + 661.0  # older than 600 s: what was stored at 60, and all before it
            await journal.writer.housekeep()
            assert 21 == journal.floor(EVENTS)
    (told,) = (line for line in lines if line["event"] == "journal.clock_set_back")
    assert told["seconds"] == 10 * 365 * 86_400 - 60


async def test_disk_that_refuses_gives_an_error_and_the_journal_goes_on_by_itself(tmp_path: Path) -> None:
    """Writes past a limit of the kernel fail; what was acknowledged is kept; once the limit is gone appends succeed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FULL_DISK, str(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    _, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-2000:]


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


async def test_the_wal_starts_over_under_load_and_everything_is_kept(tmp_path: Path) -> None:
    """Checkpoints go on beside commits: the WAL stays a few times what one of them takes, however much is written."""
    count, size = 400, 128 * 1024
    wal = tmp_path / f"{FILE_NAME}-wal"
    largest = 0
    async with opened(tmp_path) as journal:
        for number in range(count):
            await journal.append([entry(number, size=size)])
            largest = max(largest, wal.stat().st_size)
    assert largest < 32 * MIB < count * size
    async with opened(tmp_path) as journal:
        reader = await journal.browse("all", [], start="earliest")
        ids: list[str] = []
        while len(ids) < count:
            ids += [record.id for record in await reader.fetch(max_records=100, wait_s=1.0)]
        assert ids == [entry(number).id for number in range(count)]
