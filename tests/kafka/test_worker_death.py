"""SIGKILL of a process with journal and publisher under load."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.log.kafka import KafkaOptions
from gateway.publisher import Publisher
from tests.kafka.surgery import configure, create
from tests.kafka.traffic import TOPIC, compare, journal, published, stored, tell
from tests.kafka.worker import event_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
_KILLS = 8


async def test_what_a_killed_worker_accepted_is_published(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Killed at random moments eight times: all that it accepted is in the topic, keys in order of first appearance."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3)
    accepted = await _lives(options, tmp_path, [TOPIC])
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
    result = compare([event_of(n, [TOPIC]) for n in accepted], await stored(options))
    assert (result.missing, result.out_of_order) == (0, [])
    # Stored and killed before it could be said: at most the last append of each life.
    assert result.invented <= _KILLS * 10
    tell(f"{_KILLS} kills, {len(accepted)} accepted, {result.repeated} repeated, {result.invented} not answered")
    # What was acknowledged since the cursor was stored (a quarter of a second) and what was on its way.
    assert result.repeated <= _KILLS * 1000


async def test_a_worker_is_killed_while_one_of_its_topics_cannot_be_written(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Nothing of that topic is lost, nor repeated; the others are not published anew from where that one stood."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3)
    names = [TOPIC, "call.event", "task.status"]
    await create(options, TOPIC, 3, **{"message.timestamp.before.max.ms": "0"})
    accepted = await _lives(options, tmp_path, names)
    assert await stored(options) == []
    await configure(options, TOPIC, {"message.timestamp.before.max.ms": str(2**63 - 1)})
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
    events = [event_of(n, names) for n in accepted]
    for name in names:
        result = compare([entry for entry in events if entry.topic == name], await stored(options, name))
        assert (name, result.missing, result.out_of_order) == (name, 0, [])
        assert result.invented <= _KILLS * 10
        assert result.repeated <= (0 if name == TOPIC else _KILLS * 1000)


async def _lives(options: KafkaOptions, folder: Path, names: Sequence[str]) -> list[int]:
    """Run a worker again and again, each time killed; the numbers of events that it accepted."""
    accepted: list[int] = []
    rng = random.Random(20)
    for _ in range(_KILLS):
        first = (accepted[-1] + 1000) if accepted else 0
        accepted += await _life(options, folder, first, names, rng.uniform(0.05, 1.2))
    return accepted


async def _life(options: KafkaOptions, folder: Path, first: int, names: Sequence[str], lasts_s: float) -> list[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.kafka.worker",
        str(folder),
        options.bootstrap_servers[0],
        options.prefix,
        str(first),
        *names,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert process.stdout is not None
    said = [await process.stdout.readline()]
    assert said[0]
    asyncio.get_running_loop().call_later(lasts_s, process.kill)
    said += [line async for line in process.stdout]
    await process.wait()
    # The log is among them, and the last line may be cut.
    return [int(line) for line in said if line.endswith(b"\n") and line.strip().isdigit()]
