"""One flipped bit anywhere in a row costs the events of that row, which are named, and no other."""

from __future__ import annotations

import asyncio
import math
import shutil
import sqlite3
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from gateway.cli import reading
from gateway.errors import JournalDamaged
from gateway.log import Entry, Gap
from gateway.log.journal import EVENTS, Journal, Retention, batch_format
from gateway.log.journal.check import check
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.salvage import salvage
from gateway.log.journal.storage import Store
from tests.effort import examples

NOW = 1_770_000_000.0
SIZES = (5, 1, 3, 8, 2, 5, 16, 1, 4)
HEAD = sum(SIZES)
#: More than would ever be needed: a reader that goes on for longer does not end.
MANY = 200


@dataclass(frozen=True)
class Flip:
    """One change of one column of one row.

    Args:
        row: number of the row in the stream of events.
        column: its name.
        at: which bit, or which byte, of what is there.
        byte: what to put over the byte; None flips one bit.
    """

    row: int
    column: str
    at: int
    byte: int | None


flips = st.builds(
    Flip,
    row=st.integers(0, len(SIZES) - 1),
    column=st.sampled_from(["id", "count", "appended_at", "topics", "crc", "records"]),
    at=st.integers(0, 4095),
    byte=st.none() | st.integers(0, 255),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine commits of events, and a stream beside them."""
    folder = tmp_path_factory.mktemp("sound")
    store = Store(folder, is_writer=True)
    for commit, size in enumerate(SIZES):
        draft, parked = batch_format.Draft(), batch_format.Draft()
        for number in range(size):
            one = Entry("sms.dr" if number % 3 else "call.event", "k", f"{commit * 100 + number:032x}", b'{"n":1}')
            draft.add(one.topic, batch_format.encode(one))
        one = Entry("retry.a.60s", "k", f"{commit:032x}", b"{}")
        parked.add(one.topic, batch_format.encode(one))
        store.commit({EVENTS: draft, "retry.a.60s": parked}, {}, NOW + commit)
    store.close()
    return folder


def flipped(sound: Path, folder: Path, flip: Flip) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as db:
        (stream,) = db.execute("SELECT id FROM stream WHERE name = ?", (EVENTS,)).fetchone()
        key = stream << 44 | sum(SIZES[: flip.row])
        (old,) = db.execute(f"SELECT {flip.column} FROM segment WHERE id = ?", (key,)).fetchone()
        new = changed(old, flip)
        assume(new != (old.encode() if isinstance(old, str) else old))
        value = "CAST(? AS TEXT)" if flip.column == "topics" else "?"
        try:
            db.execute(f"UPDATE segment SET {flip.column} = {value} WHERE id = ?", (new, key))
        except sqlite3.IntegrityError:  # another row has that key, or a time is none at all
            assume(False)


def changed(old: object, flip: Flip) -> object:
    if isinstance(old, int):
        return struct.unpack(">q", over(struct.pack(">q", old), flip))[0]
    if isinstance(old, float):
        return struct.unpack(">d", over(struct.pack(">d", old), flip))[0]
    assert isinstance(old, str | bytes)
    return over(old.encode() if isinstance(old, str) else old, flip)


def over(data: bytes, flip: Flip) -> bytes:
    changing = bytearray(data)
    if flip.byte is None:
        changing[flip.at // 8 % len(data)] ^= 1 << flip.at % 8
    else:
        changing[flip.at % len(data)] = flip.byte
    return bytes(changing)


def kept(flip: Flip) -> list[int]:
    """Offsets of the rows that nothing was done to."""
    first = sum(SIZES[: flip.row])
    return [offset for offset in range(HEAD) if not first <= offset < first + SIZES[flip.row]]


@asynccontextmanager
async def opened(folder: Path, now: float, max_age_s: float) -> AsyncIterator[Journal]:
    journal = Journal(folder, Retention(1 << 30, max_age_s), clock=lambda: now)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


async def read(journal: Journal, group: str, position: int) -> tuple[list[int], list[Gap]]:
    """Offsets of the events, as a reader from this position gets them, and what is missing between them."""
    reader = await journal.browse(group, [], start="earliest")
    await reader.seek(EVENTS, position)
    offsets: list[int] = []
    gaps: list[Gap] = []
    for _ in range(MANY):
        records = await reader.fetch(max_records=7, wait_s=0)
        if not records and not records.gaps:
            await reader.close()
            return offsets, gaps
        offsets += [record.offset for record in records]
        gaps += records.gaps
    raise AssertionError("the reader does not end")


def is_last_moved(flip: Flip) -> bool:
    """The last row is somewhere else: nothing that is left says that it was there."""
    return flip.column == "id" and flip.row == len(SIZES) - 1


def offsets_of(ranges: Iterator[tuple[int, int]]) -> set[int]:
    """Those that were stored, of all that were named."""
    return {offset for first, last in ranges for offset in range(first, min(last, HEAD + 1) + 1)}


@given(flip=flips, position=st.integers(0, HEAD))
@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flip_costs_the_events_of_its_row_and_names_them(
    sound: Path, tmp_path: Path, flip: Flip, position: int
) -> None:
    """All others are read exactly once, in order, from wherever one begins; so is the next; retention gets past."""
    folder = tmp_path / "flipped"
    flipped(sound, folder, flip)
    expected = kept(flip)
    missing = set(range(HEAD)) - set(expected)

    async def reads() -> None:
        async with opened(folder, NOW + 100, math.inf) as journal:
            offsets, gaps = await read(journal, "all", 0)
            assert offsets == expected
            assert all(gap.reason == "damaged" for gap in gaps)
            named = offsets_of((gap.first, gap.last) for gap in gaps if gap.first is not None and gap.last is not None)
            assert named.isdisjoint(expected)
            assert is_last_moved(flip) or missing <= named
            part, _ = await read(journal, "part", position)
            assert [offset for offset in expected if offset >= position] == part
            head = journal.head(EVENTS)
            await journal.append([Entry("sms.dr", "k", f"{9999:032x}", b"{}")])
            assert ([*expected, head], gaps) == await read(journal, "all", 0)

    async def expires() -> None:
        async with opened(folder, NOW + 7200, 3600.0) as journal:
            await journal.append([Entry("sms.dr", "k", f"{10000:032x}", b"{}")])
            await journal.writer.housekeep()
            assert journal.floor(EVENTS) == journal.head(EVENTS) - 1

    asyncio.run(reads())
    asyncio.run(expires())


@given(flip=flips)
@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flip_is_counted_right_by_those_who_look_at_the_file(sound: Path, tmp_path: Path, flip: Flip) -> None:
    """``tail``, ``journal check`` and ``journal salvage`` find every other event, and name what is missing."""
    folder = tmp_path / "flipped"
    flipped(sound, folder, flip)
    expected = kept(flip)
    missing = set(range(HEAD)) - set(expected)
    followed = list(reading.follow(folder, None, 0.0, None))
    bad = [one for one in followed if isinstance(one, reading.Damaged)]
    assert [one.offset for one in followed if not isinstance(one, reading.Damaged)] == expected
    assert is_last_moved(flip) or missing <= offsets_of((one.first, one.last) for one in bad)
    report = check(folder)
    assert is_last_moved(flip) or not report.is_sound
    events = next(stream for stream in report.streams if stream.name == EVENTS)
    assert events.records == len(expected)
    damaged = offsets_of((one.first, one.last) for one in events.damages)
    assert damaged.isdisjoint(expected)
    assert is_last_moved(flip) or missing <= damaged
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    salvage(folder, tmp_path / "new")
    copied = reading.follow(tmp_path / "new", None, 0.0, None)
    assert [one.offset for one in copied if not isinstance(one, reading.Damaged)] == expected


@given(row=st.integers(0, len(SIZES) - 1), bit=st.integers(0, 6), byte=st.integers(0, 6))
@example(row=8, bit=0, byte=6)  # it becomes the key of the row before it
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_key_with_a_flipped_bit_in_its_page_costs_no_other_row_when_salvaged(
    sound: Path, tmp_path: Path, row: int, bit: int, byte: int
) -> None:
    """A row that stands in no order misleads what searches by key; salvage takes rows as they stand."""
    folder = tmp_path / "flipped"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    content = bytearray((folder / FILE_NAME).read_bytes())
    content[content.rindex(stored_key(sum(SIZES[:row]))) + byte] ^= 1 << bit
    (folder / FILE_NAME).write_bytes(content)
    expected = kept(Flip(row, "id", 0, None))

    assert not check(folder).is_sound
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    salvage(folder, tmp_path / "new")
    copied = reading.follow(tmp_path / "new", None, 0.0, None)
    assert [one.offset for one in copied if not isinstance(one, reading.Damaged)] == expected


async def test_journal_whose_rows_end_in_no_order_is_refused(tmp_path: Path) -> None:
    """Where the next record belongs is not known: rather no start than one whose every commit fails."""
    async with opened(tmp_path, NOW, math.inf) as journal:
        for number in range(9):
            await journal.append([Entry("sms.dr", "k", f"{number:032x}", b"{}")])
    content = bytearray((tmp_path / FILE_NAME).read_bytes())
    content[content.rindex(stored_key(8))] ^= 1 << 2
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(JournalDamaged, match="end in no order"):
        await Journal(tmp_path, Retention(1 << 30, math.inf)).start()
    assert 8 == sum(stream.records for stream in salvage(tmp_path, tmp_path / "new").streams)


def stored_key(offset: int) -> bytes:
    """The key of a row of the first stream, as SQLite writes it: seven bits in a byte, the highest first.

    What a page above the leaves has of it stands before them in the file.
    """
    key = 1 << 44 | offset
    return bytes(key >> shift & 0x7F | (0x80 if shift else 0) for shift in range(42, -1, -7))


async def test_refresh_sees_what_was_stored_and_trimmed(tmp_path: Path) -> None:
    """Bounds of every stream, also when all of it is gone; without reading again what it has read."""
    writer = Store(tmp_path, is_writer=True)
    reader = Store(tmp_path, is_writer=False)
    try:
        for number in range(3):
            draft = batch_format.Draft()
            one = Entry("sms.dr", "k", f"{number:032x}", b"{}")
            draft.add(one.topic, batch_format.encode(one))
            writer.commit({EVENTS: draft}, {}, NOW + number)
            reader.refresh()
            assert writer.streams == reader.streams
        for below in (2, 3):
            writer.trim(EVENTS, below)
            reader.refresh()
            assert writer.streams == reader.streams
        assert NOW + 2 == reader.last_appended_at
    finally:
        reader.close()
        writer.close()


def test_a_reader_sees_one_state_of_the_file_while_the_writer_trims(tmp_path: Path) -> None:
    """Its questions build on each other: a row that the first one found is there for the next."""
    writer = Store(tmp_path, is_writer=True)
    for number in range(50):
        draft = batch_format.Draft()
        one = Entry("sms.dr", "k", f"{number:032x}", b"{}")
        draft.add(one.topic, batch_format.encode(one))
        writer.commit({EVENTS: draft}, {}, NOW)
    reader = Store(tmp_path, is_writer=False)
    with reader._reading():
        before = reader.read(EVENTS, 0, 1 << 20)
        writer.trim(EVENTS, 50)
        assert reader.read(EVENTS, 0, 1 << 20) == before
        reader.refresh()
        assert reader.streams[EVENTS].floor == 0
    reader.refresh()
    assert reader.streams[EVENTS].floor == 50
    writer.close()
    reader.close()
