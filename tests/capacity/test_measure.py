"""The measurement runs the product on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.capacity import figures as figures_file
from gateway.capacity import measure as measuring
from gateway.errors import Broken
from tests.ports import free_port


@pytest.mark.slow
async def test_measures_every_process(tmp_path: Path) -> None:
    """Each figure is above zero, so the file of the figures can be read again; nothing is left running."""
    found = await measuring.measure(count=3_000, rounds=1)
    figures_file.save(found, tmp_path / "figures.json")
    assert found == figures_file.load(tmp_path / "figures.json")
    assert 500 < found.event_bytes < 2_000
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_gateway_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the end of its output: here a port that cannot be listened on."""
    monkeypatch.setattr(measuring, "_free_ports", lambda: [70_000, free_port()])
    with pytest.raises(Broken, match=r"did not become ready: .*ingest\.port"):
        await measuring.measure(count=1, rounds=1)
