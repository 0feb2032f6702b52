"""The run that the documents tell of: clean, long enough, and told as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lossproof import recorded
from tests.lossproof.roles import BROKER, Mode


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(json.loads(recorded.FILE.read_text()))


@pytest.mark.parametrize("name", recorded.TABLES)
def test_documents_say_what_was_recorded(name: str, document: dict[str, Any]) -> None:
    """``python -m tests.lossproof.recorded`` writes the tables."""
    text = (recorded.ROOT / name).read_text()
    assert recorded.filled(name, text, document) == text


def test_every_kind_of_process_was_killed_a_hundred_times(document: dict[str, Any]) -> None:
    """Over both modes, half of it in each at least; all that was planned was played, and nothing was broken."""
    assert document["is_clean"]
    assert document["planned"] == document["played"] == len(document["rows"])
    modes: tuple[Mode, ...] = ("embedded", "split")
    kills = {mode: recorded.kills(document, mode) for mode in modes}
    for kind in recorded.KINDS:
        counts = [kills[mode][kind] for mode in modes if (kind, mode) != (BROKER, "embedded")]
        assert all(count >= 50 for count in counts), (kind, counts)
        assert kind == BROKER or sum(counts) >= 100, (kind, counts)
