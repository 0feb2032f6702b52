"""The figures that the documents tell of are those that were recorded."""

from __future__ import annotations

import pytest

from tests.benchmarks import recorded
from tests.benchmarks.__main__ import PARTS


def test_every_part_is_recorded() -> None:
    named = {name for name, _ in recorded.RENDERED.values()}
    assert set(recorded.COLUMNS) | {"peers"} == set(PARTS)
    assert set(recorded.recorded()) == (set(recorded.COLUMNS) | named) - recorded.UNRECORDED


@pytest.mark.parametrize("name", recorded.DOCUMENTS)
def test_documents_say_what_was_recorded(name: str) -> None:
    """``python -m tests.benchmarks.recorded`` writes the tables."""
    text = (recorded.ROOT / name).read_text()
    assert recorded.filled(text, recorded.DOCUMENTS[name]) == text


def test_pictures_are_there() -> None:
    """Where the document shows them."""
    text = (recorded.ROOT / "deploy/docs/speed.md").read_text()
    for part in recorded.DRAWN:
        assert f"images/{part}.svg" in text
        assert b"</svg>" in (recorded.PICTURES / f"{part}.svg").read_bytes()
