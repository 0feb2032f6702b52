"""What many subscribers cost Kafka and the process: as much as one, in all that is counted by the piece."""

from __future__ import annotations

import pytest

from tests.benchmarks import subscribers
from tests.broker.cluster import Cluster

COUNT = 20


@pytest.mark.kafka
@pytest.mark.slow
async def test_twenty_subscribers_hold_no_more_than_one(broker: Cluster) -> None:
    """``gateway fanout`` after its first start on a fresh cluster, with everything delivered.

    ``python -m tests.benchmarks subscribers`` has the same for up to 300, with memory, processor time and times.
    """
    figures = await subscribers.measure(broker.bootstrap, COUNT, idle_s=0.1, settle_s=1.0)
    held = {name: figures[name] for name in ("groups", "own_topics", "connections", "descriptors")}
    bars = subscribers.bars(COUNT)
    assert {name: value for name, value in held.items() if value > bars[name]} == {}
    assert held["groups"] == 1
