"""What ``gateway_publisher_lag_records``, and so ``deploy/drain.py``, counts: everything that Kafka does not have."""

from __future__ import annotations

from pathlib import Path

from gateway.log import Entry
from gateway.log.journal import Journal, Retention
from gateway.log.kafka import KafkaOptions
from gateway.publisher import Publisher
from gateway.telemetry.metrics import METRICS
from tests.ports import free_port
from tests.waiting import until


def _entries(topic: str, count: int, first: int = 0) -> list[Entry]:
    return [
        Entry(topic, "key", f"{topic}-{number}".encode().hex().zfill(32)[-32:], b"{}")
        for number in range(first, first + count)
    ]


async def _metric(total: float) -> None:
    await until(lambda: sum(value for _, value in METRICS.values("gateway_publisher_lag_records")) == total)


async def test_everything_counts_that_is_not_published_whatever_its_topic_is(tmp_path: Path) -> None:
    """Read or not, of this configuration or another one, after a restart too; nothing is shown after the stop."""
    options = KafkaOptions((f"127.0.0.1:{free_port()}",))
    stored = 0
    for life in range(2):
        journal = Journal(tmp_path, Retention(1 << 30, 3600.0))
        await journal.start()
        for topic, count in (("sms.dr", 30), ("removed.from.configuration", 7 + life), ("call.event", 1)):
            await journal.append(_entries(topic, count, first=1000 * life))
            stored += count
        publisher = Publisher(journal, options)
        await publisher.start()
        # At once, before the reading has come to any of it, and at any later time.
        assert await publisher.lag() == stored
        await _metric(stored)
        await journal.append(_entries("new.topic", 3, first=1000 * life))
        stored += 3
        assert await publisher.lag() == stored
        await _metric(stored)
        await publisher.stop(drain_s=0.1)
        assert list(METRICS.values("gateway_publisher_lag_records")) == []
        await journal.stop()
