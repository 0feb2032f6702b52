from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.search.index import FILE_NAME, GENERATION, Index, Published


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
    assert index.trim("events", GENERATION + 1) == 1
    assert index.find("events", "a") == [2 * GENERATION, GENERATION]


def test_position_and_rows_survive_reopening(index: Index, tmp_path: Path) -> None:
    index.add("events", [[(1, ["a"])]], 2)
    index.close()
    again = Index(tmp_path)
    assert (again.position("events"), again.find("events", "a"), again.position("other")) == (2, [1], None)


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
