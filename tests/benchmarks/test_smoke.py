"""The benchmarks still run: each part in a few seconds, on a machine that has what it asks for, long ones nightly."""

from __future__ import annotations

import inspect

import orjson
import pytest

from tests.benchmarks import plot
from tests.benchmarks.__main__ import NEED_KAFKA, PARTS, function_of, main, smoke
from tests.components import needed
from tests.effort import IS_NIGHTLY
from tests.rows import rows

NEED_WRK = {"ingest", "workers", "latency", "end_to_end", "peers"}


#: Each starts a broker and several gateways, or all sides of a comparison: minutes on two processors. They run nightly.
LONG = frozenset[str]() if IS_NIGHTLY else {"rebalance", "one-down", "peers", "stuck-topic", "subscribers"}


@pytest.mark.slow
@pytest.mark.timeout(300)  # twenty seconds alone, minutes with five other workers
@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=pytest.mark.kafka if part in NEED_KAFKA else ()) for part in PARTS if part not in LONG],
)
def test_part_runs(part: str) -> None:
    """Every part gives figures; what they are says nothing here."""
    if part in NEED_WRK:
        needed("wrk", install="apt-get install wrk")
    figures = smoke(part)
    assert figures
    assert orjson.dumps(figures)
    assert b"</svg>" in plot.svg(part, figures)


@rows("part", PARTS)
def test_part_takes_the_options_of_its_smoke_run(part: str) -> None:
    """Also of those that run nightly: they can be imported, and have the parameters that they are called with."""
    inspect.signature(function_of(part)).bind(**PARTS[part][1])


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names that there are."""
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "ingest" in capsys.readouterr().err
