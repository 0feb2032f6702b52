"""Damage to the names of an open journal's files: no append succeeds that the next start would not find."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import JournalUnavailable, NotNow
from gateway.log.journal import Journal
from gateway.log.journal.check import check
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.open_files import CHECK_INTERVAL_S, JournalMoved
from gateway.log.journal.sqlite_errors import ADVICE, REPORT, advice, translated
from tests.log.journal.test_journal import entry, opened
from tests.waiting import pause, until

WAL = f"{FILE_NAME}-wal"


def replace(path: Path) -> None:
    """Put another file with the same content in its place."""
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    os.replace(copy, path)


def overwrite(path: Path) -> None:
    """Write zeros over all of it."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size))


def exchange(folder: Path) -> None:
    """Put an empty folder in its place."""
    folder.rename(folder.with_name("away"))
    folder.mkdir()


def copied(folder: Path) -> None:
    """Put a copy of the folder in its place."""
    folder.rename(folder.with_name("away"))
    shutil.copytree(folder.with_name("away"), folder)


def cut_and_grown(path: Path) -> None:
    """Cut it off and let it grow past its size again, as a writer does that has it open."""
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size + 4120)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "rm -rf": shutil.rmtree,
    "folder moved away": lambda folder: folder.rename(folder.with_name("away")) and None,
    "another folder": exchange,
    "a copy of the folder": copied,
    "database deleted": lambda folder: (folder / FILE_NAME).unlink(),
    "database replaced": lambda folder: replace(folder / FILE_NAME),
    "database cut": lambda folder: os.truncate(folder / FILE_NAME, 512),
    "database overwritten": lambda folder: overwrite(folder / FILE_NAME),
    "log deleted": lambda folder: (folder / WAL).unlink(),
    "log replaced": lambda folder: replace(folder / WAL),
    "log cut to nothing": lambda folder: os.truncate(folder / WAL, 0),
    "log cut in the middle": lambda folder: os.truncate(folder / WAL, 20_000),
    "log cut and grown": lambda folder: cut_and_grown(folder / WAL),
    "log overwritten": lambda folder: overwrite(folder / WAL),
    "lock deleted": lambda folder: (folder / "lock").unlink(),
    "lock replaced": lambda folder: replace(folder / "lock"),
}
HARMLESS: dict[str, Callable[[Path], None]] = {
    "shm deleted": lambda folder: (folder / f"{FILE_NAME}-shm").unlink(),
    "folder read-only": lambda folder: folder.chmod(0o500),
    "database read-only": lambda folder: (folder / FILE_NAME).chmod(0o400),
    "touched": lambda folder: os.utime(folder / FILE_NAME, (1, 1)),
    "a hard link more": lambda folder: os.link(folder / FILE_NAME, folder / "backup"),
    "moved and back": lambda folder: folder.rename(folder.with_name("x")).rename(folder) and None,
    "another program looks": lambda folder: looked_at(folder / FILE_NAME),
    "another program copies the log into the file": lambda folder: folded(folder / FILE_NAME),
}
damages = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


def looked_at(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("SELECT count(*) FROM segment").fetchone()


def folded(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


async def filled(journal: Journal) -> None:
    for number in range(20):
        await journal.append([entry(number)])


@damages
async def test_first_append_after_a_pause_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Nothing was asked between the damage and the append; one line in the log says what to do, however many fail."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await filled(journal)
        damage(folder)
        await pause(CHECK_INTERVAL_S, "the pause")
        with capture_logs() as lines:
            for number in range(20, 25):
                with pytest.raises(JournalMoved) as refused:
                    await journal.append([entry(number)])
            with pytest.raises(JournalMoved):
                journal.writer.check()
        assert refused.value.retry_after_s
        assert str(folder) in journal.last_failure
        assert [("journal.moved", "error")] == [(line["event"], line["log_level"]) for line in lines]
        assert lines[0]["advice"] in journal.last_failure


@damages
async def test_under_load_no_append_succeeds_that_began_an_interval_later(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Appends follow each other without a pause: at most those of one interval are lost with the files."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await filled(journal)
        damage(folder)
        damaged_at = time.monotonic()
        began_at = damaged_at
        with pytest.raises(NotNow):
            for number in range(100, 1_000_000):
                began_at = time.monotonic()
                await journal.append([entry(number)])
                assert began_at - damaged_at < CHECK_INTERVAL_S
        with pytest.raises(JournalMoved):
            await journal.append([entry(99)])


@damages
async def test_idle_journal_is_not_ready(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Without any append the round of the second finds it."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await filled(journal)
        damage(folder)
        await until(lambda: journal.last_failure, within_s=10)


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS.keys())
async def test_what_costs_the_next_start_nothing_refuses_nothing(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """A gateway is not stopped by a backup, a look or a change of rights; the next start finds all."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await filled(journal)
        change(folder)
        journal.writer.check()
        for number in range(20, 30):
            await journal.append([entry(number)])
        journal.writer.check()
        assert not journal.last_failure
    folder.chmod(0o700)
    assert 30 == check(folder).streams[0].records


async def test_folder_that_is_put_back_continues_by_itself(tmp_path: Path) -> None:
    """Readiness returns within the round of a second, the next append is stored behind the others, nothing is lost."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await filled(journal)
        folder.rename(tmp_path / "away")
        with pytest.raises(JournalMoved):
            journal.writer.check()
        (tmp_path / "away").rename(folder)
        with capture_logs() as lines:
            journal.writer.check()
        assert not journal.last_failure
        assert ["journal.moved_back"] == [line["event"] for line in lines]
        await journal.append([entry(20)])
    assert 21 == check(folder).streams[0].records


@pytest.mark.parametrize("damage", ["log deleted", "log replaced"])
async def test_commits_of_a_log_that_lost_its_name_are_saved_in_the_database(tmp_path: Path, damage: str) -> None:
    """As soon as it is noticed: a process that is killed then has lost nothing."""
    folder, saved = tmp_path / "data", tmp_path / "saved"
    async with opened(folder) as journal:
        await filled(journal)
        DAMAGES[damage](folder)
        with pytest.raises(JournalMoved, match="are saved in the database"):
            journal.writer.check()
        saved.mkdir()
        shutil.copyfile(folder / FILE_NAME, saved / FILE_NAME)  # what a start after SIGKILL opens
        assert 20 == check(saved).streams[0].records
    assert 20 == check(folder).streams[0].records


@pytest.mark.parametrize("damage", ["rm -rf", "another folder", "database deleted", "database replaced"])
async def test_what_was_answered_can_be_copied_from_the_open_files(tmp_path: Path, damage: str) -> None:
    """The commands of the advice make a whole journal, as long as the process lives."""
    folder, saved = tmp_path / "data", tmp_path / "saved"
    async with opened(folder) as journal:
        await filled(journal)
        DAMAGES[damage](folder)
        with pytest.raises(JournalMoved) as refused:
            journal.writer.check()
        words = str(refused.value).replace(",", "").split()
        sources = [word for word in words if word.startswith(f"/proc/{os.getpid()}/fd/")]
        saved.mkdir()
        for source, name in zip(sources, (FILE_NAME, WAL), strict=True):
            shutil.copyfile(source, saved / name)
        async with opened(saved) as found:
            assert 20 == len(list(found.writer.store.newest_ids(100)))


async def test_stop_does_not_spread_the_damage_of_a_log_to_the_database(tmp_path: Path) -> None:
    """The commits before the cut are there after it."""
    folder = tmp_path / "data"
    async with opened(folder) as journal:
        await filled(journal)
        size = (folder / WAL).stat().st_size
        os.truncate(folder / WAL, size - 8000)
        with pytest.raises(JournalMoved, match="was cut from"):
            journal.writer.check()
    saved = tmp_path / "saved"
    saved.mkdir()
    for name in (FILE_NAME, WAL):
        shutil.copyfile(folder / name, saved / name)
    report = check(saved)
    assert report.is_sound
    assert 10 < report.streams[0].records < 20


async def test_ready_again_without_a_callback_when_the_disk_takes_commits_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that is not ready gets no callbacks: it tries by itself."""
    async with opened(tmp_path) as journal:
        with monkeypatch.context() as broken:
            broken.setattr(journal.writer.store, "commit", failing)
            broken.setattr(journal.writer.store, "probe", failing)
            with pytest.raises(JournalUnavailable):
                await journal.append([entry(1)])
            with pytest.raises(JournalUnavailable):
                journal.writer.check()
            assert journal.last_failure
        journal.writer.check()
        assert not journal.last_failure
        await journal.append([entry(1)])


def failing(*_: object) -> None:
    cause = refused(sqlite3.SQLITE_FULL)
    raise translated(cause, Path("data/journal.sqlite")) from cause


CODES = {name: getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith("SQLITE_")}
PRIMARY = """
ERROR INTERNAL PERM BUSY LOCKED NOMEM READONLY IOERR CORRUPT FULL CANTOPEN PROTOCOL SCHEMA TOOBIG CONSTRAINT MISMATCH
MISUSE NOLFS AUTH NOTADB
"""


def refused(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "NAME"
    return error


@pytest.mark.parametrize("name", PRIMARY.split())
def test_every_result_code_has_its_advice(name: str) -> None:
    """Only what a full disk causes advises to free space; extended codes fall back to their primary one."""
    code = CODES[f"SQLITE_{name}"]
    for extended in (code, code | 99 << 8):
        text = str(translated(refused(extended), Path("data/journal.sqlite")))
        assert "what SQLite says" in text
        assert ("free space" in text) == (name == "FULL")
        assert name in ("CORRUPT", "NOTADB") or advice(refused(extended)) == ADVICE.get(code, REPORT)


async def test_constraint_that_fails_does_not_advise_to_free_space(tmp_path: Path) -> None:
    """Another program has written a row where the next one belongs."""
    async with opened(tmp_path) as journal:
        await journal.append([entry(1)])
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            db.execute("INSERT INTO segment SELECT id + 1, count, appended_at, topics, crc, records FROM segment")
            db.commit()
        with pytest.raises(JournalUnavailable, match=r"SQLITE_CONSTRAINT.*no other program writes") as error:
            await journal.append([entry(2)])
        assert "space" not in str(error.value)
        journal.writer.check()
        assert journal.last_failure  # only a restart helps: not ready until then
