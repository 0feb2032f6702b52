"""The run that the documents tell of: clean, long enough, and told as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lossproof import recorded
from tests.lossproof.world import BROKER, Mode


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(json.loads(recorded.FILE.read_text()))


@pytest.mark.parametrize("name", recorded.TABLES)
def test_documents_say_what_was_recorded(name: str, document: dict[str, Any]) -> None:
    """``python -m tests.lossproof.recorded`` writes the tables."""
    text = (recorded.ROOT / name).read_text()
    assert recorded.filled(name, text, document) == text


@pytest.mark.parametrize("mode", ["embedded", "split"])
def test_every_kind_of_process_was_killed_a_hundred_times(mode: Mode, document: dict[str, Any]) -> None:
    """And everything that was planned was played, with every fault it was to make, and nothing was broken."""
    assert document["is_clean"]
    assert document["planned"] == document["played"] == len(document["rows"])
    kills = recorded.kills(document, mode)
    for kind in recorded.KINDS:
        assert kills[kind] >= 100 or (kind == BROKER and mode == "embedded")
