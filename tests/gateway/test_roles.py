"""The gateway as its users run it at volume: ``serve`` and ``fanout`` as processes of their own around a real Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from gateway.errors import ConfigError
from tests.broker.cluster import Cluster
from tests.gateway.conftest import MakeSubscriber, to
from tests.gateway.process import GatewayProcess
from tests.gateway.test_loss import Load

pytestmark = pytest.mark.kafka


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_accepted_is_lost_whoever_dies(
    tmp_path: Path, broker: Cluster, subscriber: MakeSubscriber
) -> None:
    """SIGKILL of an ingest process, of the only broker (then restarted), and of the fan-out, all under load."""
    receiver = await subscriber()
    shared = {
        "kafka": {"bootstrap_servers": broker.bootstrap, "partitions": 3},
        "subscribers": [to(receiver, "all", start="earliest")],
    }
    folders = [tmp_path / "serve", tmp_path / "fanout"]
    for folder in folders:
        folder.mkdir()
    serve = GatewayProcess(folders[0], {**shared, "ingest": {"port": 0, "workers": 2}}, "serve")
    fanout = GatewayProcess(folders[1], shared, "fanout")
    started, _ = await asyncio.gather(serve.start(), fanout.start())
    assert started["role"] == "serve"
    load = Load(serve.url + "/callbacks/sms-dr")
    try:
        # A new connection for each request: those that live accept it.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
            clients = [asyncio.create_task(load.run(session)) for _ in range(8)]
            await receiver.until_more(100)

            worker = await serve.logged("process.started", where=lambda line: line["process"] == "ingest-1")
            os.kill(int(worker["pid"]), signal.SIGKILL)
            await serve.logged("process.died")
            await load.until_accepted(200)

            await asyncio.to_thread(broker.node(1).kill)
            await load.until_accepted(300)
            await asyncio.to_thread(broker.node(1).start)
            await receiver.until_more(100)

            await fanout.kill()
            await load.until_accepted(200)
            await fanout.start()

            load.stop()
            await asyncio.gather(*clients)
        await receiver.until(lambda: load.accepted <= receiver.subjects.keys(), 90)
        assert await serve.terminate() == 0
        assert await fanout.terminate() == 0
    finally:
        for process in (serve, fanout):
            if process.process is not None and process.process.returncode is None:
                await process.terminate()
    assert load.accepted - receiver.subjects.keys() == set()
    assert receiver.subjects.keys() - load.sent == set()
    assert load.other_answers == []
    repeats = sum(receiver.ids.values()) - len(receiver.ids)
    print(f"accepted {len(load.accepted)}, lost 0, delivered twice {repeats}")


@pytest.mark.parametrize("workers", [1, 2])
async def test_serve_lives_on_after_a_hang_up(tmp_path: Path, workers: int) -> None:
    """SIGHUP means "look at the configuration" in every role, also where a change of it waits for a restart."""
    config = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "ingest": {"port": 0, "workers": workers}}
    serve = GatewayProcess(tmp_path, config, "serve")
    await serve.start()
    os.kill(serve.pid, signal.SIGHUP)
    serve.config["journal"]["retention"] = "6d"
    serve.write()
    os.kill(serve.pid, signal.SIGHUP)
    await serve.logged("config.restart_needed", where=lambda line: "journal" in line["sections"])
    assert await serve.terminate() == 0
    assert not any(line.get("event") == "process.died" for line in serve.lines)


@pytest.mark.parametrize("command", ["serve", "fanout"])
async def test_roles_without_kafka_say_what_to_do(tmp_path: Path, command: str) -> None:
    gateway = GatewayProcess(tmp_path, {}, command)
    with pytest.raises(AssertionError, match="gateway run"):
        await gateway.start()
    assert gateway.process is not None
    assert ConfigError.exit_code == await gateway.process.wait()


async def test_fanout_says_that_kafka_is_away(tmp_path: Path) -> None:
    """In /readyz, with the address; it is ready all the same, as nothing else would make it better."""
    subscriber = {"name": "billing", "topics": ["sms.dr"], "url": "http://127.0.0.1:9/", "allow_private": True}
    config = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "subscribers": [subscriber]}
    fanout = GatewayProcess(tmp_path, config, "fanout")
    await fanout.start()
    try:
        await fanout.logged("kafka.unavailable")
        async with aiohttp.ClientSession() as session, session.get(f"{fanout.admin_url}/readyz") as response:
            found = await response.json()
        assert (response.status, found["ready"]) == (200, True)
        assert "127.0.0.1:1" in found["checks"]["kafka.readers"]
    finally:
        assert await fanout.terminate() == 0
