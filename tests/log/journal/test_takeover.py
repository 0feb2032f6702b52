"""Journals that older versions kept for each worker: what they hold is in the one journal afterwards."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import publisher
from gateway.errors import JournalDamaged, JournalFull, JournalInUse
from gateway.log import Entry, Record
from gateway.log.journal import EVENTS, JournalWriter, Retention, takeover
from gateway.log.journal.store import FILE_NAME, Store
from tests.effort import examples
from tests.log.journal.test_journal import ROOMY, entry, opened

DEAD = publisher.DEAD_LETTERS
WINDOW = 10_000


async def make(folder: Path, commits: list[list[Entry]], published: int | None) -> None:
    """A journal as a worker left it."""
    async with opened(folder) as journal:
        for entries in commits:
            await journal.append(entries)
        if published is not None:
            journal.note_cursor(publisher.GROUP, EVENTS, published)


async def taken_over(base: Path, retention: Retention = ROOMY, known_ids: int = WINDOW) -> None:
    """What the log process does at its start."""
    takeover.adopt(base)
    writer = JournalWriter(base, retention, known_ids=known_ids)
    await writer.start()
    try:
        await takeover.take_over(writer, base)
    finally:
        await writer.stop()


def records(folder: Path, stream: str = EVENTS) -> list[Record]:
    with closing(Store(folder, is_writer=False)) as store:
        if stream not in store.streams:
            return []
        found = store.read(stream, store.streams[stream].floor, 1 << 30)
    return [record for item in found if isinstance(item, tuple) for record in item[1]]


def ids(folder: Path, stream: str = EVENTS) -> list[int]:
    return [int(record.id, 16) for record in records(folder, stream)]


def renamed(base: Path, name: str) -> Path:
    (found,) = base.glob(f"{name}.taken-over-*")
    return found


async def test_what_is_not_published_moves_and_the_folders_get_another_name(tmp_path: Path) -> None:
    """In order, byte for byte, by number of the worker; nothing is deleted, and a second start finds nothing to do."""
    await make(tmp_path, [[entry(1), entry(2)]], published=1)
    headers = (("traceparent", "00-1"), ("é", "ü"))
    odd = Entry("call.event", "клуч", f"{13:032x}", b"\x00\xff", headers)
    await make(tmp_path / "worker-2", [[entry(10), entry(11)], [entry(12), odd]], published=1)
    await make(tmp_path / "worker-10", [[entry(20)]], published=None)
    await make(tmp_path / "worker-3", [[entry(30)]], published=1)
    before = {name: records(tmp_path / name) for name in ("worker-2", "worker-10", "worker-3")}
    with capture_logs() as logs:
        await taken_over(tmp_path)
    assert [1, 2, 11, 12, 13, 20] == ids(tmp_path)
    assert odd == Entry(*records(tmp_path)[4][3:])
    told = {Path(line["folder"]).name.partition(".")[0]: line for line in logs if line["event"] == "journal.taken_over"}
    assert {"worker-2": 3, "worker-3": 0, "worker-10": 1} == {name: line["records"] for name, line in told.items()}
    assert before == {name: records(renamed(tmp_path, name)) for name in before}
    assert str(renamed(tmp_path, "worker-2")) == told["worker-2"]["folder"]
    with capture_logs() as logs:
        await taken_over(tmp_path)
    assert [] == [line for line in logs if "journal.tak" in line["event"]]
    assert 6 == len(ids(tmp_path))


async def test_dead_letters_of_the_publisher_move_whatever_their_ids_and_others_stay(tmp_path: Path) -> None:
    letters = [entry(1, topic=DEAD), entry(1, topic=DEAD), entry(9, topic="dlq.billing")]
    await make(tmp_path / "worker-0", [[entry(1), entry(2)], letters], published=2)
    await make(tmp_path / "worker-1", [], published=None)
    await taken_over(tmp_path)
    assert [] == ids(tmp_path)
    assert [1, 1] == ids(tmp_path, DEAD)
    assert [] == ids(tmp_path, "dlq.billing")
    assert [9] == ids(renamed(tmp_path, "worker-0"), "dlq.billing")


async def test_where_subscribers_begin_is_kept_and_the_earlier_time_counts(tmp_path: Path) -> None:
    billing, stock, gone = (("start." + name, "since.sms.dr") for name in ("billing", "stock", "gone"))
    async with opened(tmp_path) as journal:
        journal.note_cursor(*billing, 500)
        journal.note_cursor(*stock, 100)
    for name, times in (("worker-0", {billing: 400, stock: 300, gone: 0}), ("worker-1", {})):
        async with opened(tmp_path / name) as journal:
            await journal.append([entry(1)])
            journal.note_cursor(publisher.GROUP, EVENTS, 1)
            for place, since in times.items():
                journal.note_cursor(*place, since)
    await taken_over(tmp_path)
    with closing(Store(tmp_path, is_writer=False)) as store:
        positions = store.cursors()
    assert (400, 100) == (positions[billing], positions[stock])
    assert gone not in positions


async def test_an_event_that_several_journals_have_is_stored_once(tmp_path: Path) -> None:
    await make(tmp_path, [[entry(1)]], published=1)
    await make(tmp_path / "worker-0", [[entry(1), entry(2), entry(2)]], published=0)
    await make(tmp_path / "worker-1", [[entry(2), entry(3)]], published=0)
    with capture_logs() as logs:
        await taken_over(tmp_path)
    assert [1, 2, 3] == ids(tmp_path)
    told = [(line["records"], line["repeated"]) for line in logs if line["event"] == "journal.taken_over"]
    assert [(1, 2), (1, 1)] == told


async def test_damaged_rows_are_named_counted_and_passed_over(tmp_path: Path) -> None:
    await make(tmp_path / "worker-0", [[entry(1)], [entry(2), entry(3)], [entry(4)]], published=0)
    await make(tmp_path / "worker-1", [[entry(5)], [entry(6)]], published=0)
    with closing(sqlite3.connect(tmp_path / "worker-0" / FILE_NAME, isolation_level=None)) as db:
        db.execute("UPDATE segment SET crc = crc + 1 WHERE count = 2")
    with closing(sqlite3.connect(tmp_path / "worker-1" / FILE_NAME, isolation_level=None)) as db:
        db.execute("UPDATE segment SET crc = crc + 1 WHERE id = (SELECT MAX(id) FROM segment)")
    with capture_logs() as logs:
        await taken_over(tmp_path)
    assert [1, 4, 5] == ids(tmp_path)
    named = [(line["stream"], line["first"], line["last"]) for line in logs if line["event"] == "journal.damaged"]
    assert [(EVENTS, 1, 2), (EVENTS, 1, 1)] == named
    assert [2, 1] == [line["damaged"] for line in logs if line["event"] == "journal.taken_over"]


async def test_a_folder_that_a_process_holds_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Nothing is taken from any folder: the older version is still running."""
    for name in ("worker-0", "worker-1"):
        await make(tmp_path / name, [[entry(1)]], published=0)
    lock = os.open(tmp_path / "worker-1" / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.pwrite(lock, b"4711\n\0\0\0\0\0\0\0\0", 0)
    os.ftruncate(lock, 5)
    try:
        with pytest.raises(JournalInUse, match=r"worker-1, .*in use by process 4711, .*: stop it, then start this one"):
            await taken_over(tmp_path)
    finally:
        os.close(lock)
    assert [] == ids(tmp_path)
    await taken_over(tmp_path)
    assert [1] == ids(tmp_path)


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\x00" + b"\xff" * 5000])
async def test_a_file_that_is_no_journal_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    """The folders before it are taken over, and it stays as it is."""
    for name in ("worker-0", "worker-1"):
        await make(tmp_path / name, [[entry(1)]], published=0)
    (tmp_path / "worker-1" / FILE_NAME).write_bytes(content)
    with pytest.raises(JournalDamaged, match=rf"worker-1, .*cannot be taken over.*move it out of {tmp_path}"):
        await taken_over(tmp_path)
    assert [1] == ids(tmp_path)
    assert content == (tmp_path / "worker-1" / FILE_NAME).read_bytes()


async def test_a_full_journal_is_an_error_and_a_larger_one_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_BATCH_BYTES", 100_000)
    await make(tmp_path / "worker-0", [[entry(number, size=40_000)] for number in range(60)], published=0)
    await make(tmp_path / "worker-1", [[entry(100)]], published=0)
    small = Retention(1024 * 1024, 3600.0, protected=publisher.GROUP)
    for _ in range(2):
        with pytest.raises(
            JournalFull, match=r"worker-0, .*no room for what it still holds: raise journal.max_bytes by"
        ):
            await taken_over(tmp_path, small)
    there = ids(tmp_path)
    assert list(range(len(there))) == there != []
    await taken_over(tmp_path)
    assert [*range(60), 100] == ids(tmp_path)


async def test_a_folder_that_cannot_be_renamed_is_named_and_nothing_of_it_comes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume mounted there, for one: the position says that nothing is left."""
    await make(tmp_path / "worker-0", [[entry(1)], [entry(1, topic=DEAD)]], published=0)

    def refused(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", refused)
    for count in (2, 0):
        with capture_logs() as logs:
            await taken_over(tmp_path, known_ids=0)
        (line,) = [line for line in logs if line["event"] == "journal.taken_over"]
        assert (count, "warning") == (line["records"], line["log_level"])
        assert "Device or resource busy" in line["advice"]
    assert ([1], [1]) == (ids(tmp_path), ids(tmp_path, DEAD))


async def test_a_folder_put_back_brings_only_what_came_since(tmp_path: Path) -> None:
    """The older version ran once more, and published nothing."""
    await make(tmp_path / "worker-0", [[entry(1)]], published=0)
    await taken_over(tmp_path, known_ids=0)
    renamed(tmp_path, "worker-0").rename(tmp_path / "worker-0")
    await make(tmp_path / "worker-0", [[entry(2)]], published=None)
    await taken_over(tmp_path, known_ids=0)
    assert [1, 2] == ids(tmp_path)


async def test_the_one_journal_of_a_gateway_without_kafka_moves_as_it_is(tmp_path: Path) -> None:
    """Positions, retries and dead letters of subscribers are in it."""
    folder = tmp_path / "worker-0"
    async with opened(folder) as journal:
        await journal.append([entry(1), entry(2), entry(3)])
        await journal.append([entry(2, topic="retry.billing.60s"), entry(1, topic="dlq.billing")])
        journal.note_cursor("gateway.billing", EVENTS, 2)
    await taken_over(tmp_path)
    assert ([1, 2, 3], [2], [1]) == tuple(ids(tmp_path, name) for name in (EVENTS, "retry.billing.60s", "dlq.billing"))
    async with opened(tmp_path) as journal:
        assert 2 == journal.positions()["gateway.billing", EVENTS]
    assert not (renamed(tmp_path, "worker-0") / FILE_NAME).exists()


def test_names_are_those_of_the_publisher() -> None:
    assert (publisher.GROUP, publisher.DEAD_LETTERS) == (takeover.PUBLISHER, f"dlq.{takeover.PUBLISHER}")


def test_only_folders_of_workers_with_a_journal_count(tmp_path: Path) -> None:
    for name in ("worker-11", "worker-2", "worker-", "worker-x", "worker-1.taken-over-5", "xworker-1", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE_NAME).touch()
    (tmp_path / "worker-3").mkdir()
    assert ["worker-2", "worker-11"] == [path.name for path in takeover.old_folders(tmp_path)]
    assert [] == takeover.old_folders(tmp_path / "missing")


# -- any of them, ended anywhere --------------------------------------------------------------------------------------

#: Ids of the commits, and how many of the events are published; None: no publisher read it.
worker = st.tuples(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=4), max_size=6), st.none() | st.integers(0, 10)
)


@settings(deadline=None, max_examples=examples(25))
@given(workers=st.lists(worker, max_size=3), own=st.lists(st.integers(0, 30), max_size=5), batch=st.integers(1, 2000))
def test_every_id_that_was_not_published_is_there_once(
    workers: list[tuple[list[list[int]], int | None]], own: list[int], batch: int
) -> None:
    """The set of ids before and after is the same, for any journals and any size of batches."""

    async def check(base: Path) -> None:
        await make(base, [[entry(number)] for number in dict.fromkeys(own)], published=0)
        due: list[int] = [*own]
        for number, (commits, published) in enumerate(workers):
            entries = [[entry(one) for one in commit] for commit in commits]
            await make(base / f"worker-{number}", entries, published)
            due += [one for commit in commits for one in commit][published or 0 :]
        await taken_over(base)
        assert list(dict.fromkeys(due)) == ids(base)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(takeover, "_BATCH_BYTES", batch)
        asyncio.run(check(Path(folder)))


KILLED = """
import asyncio, os, shutil, signal, sys
from pathlib import Path
from gateway.log.journal import JournalWriter, Retention, takeover
from gateway.log.journal.store import Store

made, known = Path(sys.argv[1]), int(sys.argv[2])
takeover._BATCH_BYTES = 600

def around(function):
    def wrapped(*args):
        step()
        result = function(*args)
        step()
        return result
    return wrapped

def step():
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

async def main(base):
    writer = JournalWriter(base, Retention(1 << 30, 3600.0), known_ids=known)
    await writer.start()
    await takeover.take_over(writer, base)
    await writer.stop()

Store.commit, Path.rename = around(Store.commit), around(Path.rename)
status, kills = -1, -1
while status != 0:
    kills += 1
    base = shutil.copytree(made, made.with_name(f"base-{kills}"))
    child = os.fork()
    if not child:
        left = kills
        asyncio.run(main(base))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
print(kills)
"""


@pytest.mark.parametrize("known", [0, WINDOW])
def test_a_process_that_is_killed_anywhere_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each commit and each renaming; the next start does the rest, with and without known ids."""
    made = tmp_path / "made"

    async def prepare() -> None:
        await make(made, [[entry(0)]], published=0)
        for number in (1, 2):
            first = 100 * number
            commits = [[entry(first + at), entry(first + at + 1)] for at in range(0, 6, 2)]
            await make(made / f"worker-{number}", [*commits, [entry(first, topic=DEAD)]], published=1)

    asyncio.run(prepare())
    command = [sys.executable, "-c", KILLED, str(made), str(known)]
    kills = int(subprocess.run(command, check=True, capture_output=True).stdout.split()[-1])
    assert kills > 15
    monkeypatch.setattr(takeover, "_BATCH_BYTES", 600)
    for number in range(kills + 1):
        base = tmp_path / f"base-{number}"
        asyncio.run(taken_over(base, known_ids=known))
        assert [0, *range(101, 106), *range(201, 206)] == ids(base), number
        assert [100, 200] == ids(base, DEAD), number
        assert ["worker-1", "worker-2"] == sorted(path.name.split(".")[0] for path in base.glob("*.taken-over-*"))
