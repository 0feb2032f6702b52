"""Events in retry topics that the configuration does not have are read on, or reported; none is lost in silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.fanout import retry_records
from gateway.fanout.retry_leftovers import Leftovers, is_old, tier
from gateway.fanout.retry_records import AttemptHistory
from gateway.log import Record
from gateway.log.journal import Journal, Retention
from tests.fanout.events import entry
from tests.fanout.manual_clock import ManualClock, turns
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver
from tests.fanout.running import retry_topics
from tests.fanout.test_on_journal import gateway
from tests.fanout.test_subscriptions import subscriber

OLD = "retry.billing.60s"


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("retry.billing.60s", True),
        ("retry.x.1.0.001s", True),
        ("replay.billing", True),
        ("retry.gone.60s", False),
        ("retry.60s", False),
        ("replay", False),
        ("dlq.billing", False),
        ("retry.billing", False),
    ],
)
def test_which_topics_are_of_the_layout_before(topic: str, expected: bool) -> None:
    """By the names of the subscribers: the shared ones are nobody's."""
    assert is_old(topic, ["billing", "x.1"]) == expected


def test_a_shared_topic_says_its_delay() -> None:
    """A delay that is configured no longer is read on all the same."""
    assert [60.0, 1.5, None, None] == [tier(one) for one in ("retry.60s", "retry.1500ms", OLD, "replay")]


async def test_of_several_processes_the_one_with_the_first_partition_of_replay_looks() -> None:
    """As soon as it has it, and again and again; each topic is reported once, with what to do, and left as it is."""
    clock = ManualClock()
    log = MemoryLog(now=clock.now)
    await log.append([entry(1)._replace(topic=OLD), entry(2)._replace(topic="retry.7s")])
    topics = retry_topics(log, clock=clock, tiers=(60.0,))
    (replay,) = (feed for feed in topics.feeds if feed.topic == retry_records.REPLAY)
    with capture_logs() as lines:
        running = asyncio.create_task(
            Leftovers(log, topics, known=lambda: ["billing"], is_shared=True, clock=clock).run()
        )

        async def named() -> list[list[str]]:
            await turns(100)
            return [line["topics"] for line in lines if line["event"] == "retry.old_topics"]

        replay.assigned({"replay-1": 0})
        assert [] == await named()
        replay.assigned({"replay-0": 0})
        assert [[OLD]] == await named()
        assert "retry.7s" in {feed.topic for feed in topics.feeds}
        await log.append([entry(3)._replace(topic="replay.billing")])
        clock.advance(600.0)
        assert [[OLD], ["replay.billing", OLD]] == await named()
        clock.advance(600.0)
        assert 2 == len(await named())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    (line, *_) = (line for line in lines if line["event"] == "retry.old_topics")
    assert ("error", 1, 1) == (line["log_level"], line["number"], line["records"])
    assert "run the version that wrote them" in line["advice"]
    assert [1] == [int(record.id, 16) for record in log.topic(OLD)]


async def test_a_delay_that_is_configured_no_longer_is_read_on(tmp_path: Path) -> None:
    """The shared topic of it still holds events."""
    journal = Journal(tmp_path, Retention(max_bytes=2**30, max_age_s=10**6))
    await journal.start()
    await journal.append(
        [retry_records.parked(Record("p", 0, 5.0, *entry(1)), "retry.7s", AttemptHistory(), 0.0, "billing")]
    )
    await journal.stop()
    async with Receiver() as receiver, gateway(tmp_path, subscriber("billing", receiver.url)):
        await receiver.until_delivered(1)
