"""``gateway tail`` on Kafka: a look that leaves nothing behind."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.kafka.traffic import TOPIC, event

pytestmark = pytest.mark.kafka


async def start(config: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "tail", "-c", str(config), "--topic", TOPIC, "--json", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_tail_reads_topics_to_their_end_or_on_and_on_in_no_group(kafka: str, prefix: str, tmp_path: Path) -> None:
    """``--once`` prints all that is there, ``--since`` goes on from there, and Kafka keeps no group of either."""
    config = tmp_path / "config.yaml"
    config.write_text(f"kafka: {{bootstrap_servers: '{kafka}'}}\ntopics: {{prefix: '{prefix}'}}\n")
    log = KafkaLog(KafkaOptions((kafka,), prefix=prefix, partitions=3))
    await log.start()
    given = [event(n, f"key-{n}") for n in range(700)]
    await log.append(given)

    once = await start(config, "--once")
    async with asyncio.timeout(60):
        out, err = await once.communicate()
    assert (once.returncode, err) == (0, b"")
    assert {entry.id for entry in given} == {orjson.loads(line)["id"] for line in out.splitlines()}

    follower = await start(config, "--since", "1h")
    assert follower.stdout is not None
    async with asyncio.timeout(60):
        seen = {orjson.loads(await follower.stdout.readline())["id"] for _ in given}
        await log.append([event(700, "key-700")])
        seen.add(orjson.loads(await follower.stdout.readline())["id"])
    follower.terminate()
    await follower.communicate()
    assert {entry.id for entry in given} | {event(700, "key-700").id} == seen
    await log.stop()

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    groups = [name for name, *_ in await admin.list_consumer_groups()]
    await admin.close()
    assert not [name for name in groups if "tail" in name]
