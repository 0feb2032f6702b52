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

from gateway.cli import checking
from gateway.config.settings import Settings
from gateway.errors import Broken, JournalDamaged, JournalInUse, JournalUnavailable, NotNow, Transient
from gateway.log import ALL_NEW, Entry, Placed
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.log.journal.files import FILE_NAME

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


async def test_journals_of_the_layout_before_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """Their events were answered with success: a start that ignores them would lose them in silence."""
    for worker in ("worker-1", "worker-0"):
        async with opened(tmp_path / worker) as journal:
            await journal.append([entry(1)])
    with pytest.raises(Broken, match=r"worker-0, worker-1 hold journals of an earlier layout.* move these folders"):
        await Journal(tmp_path, ROOMY).start()
    assert not (tmp_path / FILE_NAME).exists()
    found = await checking.look(Settings.model_validate({"journal": {"dir": str(tmp_path)}}), "serve", None)
    assert [("problem", "journal.dir")] == [(one.level, one.path) for one in found if one.level == "problem"]


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
        assert await journal.file.offset_at(EVENTS, 1_000_000.0) == 0


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
        ids = journal.writer.store.newest_ids(100)
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
    kept = [int.from_bytes(event_id) for event_id in again.writer.store.newest_ids(1000)]
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
        assert journal.file.store is not None
        journal.file.store.close()
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


async def test_disk_that_refuses_gives_an_error_and_the_journal_goes_on_by_itself(tmp_path: Path) -> None:
    """Writes past a limit of the kernel fail; what was acknowledged is kept; once the limit is gone appends succeed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FULL_DISK, str(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    _, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-2000:]


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
