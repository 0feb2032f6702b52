"""The measurement runs the product on this machine, and the model predicts it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import median

import pytest

from gateway.capacity import measure as figures_file
from gateway.capacity import measure as measuring
from gateway.capacity.model import busy
from gateway.errors import Broken
from gateway.eventloop import run_async
from tests.effort import nightly
from tests.ports import free_port

#: Events of a round at full load, and rounds at each rate.
_COUNT, _ROUNDS = 6_000, 3
#: Rates that were not measured, as shares of full load.
_SHARES = (0.1, 0.4, 0.7)
#: A prediction may be wrong by so much of what the kernel accounts.
_ACCURACY = 0.2


@nightly
@pytest.mark.quiet
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_model_predicts_how_busy_each_process_is(tmp_path: Path) -> None:
    """At three rates that were not measured, in another run of the gateway, from the figures as the file has them."""
    path = tmp_path / "figures.json"
    figures_file.save(run_async(measuring.measure(_COUNT, _ROUNDS)), path)
    figures = figures_file.load(path)
    print(figures)
    assert 500 < figures.event_bytes < 2_000
    errors = {}
    for share, found in zip(_SHARES, run_async(_other_rounds(figures.rates_per_s[-1])), strict=True):
        rate, *costs = (median(column) for column in zip(*found, strict=True))
        for name, cost in zip(("accept_us", "commit_us", "deliver_us"), costs, strict=True):
            predicted, measured = busy(figures.rates_per_s, getattr(figures, name), rate), rate * cost / 1e6
            errors[name, share] = predicted / measured - 1
            print(f"{name} at {rate:.0f} a second: predicted {predicted:.1%}, measured {measured:.1%}")
    assert not {where: error for where, error in errors.items() if abs(error) > _ACCURACY}


async def _other_rounds(full_per_s: float) -> list[tuple[measuring.Round, ...]]:
    """Return some rounds at each of the other rates, one after the other so that a slow moment hits all rates."""
    async with measuring.running() as gateway:
        rounds = [
            [await gateway.round(round(_COUNT * one), full_per_s * one) for one in _SHARES] for _ in range(_ROUNDS)
        ]
    assert not [task for task in asyncio.all_tasks() if task.get_coro().__name__ not in ("_other_rounds", "_stoppable")]
    return list(zip(*rounds, strict=True))


async def test_a_gateway_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the end of its output: here a port that cannot be listened on."""
    monkeypatch.setattr(measuring, "_free_ports", lambda: [70_000, free_port()])
    with pytest.raises(Broken, match=r"did not become ready: .*ingest\.port"):
        await measuring.measure(count=1, rounds=1)
