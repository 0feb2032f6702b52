from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log import Record
from gateway.search.index import FILE_NAME, EventKind, Index, Keys, Published, hashed
from tests.effort import examples

FAR = 1 << 40


def record(offset: int, *texts: str, topic: str = "") -> Record:
    return Record("events", offset, 0.0, topic, "", "0" * 32, ",".join(texts).encode())


def keys_of(records: Sequence[Record], first: int) -> Keys:
    """The value of a record has its texts."""
    found = [(hashed(text), one.offset - first) for one in records for text in one.value.decode().split(",")]
    hashes, of = [one for one, _ in found], [place for _, place in found]
    return Keys(
        [one.offset - first for one in records], hashes, of, [EventKind(one.topic, "t", "c") for one in records]
    )


def add(index: Index, *records: Record) -> None:
    index.add("events", records, keys_of, records[-1].offset + 1)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


def test_newest_first_over_runs_within_bounds(index: Index) -> None:
    """A look-up goes through all runs, and keeps to the offsets that are asked for; so for kinds."""
    offsets = [5, 6, FAR, FAR + 7, 3 * FAR]
    for offset in offsets:
        add(index, record(offset, "a", f"only-{offset}", topic="even" if offset % 2 == 0 else "odd"))
        index.flush("events")
    add(index, record(3 * FAR + 1, "b"))
    assert index.find("events", "a") == offsets[::-1]
    assert index.find("events", "a", limit=2) == offsets[:2:-1]
    assert index.find("events", "a", floor=6, below=FAR + 7) == [FAR, 6]
    assert index.find("events", "only-5") == [5]
    assert index.find("fanout.attempts", "a") == []
    assert index.of_kind("events", EventKind("odd")) == [FAR + 7, 5]
    assert index.of_kind("events", EventKind("even", "t", "c"), below=FAR + 1, limit=1) == [FAR]
    assert index.of_kind("events", EventKind("even", "other")) == []


def test_trimming_deletes_whole_runs(index: Index, tmp_path: Path) -> None:
    for offset in range(0, 30, 10):
        add(index, record(offset, "a"), record(offset + 9, "b"))
        index.flush("events")
    assert index.trim("events", 19) == 1
    assert index.find("events", "a") == [20, 10]
    assert index.trim("events", 30) == 2
    rows = sqlite3.connect(tmp_path / FILE_NAME).execute("SELECT count(*) FROM part").fetchone()
    assert (index.find("events", "b"), rows) == ([], (0,))


def test_position_and_rows_survive_reopening(index: Index, tmp_path: Path) -> None:
    add(index, record(1, "a"))
    index.close()
    again = Index(tmp_path)
    assert (again.position("events"), again.find("events", "a"), again.position("other")) == (2, [1], None)


def test_what_was_only_in_memory_comes_again_after_a_crash(index: Index, tmp_path: Path) -> None:
    """The position never covers what is not stored."""
    add(index, record(1, "a"))
    index.flush("events")
    add(index, record(2, "a"), record(3, "b"))
    assert (index.find("events", "a"), index.position("events")) == ([2, 1], 4)
    crashed = Index(tmp_path)
    assert (crashed.find("events", "a"), crashed.position("events")) == ([1], 2)
    crashed.close()


def test_a_run_that_cannot_be_stored_comes_again(index: Index, tmp_path: Path) -> None:
    """As on a full disk: what was in memory goes with it, and the position is the one before."""
    add(index, record(1, "a"))
    index.flush("events")
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    index._db.execute("PRAGMA busy_timeout=0")
    add(index, record(2, "a"))
    with pytest.raises(sqlite3.OperationalError):
        index.flush("events")
    other.execute("ROLLBACK")
    assert (index.find("events", "a"), index.position("events")) == ([1], 2)
    add(index, record(2, "a"))
    index.flush("events")
    assert (index.find("events", "a"), index.position("events")) == ([2, 1], 3)


@settings(max_examples=examples(60))
@given(st.data())
def test_against_a_plain_table(data: st.DataObject) -> None:
    """However the records are cut into batches and runs, and wherever the file is closed or the process dies."""
    with tempfile.TemporaryDirectory() as name, patch("gateway.search.index._FULL", 12):
        index = Index(Path(name))
        start = data.draw(st.sampled_from([0, FAR]))
        texts = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4)
        steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 1, 1000]), max_size=60))  # what is gone leaves holes
        offsets = [start + sum(steps[:count]) for count in range(len(steps))]
        records = [record(at, *data.draw(texts), topic=data.draw(st.sampled_from("xyz"))) for at in offsets]
        left = records
        while left:
            batch = left[: data.draw(st.integers(1, 9))]
            add(index, *batch)
            match data.draw(st.sampled_from(["go on", "go on", "close", "die"])):
                case "close":
                    index.close()
                    index = Index(Path(name))
                case "die":
                    index._db.close()
                    index = Index(Path(name))
            left = [one for one in records if one.offset >= (index.position("events") or start)]
        floor, below = sorted(data.draw(st.tuples(*[st.sampled_from([start, *offsets, start + 100_000])] * 2)))
        for key in "abcdefghi":
            there = [one.offset for one in reversed(records) if key in one.value.decode()]
            assert index.find("events", key) == there
            assert index.find("events", key, limit=3) == there[:3]
            bounded = [offset for offset in there if floor <= offset < below]
            assert index.find("events", key, floor=floor, below=below) == bounded
        for topic in "wxyz":
            there = [one.offset for one in reversed(records) if one.topic == topic and floor <= one.offset < below]
            assert index.of_kind("events", EventKind(topic), floor=floor, below=below) == there
        index.close()


def test_a_failed_batch_leaves_nothing(index: Index) -> None:
    """Rows and position go in together or not at all."""

    def broken(records: Sequence[Record], first: int) -> Keys:
        if records[0].offset > 1:
            raise RuntimeError
        return keys_of(records, first)

    records = [record(offset, "a") for offset in range(1, 300)]
    with pytest.raises(RuntimeError):
        index.add("events", records, broken, 300)
    assert (index.find("events", "a"), index.position("events")) == ([], None)
    add(index, records[0])
    assert index.find("events", "a") == [1]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-1, 1000), st.sets(st.integers(0, 300), min_size=1)), max_size=12
    ),
)
def test_places_in_kafka_against_a_plain_table(batches: list[tuple[int, int, set[int]]]) -> None:
    """Whatever overlaps: a record published once is found where it is, and others are not found."""
    index = Index(Path(tempfile.mkdtemp()))
    known: dict[int, set[tuple[int, int]]] = {}
    for partition, offset, places in batches:
        index.add_published([Published("sms.dr", partition, offset, sorted(places))])
        for position, place in enumerate(sorted(places)):
            known.setdefault(place, set()).add((partition, offset + position if offset >= 0 else -1))
    for place in range(301):
        found = index.published("sms.dr", place)
        assert found is None or found in known[place]
        assert index.published("email.dr", place) is None
    index.close()


def test_another_file_is_not_taken_for_an_index(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE_NAME)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(sqlite3.DatabaseError):
        Index(tmp_path)
