"""Members that go while their group deals partitions: what is left of them must hold up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from gateway.log.kafka import GroupReader, KafkaLog, KafkaOptions, ReaderPolicy
from tests.kafka.joined import joined
from tests.kafka.traffic import TOPIC
from tests.waiting import turn, until

pytestmark = pytest.mark.kafka
#: A session that outlasts the test: only who says good-bye is gone.
_LONG = ReaderPolicy(session_s=120.0, beat_s=0.5, revoke_s=5.0, close_s=1.0)


class Hanging:
    """An ``on_revoked`` that settles when it is let."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.may_settle = asyncio.Event()

    async def __call__(self, partitions: Collection[str]) -> None:
        self.is_asked.set()
        await self.may_settle.wait()


@pytest.fixture
async def logs(kafka: str, prefix: str) -> AsyncIterator[list[KafkaLog]]:
    """Three processes. When they have stopped, nothing of aiokafka runs."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=4)
    made = [KafkaLog(options, reader_policy=_LONG) for _ in range(3)]
    await made[0].ensure([TOPIC])
    yield made
    await asyncio.gather(*(log.stop() for log in made))
    assert await _left() == []


async def _left() -> list[str]:
    tasks = [task for task in asyncio.all_tasks() if "aiokafka" in _file(task)]
    if tasks:  # cancelled ones need a moment to end
        await asyncio.wait(tasks, timeout=1.0)
    return [repr(task) for task in tasks if not task.done()]


def _file(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return "" if code is None else str(code.co_filename)


async def _reader(log: KafkaLog, hanging: Hanging | None = None) -> GroupReader:
    reader = await joined(log, [TOPIC], on_revoked=hanging)
    await reader.fetch(max_records=1, wait_s=0.0)  # its partitions are known to the owner: they are to be settled
    return reader


def _partitions(reader: GroupReader) -> int:
    return len(reader.consumer.assignment())


async def test_a_reader_that_is_closed_while_it_settles_leaves_its_group(logs: list[KafkaLog]) -> None:
    """As when two processes take in a new configuration while a receiver hangs: the other does not wait for a ghost."""
    hanging = Hanging()
    first = await _reader(logs[0], hanging)
    opening = asyncio.create_task(_reader(logs[1]))
    await hanging.is_asked.wait()
    await first.close()
    async with asyncio.timeout(20):
        second = await opening
    assert _partitions(second) == 4


async def test_a_reader_that_is_closed_while_it_waits_for_others_to_settle_leaves_its_group(
    logs: list[KafkaLog],
) -> None:
    """It has given its partitions away and asked for new ones; the answer finds nobody, and nobody waits for it."""
    hanging = Hanging()
    first, second = await _reader(logs[0], hanging), asyncio.create_task(_reader(logs[1]))
    await hanging.is_asked.wait()
    hanging.may_settle.set()
    quick = await second
    await until(lambda: _partitions(first) == 2)
    await first.fetch(max_records=1, wait_s=0.0)  # as above
    hanging.may_settle.clear()
    hanging.is_asked.clear()
    opening = asyncio.create_task(_reader(logs[2]))
    await hanging.is_asked.wait()
    await until(lambda: quick.consumer._coordinator._heartbeat_task is None)  # it asks to join
    await quick.close()
    hanging.may_settle.set()
    third = await opening
    await until(lambda: (_partitions(first), _partitions(third)) == (2, 2), within_s=20)


async def test_an_open_that_is_cancelled_while_the_group_settles_leaves_nothing(logs: list[KafkaLog]) -> None:
    """A process that is stopped while it joins does so at once, and the others do not wait for it to join."""
    hanging = Hanging()
    first = await _reader(logs[0], hanging)
    opening = asyncio.create_task(_reader(logs[1]))
    await hanging.is_asked.wait()
    opening.cancel()
    async with asyncio.timeout(0.5):
        await asyncio.wait([opening])
    await logs[1].stop()
    assert len(logs[1].states) == 1
    hanging.may_settle.set()
    await until(lambda: _partitions(first) == 4, within_s=20)


async def test_a_consumer_whose_replacement_is_cancelled_is_stopped(logs: list[KafkaLog]) -> None:
    """It was still settling when its reader was stopped: it does not stay in the group, with nobody to read for it."""
    hanging = Hanging()
    first = await _reader(logs[0], hanging)
    replacing = asyncio.create_task(first._replace(first.consumer))
    await hanging.is_asked.wait()
    replacing.cancel()
    await asyncio.wait([replacing])
    await first.close()
    async with asyncio.timeout(20):
        second = await _reader(logs[1])
    await until(lambda: _partitions(second) == 4, within_s=20)  # what settles is cut short


async def test_closing_goes_on_when_nobody_waits_for_it(logs: list[KafkaLog]) -> None:
    """Who closes a reader may be cancelled; the reader leaves its group all the same."""
    first = await _reader(logs[0])
    closing = asyncio.create_task(first.close())
    await turn()
    closing.cancel()
    await asyncio.wait([closing])
    async with asyncio.timeout(20):
        second = await _reader(logs[1])
    await until(lambda: _partitions(second) == 4, within_s=20)
