"""The figures that the documents tell of are those that were recorded."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.benchmarks import recorded
from tests.benchmarks.__main__ import PARTS, main
from tests.rows import rows


def test_every_part_is_recorded() -> None:
    named = {name for name, _ in recorded.RENDERED.values()}
    assert set(recorded.COLUMNS) | {"peers"} | recorded.UNSHOWN == set(PARTS)
    assert not recorded.UNSHOWN & set(recorded.COLUMNS)
    assert set(recorded.recorded()) == (set(recorded.COLUMNS) | named) - recorded.UNRECORDED


@rows("name", recorded.DOCUMENTS)
def test_documents_say_what_was_recorded(name: str) -> None:
    """``python -m tests.benchmarks.recorded`` writes the tables."""
    text = (recorded.ROOT / name).read_text()
    assert recorded.filled(text, recorded.DOCUMENTS[name]) == text


def test_a_run_says_where_when_and_of_which_commit() -> None:
    """And a run of before these were recorded invents nothing."""
    run = {"python": "3.11.7", "machine": "Linux x86_64", "took_s": 12.3}
    assert recorded.about(run) == "Python 3.11.7, Linux x86_64, 12 s."
    whole = run | {"processors": 2, "began": "2026-11-27T13:01:44+00:00", "commit": "abc1234"}
    assert recorded.about(whole) == (
        "Python 3.11.7, Linux x86_64, 2 processors, 12 s. Begun 2026-11-27 13:01 UTC. Commit `abc1234`."
    )


def test_a_new_run_records_where_when_and_of_which_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command writes what :func:`recorded.about` shows."""
    monkeypatch.setitem(PARTS, "compression", ("tests.benchmarks.test_recorded:measured", {}))
    before = datetime.now(UTC).replace(microsecond=0)
    assert main(["compression", "--out", str(tmp_path)]) == 0
    run = json.loads((tmp_path / "compression.json").read_text())
    assert before <= datetime.fromisoformat(run["began"]) <= datetime.now(UTC)
    assert run["processors"] == os.cpu_count()
    assert isinstance(run["commit"], str)
    assert run["figures"] == measured()


def measured() -> dict[str, dict[str, float]]:
    """Stand in for a part that takes long."""
    return {"none": {"write_us": 1.0, "read_us": 2.0}}


def test_pictures_are_there() -> None:
    """Where the document shows them."""
    for part, document in recorded.DRAWN.items():
        assert f"images/{part}.svg" in (recorded.ROOT / document).read_text()
        assert b"</svg>" in (recorded.PICTURES / f"{part}.svg").read_bytes()
