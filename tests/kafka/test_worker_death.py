"""SIGKILL of a process with journal and publisher under load."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from gateway.log.kafka import KafkaOptions
from gateway.publisher import Publisher
from tests.kafka.traffic import compare, event, journal, published, stored, tell
from tests.kafka.worker import KEYS

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
_KILLS = 8


async def test_what_a_killed_worker_accepted_is_published(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Killed at random moments eight times: all that it accepted is in the topic, keys in order of first appearance."""
    accepted: list[int] = []
    rng = random.Random(20)
    for _ in range(_KILLS):
        first = (accepted[-1] + 1000) if accepted else 0
        accepted += await _life(kafka, prefix, tmp_path, first, rng.uniform(0.05, 1.2))
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        await published(publisher)
        await publisher.stop()
    result = compare([event(n, f"key-{n % KEYS}") for n in accepted], await stored(options))
    assert (result.missing, result.out_of_order) == (0, [])
    # Stored and killed before it could be said: at most the last append of each life.
    assert result.invented <= _KILLS * 10
    tell(f"{_KILLS} kills, {len(accepted)} accepted, {result.repeated} repeated, {result.invented} not answered")
    # What was acknowledged since the cursor was stored (a quarter of a second) and what was on its way.
    assert result.repeated <= _KILLS * 1000


async def _life(bootstrap: str, prefix: str, folder: Path, first: int, lasts_s: float) -> list[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.kafka.worker",
        str(folder),
        bootstrap,
        prefix,
        str(first),
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
    return [int(line) for line in said if line.endswith(b"\n")]
