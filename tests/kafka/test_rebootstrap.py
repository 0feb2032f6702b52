"""A cluster that moved: the addresses that a client remembers lead nowhere, the bootstrap servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import Transient
from gateway.log.kafka import KafkaLog, KafkaOptions, ReaderPolicy
from gateway.log.kafka.options import WriterPolicy
from gateway.publisher import Publisher
from tests.broker.cluster import Cluster
from tests.broker.fixtures import make
from tests.kafka.joined import joined
from tests.kafka.traffic import TOPIC, compare, event, journal, published, stored
from tests.waiting import pause, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def elsewhere() -> Iterator[Cluster]:
    """A second cluster, not started."""
    made = make(is_started=False)
    yield made
    made.remove()


async def test_clients_follow_a_cluster_to_new_addresses(broker: Cluster, elsewhere: Cluster, tmp_path: Path) -> None:
    """Publisher and reader find the brokers again through the bootstrap servers, without a restart."""
    options = KafkaOptions((broker.bootstrap, elsewhere.bootstrap), partitions=2)
    log = KafkaLog(options, reader_policy=ReaderPolicy(probe_s=0.5, request_s=2.0, rebootstrap_s=1.0))
    async with journal(tmp_path) as events:
        publisher = Publisher(
            events, options, writer_policy=WriterPolicy(stalled_s=1.0, look_s=0.1, rebootstrap_s=1.0, grace_s=1.0)
        )
        await publisher.start()
        reader = await joined(log, [TOPIC])
        await events.append([event(1, "k")])
        await published(publisher)
        await asyncio.to_thread(broker.node(1).kill)
        given = [event(n, f"key-{n}") for n in range(100, 200)]
        await events.append(given)
        await until(lambda: not publisher.state.is_ready)
        await asyncio.to_thread(elsewhere.start)
        await published(publisher)
        found = []
        async with asyncio.timeout(60):
            while len({record.id for record in found}) < 100:
                try:
                    found += await reader.fetch(max_records=100, wait_s=0.5)
                except Transient:
                    await pause(0.1, "a reader that tries again")
        await publisher.stop()
        await log.stop()
    there = KafkaOptions((elsewhere.bootstrap,))
    assert compare(given, await stored(there)).missing == 0
    assert {record.id for record in found} >= {entry.id for entry in given}
