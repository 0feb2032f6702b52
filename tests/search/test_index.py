from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.search.index import FILE_NAME, Index, Published
from gateway.search.recent import GENERATION


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


def test_newest_first_over_generations_within_bounds(index: Index) -> None:
    """A look-up goes through all generations, and keeps to the offsets that are asked for."""
    offsets = [5, GENERATION - 1, GENERATION, GENERATION + 7, 3 * GENERATION]
    index.add("events", [[(offset, ["a", f"only-{offset}"]) for offset in offsets]], 3 * GENERATION + 1)
    assert index.find("events", "a") == offsets[::-1]
    assert index.find("events", "a", limit=2) == offsets[:2:-1]
    assert index.find("events", "a", floor=6, below=GENERATION + 7) == [GENERATION, GENERATION - 1]
    assert index.find("events", "only-5") == [5]
    assert index.find("fanout.attempts", "a") == []


def test_trimming_drops_whole_generations(index: Index) -> None:
    index.add("events", [[(offset, ["a"]) for offset in (1, GENERATION, 2 * GENERATION)]], 2 * GENERATION + 1)
    index.flush("events")
    assert index.trim("events", GENERATION + 1) == 1
    assert index.find("events", "a") == [2 * GENERATION, GENERATION]


def test_position_and_rows_survive_reopening(index: Index, tmp_path: Path) -> None:
    index.add("events", [[(1, ["a"])]], 2)
    index.close()
    again = Index(tmp_path)
    assert (again.position("events"), again.find("events", "a"), again.position("other")) == (2, [1], None)


def test_what_was_only_in_memory_comes_again_after_a_crash(index: Index, tmp_path: Path) -> None:
    """The position never covers what is not stored."""
    index.add("events", [[(1, ["a"])]], 2)
    index.flush("events")
    index.add("events", [[(2, ["a"]), (3, ["b"])]], 4)
    assert (index.find("events", "a"), index.position("events")) == ([2, 1], 4)
    crashed = Index(tmp_path)
    assert (crashed.find("events", "a"), crashed.position("events")) == ([1], 2)
    crashed.close()


def test_a_run_that_cannot_be_stored_comes_again(index: Index, tmp_path: Path) -> None:
    """As on a full disk: what was in memory goes with it, and the position is the one before."""
    index.add("events", [[(1, ["a"])]], 2)
    index.flush("events")
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    index._db.execute("PRAGMA busy_timeout=0")
    index.add("events", [[(2, ["a"])]], 3)
    with pytest.raises(sqlite3.OperationalError):
        index.flush("events")
    other.execute("ROLLBACK")
    assert (index.find("events", "a"), index.position("events")) == ([1], 2)
    index.add("events", [[(2, ["a"])]], 3)
    index.flush("events")
    assert (index.find("events", "a"), index.position("events")) == ([2, 1], 3)


@settings(max_examples=150)
@given(st.data())
def test_against_a_plain_table(data: st.DataObject) -> None:
    """However the records are cut into batches and runs, and wherever the file is closed or the process dies."""
    with tempfile.TemporaryDirectory() as name, patch("gateway.search.index._RUN_ENTRIES", 12):
        index = Index(Path(name))
        start = data.draw(st.sampled_from([0, GENERATION - 20, 2 * GENERATION - 3]))
        keys = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=4)
        records = [(offset, data.draw(keys)) for offset in range(start, start + data.draw(st.integers(0, 60)))]
        indexed = start
        while indexed < start + len(records):
            batch = records[indexed - start : indexed - start + data.draw(st.integers(1, 9))]
            indexed = batch[-1][0] + 1
            index.add("events", [batch[:4], batch[4:]] if len(batch) > 4 else [batch], indexed)
            match data.draw(st.sampled_from(["go on", "go on", "close", "die"])):
                case "close":
                    index.close()
                    index = Index(Path(name))
                case "die":
                    index._db.close()
                    index = Index(Path(name))
            indexed = index.position("events") or start
        floor, below = sorted(data.draw(st.tuples(*[st.integers(start - 1, start + 61)] * 2)))
        floor = max(0, floor)
        for key in "abcdefghi":
            there = [offset for offset, texts in reversed(records) if key in texts]
            assert index.find("events", key) == there
            assert index.find("events", key, limit=3) == there[:3]
            bounded = [offset for offset in there if floor <= offset < below]
            assert index.find("events", key, floor=floor, below=below) == bounded
        index.close()


def test_a_failed_batch_leaves_nothing(index: Index) -> None:
    """Rows and position go in together or not at all."""

    def broken() -> Iterator[list[tuple[int, list[str]]]]:
        yield [(1, ["a"])]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        index.add("events", broken(), 2)
    assert (index.find("events", "a"), index.position("events")) == ([], None)
    index.add("events", [[(1, ["a"])]], 2)
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
