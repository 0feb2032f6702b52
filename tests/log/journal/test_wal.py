"""A flipped bit in the write-ahead log is told; a torn end, which costs nothing, is not."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log import Entry
from gateway.log.journal import Journal, Retention, batch_format, wal
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.storage import Store
from tests.effort import examples

FRAME = 4096 + 24
#: Commits of a new journal before the first record: names, tables.
SETUP = 5


def crashed(folder: Path, commits: int = 20) -> Path:
    """A journal whose process died with all its commits in the WAL; the copied database file."""
    running = folder / "running"
    running.mkdir()
    store = Store(running, is_writer=True)
    for number in range(commits):
        draft = batch_format.Draft()
        entry = Entry("sms.dr", "k", f"{number:032x}", b"x" * 3000)
        draft.add(entry.topic, batch_format.encode(entry))
        store.commit({"events": draft}, {}, float(number))
    left = folder / "crashed"
    shutil.copytree(running, left)
    store.close()
    (left / f"{FILE_NAME}-shm").unlink()  # what a machine that lost power does not have either
    return left / FILE_NAME


def log_of(database: Path) -> Path:
    return database.with_name(f"{FILE_NAME}-wal")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))


def found(database: Path) -> tuple[wal.Dropped | None, int]:
    """What is told, and how many commits SQLite has kept."""
    examined = wal.dropped(database)
    with closing(sqlite3.connect(database)) as db:
        try:
            (count,) = db.execute("SELECT count(*) FROM segment").fetchone()
        except sqlite3.OperationalError:  # not even the table is left
            count = 0
    return examined, count


def test_a_sound_log_has_nothing_left_over(tmp_path: Path) -> None:
    assert found(crashed(tmp_path)) == (None, 20)


def test_a_closed_journal_has_nothing_left_over(tmp_path: Path) -> None:
    store = Store(tmp_path, is_writer=True)
    store.close()
    assert wal.dropped(store.path) is None


@settings(max_examples=examples(15), deadline=None)
@given(cut=st.integers(1, 3 * FRAME))
def test_a_torn_end_is_not_told(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """A log that ends anywhere ends with a commit that never returned."""
    database = crashed(tmp_path_factory.mktemp("torn"))
    data = log_of(database).read_bytes()
    log_of(database).write_bytes(data[:-cut])
    assert found(database)[0] is None


@settings(max_examples=examples(20), deadline=None)
@given(data=st.data())
def test_a_flipped_bit_with_commits_behind_it_is_told(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whichever bit of a frame it is: page, numbers, salts, checksums; and the count is never more than was lost."""
    database = crashed(tmp_path_factory.mktemp("flipped"))
    frames = (log_of(database).stat().st_size - 32) // FRAME
    at = 32 + data.draw(st.integers(0, frames - 12)) * FRAME + data.draw(st.integers(0, FRAME - 1))
    flip(log_of(database), at)
    leftover, kept = found(database)
    assert leftover is not None
    assert leftover.is_certain
    assert leftover.commits <= 20 + SETUP - kept


def test_a_flipped_bit_in_the_head_of_the_log_is_told(tmp_path: Path) -> None:
    """SQLite then takes nothing at all of it."""
    database = crashed(tmp_path)
    flip(log_of(database), 17)
    leftover, kept = found(database)
    assert kept == 0
    assert leftover is not None
    assert leftover.is_certain


def test_what_a_failed_commit_left_behind_is_not_told_as_lost(tmp_path: Path) -> None:
    """Sound frames of one commit behind a bad one may have been answered 503: that is said, and no loss is claimed."""
    database = crashed(tmp_path)
    data = log_of(database).read_bytes()
    last_commit = [
        at for at in range(32, len(data), FRAME) if struct.unpack_from(">I", data, at + 4)[0]
    ][-2]  # fmt: skip
    flip(log_of(database), last_commit + 100)
    leftover, _ = found(database)
    assert leftover is not None
    assert not leftover.is_certain


async def test_the_journal_says_so_and_keeps_the_log(tmp_path: Path) -> None:
    """Started on a damaged log it tells at once, goes on, and what it could not read is kept aside, once."""
    database = crashed(tmp_path)
    flip(log_of(database), 32 + 5 * FRAME + 200)
    damaged = log_of(database).read_bytes()
    for _ in range(2):
        journal = Journal(database.parent, Retention(1 << 30, 3600.0))
        await journal.start()
        await journal.append([Entry("sms.dr", "k", "f" * 32, b"new")])
        await journal.stop()
    copies = list(database.parent.glob("*.damaged-*"))
    assert [damaged] == [copy.read_bytes() for copy in copies]
