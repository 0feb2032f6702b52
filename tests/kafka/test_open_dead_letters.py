"""The life of dead letters on Kafka: several partitions, several processes, topics that come later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from gateway.clock import SystemClock
from gateway.fanout import dead_letters
from gateway.fanout.open_dead_letters import OpenDeadLetters
from gateway.fanout.replay import Selection
from gateway.fanout.replay_board import NotAvailable, ReplayBoard
from gateway.log.kafka import KafkaLog, KafkaOptions
from gateway.telemetry.metrics import Metrics
from tests.fanout.test_dead_letters import closed, given_up
from tests.waiting import until

CLOCK = SystemClock()
PATIENCE_S = 60.0

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@asynccontextmanager
async def process(options: KafkaOptions) -> AsyncIterator[tuple[KafkaLog, OpenDeadLetters, ReplayBoard]]:
    """What each process that delivers has of them."""
    log = KafkaLog(options)
    await log.start()
    letters = OpenDeadLetters(log, lambda: ["billing", "crm"], clock=CLOCK, metrics=Metrics(CollectorRegistry()))
    board = ReplayBoard(log, clock=CLOCK, instance="here", is_alone=False)
    await letters.start()
    await board.start()
    try:
        yield log, letters, board
    finally:
        await board.stop()
        await letters.stop()
        await log.stop()


async def test_every_process_knows_what_is_open(kafka: str, prefix: str) -> None:
    """A topic that is made with its first dead letter; what one process closes is closed in the other."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3)
    async with process(options) as (log, one, _), process(options) as (elsewhere, other, _):

        async def are_open(count: int) -> None:
            wanted = {"attempts": count} if count else {}
            for each in (one, other):
                await until(lambda each=each: each.open_counts("billing") == wanted, within_s=PATIENCE_S)  # type: ignore[misc]

        await are_open(0)
        await log.append([given_up(number) for number in range(40)])
        await are_open(40)
        await elsewhere.append([closed(0), given_up(0), closed(1, "delivered"), closed(1)])
        await are_open(39)
        ids = [given_up(number).id for number in range(10)]
        for expected in (9, 0):
            found = await dead_letters.resolve(elsewhere, "billing", clock=CLOCK, note="by hand", by="ann", ids=ids)
            assert expected == found
        await are_open(30)
        delivered = await dead_letters.find(log, "billing", wanted="delivered")
        assert [given_up(1).id] == [letter.id for letter in delivered]
        assert 30 == len(await dead_letters.find(log, "billing"))
        assert {} == one.open_counts("crm")
    async with process(options) as (_, later, _):
        await until(lambda: later.open_counts("billing") == {"attempts": 30}, within_s=PATIENCE_S)


async def test_replays_are_known_and_cancelled_across_processes(kafka: str, prefix: str) -> None:
    """Numbers are not shared, and what one process cancels is withdrawn in the other."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    async with process(options) as (log, _, one), process(options) as (_, _, other):
        await until(lambda: _knows(one) and _knows(other), within_s=PATIENCE_S)
        first = await one.begin("billing", Selection().document(), None)
        second = await other.begin("billing", Selection().document(), None)
        assert {1, 2} == {first.number, second.number}
        await log.append([one.progress(first, 5, {"sms.dr-0": 9})])
        await other.cancel(first.number)
        await until(lambda: one.is_cancelled(first.number), within_s=PATIENCE_S)
        found = other.get(first.number)
        assert found is not None
        await until(lambda: (found.stored, found.state) == (5, "cancelled"), within_s=PATIENCE_S)


def _knows(board: ReplayBoard) -> bool:
    try:
        return board.replays() == []
    except NotAvailable:
        return False
