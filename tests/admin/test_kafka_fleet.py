"""With Kafka, fan-out of several processes on several machines: each of them speaks for all; and Kafka away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.admin.running import webhook
from tests.admin.test_kafka import Admin
from tests.broker.cluster import Cluster
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber, accept
from tests.kafka.traffic import event
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

_PREFIX = "fleet."


async def fail(_: dict[str, Any]) -> int:
    """Has trouble of its own."""
    return 500


@pytest.fixture
async def failing() -> AsyncIterator[Subscriber]:
    async with Subscriber(fail) as one:
        yield one


@pytest.fixture
async def accepting() -> AsyncIterator[Subscriber]:
    async with Subscriber(accept) as one:
        yield one


class TwoWorkers(GatewayProcess):
    """``gateway fanout --workers 2``."""

    async def _spawn(self, environment: dict[str, str], folder: Path | None = None) -> None:
        arguments = ("-m", "gateway", self.command, "--workers", "2", "-c", str(self.path))
        await self._spawn_program(*arguments, cwd=folder, env=environment)


def _of(found: Any, name: str) -> Any:
    return next(one for one in found["subscribers"] if one["name"] == name)


async def _machine(cls: type[GatewayProcess], folder: Path, config: dict[str, Any]) -> GatewayProcess:
    process = cls(folder, {**config, "kafka": {**config["kafka"], "instance_id": folder.name}}, "fanout")
    await process.start()
    return process


async def test_each_process_speaks_for_all_of_two_machines(
    broker: Cluster, tmp_path: Path, failing: Subscriber, accepting: Subscriber
) -> None:
    """Lag of all partitions, the state of the worst, from either admin port; then nothing is known while Kafka is away.

    Three processes share six partitions, so that none of them reads them all.
    """
    breaker = {"min_attempts": 1, "window": "10m"}
    config = {
        "kafka": {"bootstrap_servers": broker.bootstrap, "partitions": 6},
        "topics": {"prefix": _PREFIX},
        "subscribers": [
            webhook("crm", failing.url, start="earliest", breaker=breaker),
            webhook("billing", accepting.url, start="earliest"),
        ],
    }
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    here = await _machine(TwoWorkers, tmp_path / "here", config)
    there = await _machine(GatewayProcess, tmp_path / "there", config)
    log = KafkaLog(KafkaOptions((broker.bootstrap,), prefix=_PREFIX, partitions=6))
    await log.start()
    async with aiohttp.ClientSession() as session:
        admins = [Admin(session, machine.admin_url) for machine in (here, there)]
        await asyncio.gather(*(one.until("/api/subscribers", _is_known) for one in admins))
        await log.append([event(number, f"key-{number}") for number in range(120)])
        await accepting.until(lambda: len(accepting.ids) == 120)
        for admin in admins:
            found = await admin.until("/api/subscribers", lambda found: _of(found, "billing")["lag"] == 0)
            assert _of(found, "billing")["state"] == "healthy"
            # What was tried before the breakers opened may have been parked; no process alone reads that many.
            await admin.until("/api/subscribers", lambda found: (_of(found, "crm")["lag"] or 0) > 90)
            await admin.until("/api/subscribers", lambda found: _of(found, "crm")["state"] == "down")

        # Of its own machine each one adds up what all processes have delivered.
        async def delivered() -> bool:
            return sum([_of(await admin.get("/api/overview"), "billing")["delivered"] for admin in admins]) == 120

        await until(delivered)
        # Paused at one machine, paused in all processes.
        assert (await admins[0].post("/api/subscribers/billing/pause", {}))["state"] == "paused"
        await admins[1].until("/api/subscribers", lambda found: _of(found, "billing")["state"] == "paused")
        await log.append([event(number, f"key-{number}") for number in range(200, 230)])
        for admin in admins:
            await admin.until("/api/subscribers", lambda found: _of(found, "billing")["lag"] == 30)

        broker.node(1).suspend()
        for admin in admins:
            found = await admin.until("/api/subscribers", lambda found: _of(found, "billing")["lag"] is None)
            unknown = _of(found, "billing")["lag_unknown"]
            assert unknown["last"] == 30
            assert time.time() - 120 < unknown["since"] < time.time()
            assert "Kafka" in unknown["reason"]
            began = time.monotonic()
            await admin.get("/api/subscribers")
            assert time.monotonic() - began < 2.0
        broker.node(1).resume()
        for admin in admins:
            await admin.until("/api/subscribers", lambda found: _of(found, "billing")["lag"] == 30)
    await log.stop()
    for machine in (here, there):
        assert await machine.terminate() == 0


def _is_known(found: Any) -> bool:
    return all(one["lag"] is not None for one in found["subscribers"])
