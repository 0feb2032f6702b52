"""Events that no broker takes, while the journal has no room for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import JournalFull
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaOptions
from gateway.publisher import DEAD_LETTERS, GROUP, Publisher
from tests.broker.cluster import Cluster
from tests.kafka.traffic import compare, event, published, stored
from tests.log.contract import read


@pytest.mark.kafka
async def test_an_event_too_large_does_not_stop_a_publisher_whose_journal_is_full(
    small_broker: Cluster, tmp_path: Path
) -> None:
    """Its dead letter is stored all the same; all others are published, and then there is room again."""
    options = KafkaOptions((small_broker.bootstrap,), prefix="full.", partitions=3)
    log = Journal(tmp_path, Retention(2 * 1024 * 1024, 86_400.0, protected=GROUP, publish_grace_records=0))
    await log.start()
    large = event(0, "key-0", filling=100_000)
    await log.append([large])
    given = []
    with pytest.raises(JournalFull):
        while True:
            entry = event(len(given) + 1, f"key-{len(given) % 5}", filling=20_000)
            await log.append([entry])
            given.append(entry)
    publisher = Publisher(log, options)
    await publisher.start()
    await published(publisher, within_s=40)
    await publisher.stop()
    await log.append([event(1000, "key-0", filling=20_000)])
    letters = await log.browse("test", [DEAD_LETTERS], start="earliest")
    assert [(record.id, record.value) for record in await read(letters, 1)] == [(large.id, large.value)]
    await log.stop()
    result = compare(given, await stored(options))
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
