"""A short outage under load; the long one is ``python -m tests.benchmarks.outage``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import outage
from tests.broker.cluster import Cluster
from tests.kafka.traffic import tell

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.quiet]  # it compares rates


async def test_an_outage_is_felt_by_nobody(broker: Cluster, tmp_path: Path) -> None:
    """Without a broker no append fails and memory stays; afterwards the backlog drains at five times its rate."""
    figures = await outage.run(broker, tmp_path, seconds=6, rate=500)
    tell(str(figures))
    assert figures.failed_appends == 0
    assert (figures.missing, figures.out_of_order) == (0, 0)
    assert figures.repeated <= figures.events * 0.001
    assert figures.rss_growth_mb < 60
    assert figures.drain_rate >= 5 * figures.intake_rate
