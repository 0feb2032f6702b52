"""After a flipped bit only what the journal named as damaged may be missing: neither more of it, nor anything else."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from gateway.log import Entry
from gateway.log.journal import batch_format
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.storage import Store
from tests.lossproof import damage, stored
from tests.lossproof.callbacks import Item
from tests.lossproof.checker import Verdict
from tests.lossproof.damaged import Damaged, Told

COMMITS, EACH = 30, 3


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """As a killed process leaves it: thirty commits of three events, all in the WAL."""
    (tmp_path / "running").mkdir()
    store = Store(tmp_path / "running", is_writer=True)
    for number in range(COMMITS):
        draft = batch_format.Draft()
        for place in range(EACH):
            id_ = f"{number * EACH + place:032x}"
            value = orjson.dumps({"specversion": "1.0", "id": id_, "partitionkey": "k", "ext": f"lp.{number}.{place}."})
            one = Entry("sms.dr", "k", id_, value)
            draft.add(one.topic, batch_format.encode(one))
        store.commit({"events": draft}, {}, 1.0)
    shutil.copytree(tmp_path / "running", tmp_path / "crashed")
    store.close()
    return tmp_path / "crashed"


def copied(journal: Path, name: str) -> Path:
    return Path(shutil.copytree(journal, journal.with_name(name)))


def said(**lines: dict[str, Any]) -> Told:
    """A gateway's log: the line of each name."""
    return lambda name: [lines[name]] if name in lines else []


def of(commits: range) -> set[Item]:
    return {Item(number, place) for number in commits for place in range(EACH)}


def test_commits_behind_a_bad_page_are_excused_when_as_many_were_told(journal: Path) -> None:
    sound = copied(journal, "sound")
    assert damage.flip_in_wal(journal, Random(1))
    damaged = Damaged()
    damaged.saw(sound, copied(journal, "flipped"))
    left = len(stored.rows(copied(journal, "again")))
    assert 0 < left < COMMITS - 1
    told = said(**{"journal.commits_lost": {"commits": COMMITS - left - 1}})
    assert damaged.dropped(told) == []
    assert damaged.in_log == damaged.at_subscribers == of(range(left, COMMITS))
    # The same word does not excuse the next flip.
    assert damaged.dropped(told) == ["a bit was flipped in the WAL and nothing was said"]


def test_commits_that_were_not_told_are_a_breach(journal: Path) -> None:
    sound = copied(journal, "sound")
    assert damage.flip_in_wal(journal, Random(1))
    damaged = Damaged()
    damaged.saw(sound, copied(journal, "flipped"))
    (breach,) = damaged.dropped(said(**{"journal.commits_lost": {"commits": 2}}))
    assert "commits are missing" in breach
    assert not damaged.at_subscribers


def test_of_a_row_that_was_named_its_own_events_are_excused(journal: Path) -> None:
    """``journal check`` excuses the log alone; the gateway that met the row, and said so, the subscribers too."""
    stored.rows(journal)  # which folds the WAL into the file
    sound = copied(journal, "sound")
    data = (journal / FILE_NAME).read_bytes()
    at = data.index(b"lp.7.1.")
    (journal / FILE_NAME).write_bytes(data[:at] + b"x" + data[at + 1 :])
    damaged = Damaged()
    damaged.saw(sound, copied(journal, "flipped"))
    assert damaged.in_log == of(range(7, 8))
    assert damaged.at_subscribers == set()
    damaged.read(said(**{"journal.damaged": {"stream": "events", "first": 21, "last": 23, "count": 3}}))
    assert damaged.at_subscribers == of(range(7, 8))


def test_a_loss_that_nothing_named_stays_one() -> None:
    """Whatever else was damaged and told."""
    verdict = Verdict()
    for item, where in ((Item(7, 0), ""), (Item(7, 0), "all"), (Item(8, 0), ""), (Item(8, 0), "all")):
        verdict.lose(item, where)
    damaged = Damaged(in_log={Item(7, 0), Item(8, 0)}, at_subscribers={Item(7, 0)})
    assert verdict.excuse(damaged.covers) == 3
    assert (verdict.lost, verdict.is_clean) == (1, False)
    assert verdict.problems == [f"{Item(8, 0)} was answered with success and never came to all"]
