"""Damaged journals: what can be read is found and copied, what cannot is named, and nothing is said that is not so."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from gateway.errors import Broken, JournalDamaged, JournalUnavailable
from gateway.log import Entry, Record
from gateway.log.journal import batch_format, wal
from gateway.log.journal.check import CheckedJournal, check
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.salvage import salvage
from gateway.log.journal.storage import Store

NOW = 1_770_000_000.0


def entry(number: int, topic: str = "sms.dr") -> Entry:
    return Entry(topic, f"key-{number % 7}", f"{number:032x}", b'{"n":%d,"x":"%s"}' % (number, b"y" * 300))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed journal of 1,000 records, made once: each of its commits waits for the disk."""
    folder = tmp_path_factory.mktemp("thousand")
    filled(folder)
    return folder


def filled(folder: Path, commits: int = 200, each: int = 5, *, stream: str = "events", topic: str = "sms.dr") -> None:
    """So many commits of so many records, and one reader half-way."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder, is_writer=True)
    start = store.streams[stream].head if stream in store.streams else 0
    for commit in range(commits):
        draft = batch_format.Draft()
        for number in range(start + commit * each, start + (commit + 1) * each):
            draft.add((one := entry(number, topic)).topic, batch_format.encode(one))
        store.commit({stream: draft}, {("fanout.a", stream): commit * each // 2}, NOW + commit)
    store.close()


def everything(folder: Path, stream: str = "events") -> list[Record]:
    """All records of a journal; what is missing in one is passed over."""
    store = Store(folder, is_writer=False)
    try:
        position, found = 0, []
        while items := store.read(stream, position, 1 << 20):
            for item in items:
                found += item.records or []
                position = item.end
        return found
    finally:
        store.close()


def page_size(folder: Path) -> int:
    with sqlite3.connect(folder / FILE_NAME) as db:
        return int(db.execute("PRAGMA page_size").fetchone()[0])


def test_sound_journal_is_sound(thousand: Path, tmp_path: Path) -> None:
    """Every record counted, positions read, nothing found."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    report = check(tmp_path)
    assert report.is_sound
    (events,) = report.streams
    assert (events.name, events.floor, events.head, events.records) == ("events", 0, 1000, 1000)
    assert {("fanout.a", "events"): 497} == report.cursors


def test_trimmed_journal_is_sound(thousand: Path, tmp_path: Path) -> None:
    """What retention took is not damage, also when all of a stream is gone."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    filled(tmp_path, 10, stream="dlq.a", topic="dlq.a")
    store = Store(tmp_path, is_writer=True)
    store.trim("events", 400)
    store.trim("dlq.a", 50)
    store.close()
    report = check(tmp_path)
    assert report.is_sound
    assert [("events", 400, 600), ("dlq.a", 50, 0)] == [(one.name, one.floor, one.records) for one in report.streams]


def test_salvage_of_a_sound_journal_is_the_same_journal(thousand: Path, tmp_path: Path) -> None:
    """Records, offsets, times, positions, and it goes on where it stood."""
    shutil.copytree(thousand, tmp_path / "old")
    filled(tmp_path / "old", 3, stream="retry.a.60", topic="retry.a.60")
    salvage(tmp_path / "old", tmp_path / "new")
    for stream in ("events", "retry.a.60"):
        assert everything(tmp_path / "old", stream) == everything(tmp_path / "new", stream)
    store = Store(tmp_path / "new", is_writer=True)
    assert {("fanout.a", "events"): 497, ("fanout.a", "retry.a.60"): 5} == store.cursors()
    draft = batch_format.Draft()
    draft.add((one := entry(1000)).topic, batch_format.encode(one))
    assert {"events": 1000} == store.commit({"events": draft}, {}, NOW)
    store.close()


def test_flipped_bit_in_a_record_costs_its_commit_only(thousand: Path, tmp_path: Path) -> None:
    """SQLite does not see it; the checksum does."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    at = data.index(b'{"n":503,')
    data[at + 40] ^= 0x10
    path.write_bytes(data)
    report = check(tmp_path)
    assert ["events offsets 500 to 504: the checksum is wrong"] == [str(damage) for damage in report.damages]
    assert report.streams[0].records == 995
    salvage(tmp_path, tmp_path / "new")
    assert [n for n in range(1000) if not 500 <= n <= 504] == [record.offset for record in everything(tmp_path / "new")]


@pytest.mark.parametrize("seed", range(12))
def test_any_page_overwritten_loses_only_what_is_named(thousand: Path, tmp_path: Path, seed: int) -> None:
    """Whole pages of noise anywhere but the first: every record is copied right or is among the damages."""
    rng = Random(seed)
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    before = {record.offset: record for record in everything(tmp_path)}
    path, size = tmp_path / FILE_NAME, page_size(tmp_path)
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        page = rng.randrange(1, len(data) // size)
        data[page * size : (page + 1) * size] = rng.randbytes(size)
    path.write_bytes(data)
    try:
        report = salvage(tmp_path, tmp_path / "new")
    except JournalDamaged as exc:
        pytest.fail(f"nothing was salvaged: {exc}")
    assert not report.is_sound
    copied = everything(tmp_path / "new") if any(one.records for one in report.streams) else []
    assert all(before[record.offset] == record for record in copied)
    named = {n for one in report.damages for n in range(one.first, one.last + 1)}
    whole_is_named = any("cannot be read" in problem for problem in report.problems)
    missing = set(before) - {record.offset for record in copied} - named
    assert not missing or whole_is_named


def leaves(data: bytes, size: int) -> list[int]:
    """Where the pages of rows of :func:`thousand` begin; the first four pages are those of the other tables."""
    return [at for at in range(4 * size, len(data), size) if data[at] == 0x0D]


def test_page_that_stands_twice_is_read_once(thousand: Path, tmp_path: Path) -> None:
    """A write that went to the wrong place: what it overwrote is named, what it repeats counts once."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    path, size = tmp_path / FILE_NAME, page_size(tmp_path)
    data = bytearray(path.read_bytes())
    one, other = leaves(data, size)[20:22]
    data[other : other + size] = data[one : one + size]
    path.write_bytes(data)
    report = salvage(tmp_path, tmp_path / "new")
    (damage,) = report.damages
    assert any("is duplicated" in problem for problem in report.problems)
    lost = range(damage.first, damage.last + 1)
    assert 0 < len(lost) < 50
    assert 1000 - len(lost) == report.streams[0].records
    assert [n for n in range(1000) if n not in lost] == [record.offset for record in everything(tmp_path / "new")]


def test_pages_that_changed_places_are_both_copied(thousand: Path, tmp_path: Path) -> None:
    """What stands in no order and has not been met yet is as good as before."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    path, size = tmp_path / FILE_NAME, page_size(tmp_path)
    data = bytearray(path.read_bytes())
    one, other = leaves(data, size)[20:22]
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    path.write_bytes(data)
    assert not salvage(tmp_path, tmp_path / "new").is_sound
    assert list(range(1000)) == [record.offset for record in everything(tmp_path / "new")]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_file_gives_its_beginning(thousand: Path, tmp_path: Path, share: float) -> None:
    """The end is gone; what is left is read, and a reader's position tells how far it went."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    store = Store(tmp_path, is_writer=True)
    store.commit({}, {("fanout.a", "events"): 1000}, NOW)
    store.close()
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    report = salvage(tmp_path, tmp_path / "new")
    records = everything(tmp_path / "new")
    assert 100 * share < len(records) < 1000
    named = {n for one in report.damages for n in range(one.first, one.last + 1)}
    assert set(range(1000)) - {record.offset for record in records} == named


def test_lost_table_of_streams_is_made_from_the_records(thousand: Path, tmp_path: Path) -> None:
    """Names come from the records' topics, offsets from their keys."""
    shutil.copytree(thousand, tmp_path, dirs_exist_ok=True)
    filled(tmp_path, 4, stream="dlq.a", topic="dlq.a")
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("DELETE FROM stream")
    db.close()
    report = salvage(tmp_path, tmp_path / "new")
    assert ["events", "dlq.a"] == [stream.name for stream in report.streams]
    assert 2 == len(report.problems)
    assert 1000 == len(everything(tmp_path / "new"))
    assert 20 == len(everything(tmp_path / "new", "dlq.a"))


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """Nothing to read: one sentence, and exit code 4."""
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 1000)
    with pytest.raises(JournalDamaged, match="nothing can be read"):
        check(tmp_path)


def test_folder_without_a_journal_is_told(tmp_path: Path) -> None:
    """A wrong folder is not a sound journal."""
    with pytest.raises(Broken, match="there is no journal"):
        check(tmp_path)


def test_salvage_never_overwrites(tmp_path: Path) -> None:
    """Not another journal, not itself."""
    filled(tmp_path, 2)
    with pytest.raises(Broken, match="there is a journal already"):
        salvage(tmp_path, tmp_path)


def test_salvage_into_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """One sentence that names it."""
    filled(tmp_path / "old", 2)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalUnavailable, match="file/new: cannot be written"):
        salvage(tmp_path / "old", tmp_path / "file" / "new")


_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from gateway.errors import JournalUnavailable
from gateway.log.journal.salvage import salvage

old, new = map(Path, sys.argv[1:])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
try:
    salvage(old, new)
except JournalUnavailable:
    pass
else:
    sys.exit("the disk was not full")
assert list(new.iterdir()) == []
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
salvage(old, new)
"""


def test_salvage_that_fails_half_way_can_be_tried_again(thousand: Path, tmp_path: Path) -> None:
    """A full disk leaves nothing that looks like a journal; with room the next one is whole."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(thousand), str(tmp_path / "new")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert everything(thousand) == everything(tmp_path / "new")
    assert [FILE_NAME] == [path.name for path in (tmp_path / "new").iterdir()]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """Neither the file nor its log, so that it can be looked at again with other means."""
    filled(tmp_path / "a", 20)
    live = Store(tmp_path / "a", is_writer=True)
    draft = batch_format.Draft()
    draft.add((one := entry(100)).topic, batch_format.encode(one))
    live.commit({"events": draft}, {}, NOW)
    shutil.copytree(tmp_path / "a", tmp_path / "crashed")  # as a killed process leaves it
    live.close()
    files = [tmp_path / "crashed" / f"{FILE_NAME}{suffix}" for suffix in ("", "-wal")]
    before = [file.read_bytes() for file in files]
    assert check(tmp_path / "crashed").streams[0].records == 101
    assert before == [file.read_bytes() for file in files]


def test_check_beside_a_running_gateway_lets_checkpoints_finish(tmp_path: Path) -> None:
    """It holds no snapshot for long; what is stored, trimmed or begun meanwhile is no damage."""
    live = Store(tmp_path, is_writer=True)
    for number in range(100):
        commit(live, number, size=1 << 19)
    with closing(CheckedJournal(tmp_path, is_live=True)) as source:
        rows = source.rows()
        next(rows)
        commit(live, 100)
        live.trim("events", 50)
        commit(live, 0, stream="dlq.a")
        assert not live.checkpoint()
        for _ in range(45):
            next(rows)
        assert live.checkpoint()
        live.trim("events", 90)
        assert all(row[1] == 1 for row in rows)
        assert source.report.is_sound
        assert ["events", "dlq.a"] == [stream.name for stream in source.report.streams]
        assert 101 == source.report.streams[0].head
    live.close()


def test_commits_lost_behind_a_flipped_bit_in_the_log_are_told(tmp_path: Path) -> None:
    """SQLite drops them without a word; a torn end and an older round's frames are as they should be."""
    folder = tmp_path / "a"
    folder.mkdir()
    live = Store(folder, is_writer=True)
    for number in range(30):
        draft = batch_format.Draft()
        draft.add((one := entry(number)).topic, batch_format.encode(one))
        live.commit({"events": draft}, {}, NOW)
    shutil.copytree(folder, tmp_path / "crashed")
    live.close()
    log = tmp_path / "crashed" / f"{FILE_NAME}-wal"
    sound = log.read_bytes()
    assert wal.dropped_in_copy(tmp_path / "crashed" / FILE_NAME) is None
    log.write_bytes(sound[:-100])
    assert wal.dropped_in_copy(tmp_path / "crashed" / FILE_NAME) is None
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 1
    log.write_bytes(flipped)
    (problem,) = check(tmp_path / "crashed").problems
    assert "are unreadable, behind a damaged one" in problem


def test_what_a_failed_commit_left_behind_is_no_damage(tmp_path: Path) -> None:
    """SQLite writes the next commit over the frames of one that failed; those of a longer one stick out behind it."""
    stores = [Store(made(tmp_path / "large"), is_writer=True)]
    commit(stores[0], 0)
    shutil.copytree(tmp_path / "large", tmp_path / "small")
    stores.append(Store(tmp_path / "small", is_writer=True))
    commit(stores[0], *range(1, 200))  # this one failed at its sync,
    commit(stores[1], 1)  # and this one was written over it
    shutil.copytree(tmp_path / "small", tmp_path / "crashed")
    long, short = ((tmp_path / name / f"{FILE_NAME}-wal").read_bytes() for name in ("large", "small"))
    for store in stores:
        store.close()
    assert len(long) > len(short)
    (tmp_path / "crashed" / f"{FILE_NAME}-wal").write_bytes(short + long[len(short) :])
    report = check(tmp_path / "crashed")
    assert report.is_sound
    assert [stream.records for stream in report.streams] == [2]
    (note,) = report.notes
    assert "one that failed and was answered 503" in note


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def commit(store: Store, *numbers: int, stream: str = "events", size: int = 0) -> None:
    draft = batch_format.Draft()
    for number in numbers:
        one = entry(number, stream if stream != "events" else "sms.dr")
        one = one._replace(value=one.value.ljust(size))
        draft.add(one.topic, batch_format.encode(one))
    store.commit({stream: draft}, {}, NOW)
