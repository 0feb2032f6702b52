"""What groups have not passed in internal topics."""

from __future__ import annotations

from pathlib import Path

from gateway.log.journal import Journal, Retention
from tests.fanout.events import entry


async def test_internal_topics_that_somebody_has_not_finished(tmp_path: Path) -> None:
    """By topic; one that nobody reads counts whole, vendor events and what is not asked about not at all."""
    log = Journal(tmp_path, Retention(max_bytes=2**30, max_age_s=10**6))
    await log.start()
    topics = ["retry.60s", "retry.a.60s", "replay.a", "dlq.a", "sms.dr"]
    await log.append([entry(number)._replace(topic=topic) for topic in topics for number in range(1, 6)])
    await log.cursors.load("g", ["retry.60s"], ["retry.60s"], start="earliest")
    log.cursors.commit("g", "retry.60s", 3)
    assert {"retry.60s": 2, "retry.a.60s": 5, "replay.a": 5} == await log.unfinished(
        lambda topic: "g" if topic.startswith(("retry.", "replay.")) else None
    )
    await log.stop()
