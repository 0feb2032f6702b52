"""The benchmarks still run: each part in a few seconds, on a machine that has what it asks for."""

from __future__ import annotations

import orjson
import pytest

from tests.benchmarks import plot
from tests.benchmarks.__main__ import NEED_KAFKA, PARTS, main, smoke
from tests.components import needed
from tests.effort import IS_NIGHTLY

NEED_WRK = {"ingest", "workers", "latency", "end_to_end", "peers"}


#: Starts a dozen gateways one after another, which takes minutes on two processors: nightly, and by its command.
LONG = frozenset[str]() if IS_NIGHTLY else {"rebalance"}


@pytest.mark.slow
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


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names that there are."""
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "ingest" in capsys.readouterr().err
