"""Where a new subscriber with ``start: latest`` begins on Kafka: what is accepted after it was applied reaches it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.broker.cluster import Cluster
from tests.gateway.conftest import MakeSubscriber, to
from tests.gateway.process import GatewayProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

Make = Callable[..., GatewayProcess]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Gateways that are not started yet; those still running at the end are killed."""
    async with AsyncExitStack() as ending:

        def prepare(command: str, **config: Any) -> GatewayProcess:
            folder = tmp_path / command
            folder.mkdir()
            one = GatewayProcess(folder, config, command)
            ending.push_async_callback(_killed, one)
            return one

        yield prepare


async def _killed(one: GatewayProcess) -> None:
    if one.process is not None and one.process.returncode is None:
        await one.kill()


async def _send(gateway: GatewayProcess, word: str, count: int = 20) -> set[str]:
    """Send callbacks that are all accepted; their message ids."""
    names = {f"{word}-{number}" for number in range(count)}
    async with aiohttp.ClientSession() as session:
        for name in sorted(names):
            body = f"messageid={name}&phone=15550001&status=2&drtime=2024-01-02 03:04:09"
            async with session.post(gateway.url + "/callbacks/sms-dr", data=body.encode()) as answer:
                assert answer.status == 200
    return names


def _kafka(bootstrap: str) -> dict[str, Any]:
    return {"bootstrap_servers": bootstrap, "partitions": 3}


async def test_on_a_fresh_cluster_the_first_events_arrive(
    make: Make, broker: Cluster, subscriber: MakeSubscriber
) -> None:
    """What is accepted as soon as the gateway says that it stands, before any topic is there."""
    receiver = await subscriber()
    gateway = make("run", kafka=_kafka(broker.bootstrap), subscribers=[to(receiver, "new")])
    await gateway.start()
    sent = await _send(gateway, "first")
    await receiver.until(lambda: sent <= receiver.subjects.keys())
    assert receiver.subjects.keys() == sent


async def test_added_while_kafka_is_away_it_gets_what_was_accepted_since(
    make: Make, broker: Cluster, subscriber: MakeSubscriber
) -> None:
    """By a reload in an outage: all from the moment it was applied, nothing from before, also after a restart in it."""
    old, new = await subscriber(), await subscriber()
    gateway = make("run", kafka=_kafka(broker.bootstrap), subscribers=[to(old, "old")])
    await gateway.start()
    before = await _send(gateway, "before")
    await old.until(lambda: before <= old.subjects.keys())
    await asyncio.to_thread(broker.node(1).stop)
    not_due = await _send(gateway, "not-due")
    gateway.config["subscribers"].append(to(new, "new"))
    gateway.write()
    os.kill(gateway.pid, signal.SIGHUP)
    await gateway.logged("config.applied")
    due = await _send(gateway, "due")
    await gateway.kill()
    await gateway.start()
    due |= await _send(gateway, "restarted")
    await asyncio.to_thread(broker.node(1).start)
    await new.until(lambda: due <= new.subjects.keys(), 90)
    await old.until(lambda: not_due | due <= old.subjects.keys(), 90)
    assert new.subjects.keys() == due


async def test_it_begins_when_serve_applied_it(make: Make, kafka: str, prefix: str, subscriber: MakeSubscriber) -> None:
    """``fanout`` comes later, and gets what was accepted since ``serve`` said that it stands."""
    receiver = await subscriber()
    serve = make("serve", kafka=_kafka(kafka), topics={"prefix": prefix})
    await serve.start()
    await _send(serve, "before")
    rows = [to(receiver, "new")]
    serve.config["subscribers"] = rows
    serve.write()
    os.kill(serve.pid, signal.SIGHUP)
    await serve.logged("config.applied")
    sent = await _send(serve, "since")
    fanout = make("fanout", kafka=_kafka(kafka), topics={"prefix": prefix}, subscribers=rows)
    await fanout.start()
    await receiver.until(lambda: sent <= receiver.subjects.keys())
    assert receiver.subjects.keys() == sent


async def test_removed_and_added_again_it_goes_on(
    make: Make, kafka: str, prefix: str, subscriber: MakeSubscriber
) -> None:
    """A group that Kafka still has keeps its position: what came meanwhile is delivered."""
    receiver = await subscriber()
    row = to(receiver, "again")
    gateway = make("run", kafka=_kafka(kafka), topics={"prefix": prefix}, subscribers=[row])
    await gateway.start()
    sent = await _send(gateway, "first")
    await receiver.until(lambda: sent <= receiver.subjects.keys())
    for number, rows in enumerate(([], [row]), 1):
        gateway.config["subscribers"] = rows
        gateway.write()
        os.kill(gateway.pid, signal.SIGHUP)
        await gateway.logged("config.applied", count=number)
        sent |= await _send(gateway, f"meanwhile-{number}")
    await receiver.until(lambda: sent <= receiver.subjects.keys())
    assert receiver.subjects.keys() == sent


async def test_a_topic_recreated_while_fanout_was_stopped_is_delivered_whole(
    make: Make, kafka: str, prefix: str, subscriber: MakeSubscriber
) -> None:
    """With more events than before, which is where the old position would hide them; and it is said."""
    from gateway.log.kafka import KafkaOptions
    from tests.kafka.surgery import recreate

    receiver = await subscriber()
    serve = make("serve", kafka=_kafka(kafka), topics={"prefix": prefix}, subscribers=[to(receiver, "one")])
    fanout = make("fanout", kafka=_kafka(kafka), topics={"prefix": prefix}, subscribers=[to(receiver, "one")])
    await serve.start()
    await fanout.start()
    first = await _send(serve, "first")
    await receiver.until(lambda: first <= receiver.subjects.keys())
    assert await fanout.terminate() == 0
    await recreate(KafkaOptions((kafka,), prefix=prefix), "sms.dr", 2)
    second = await _send(serve, "second", 60)
    await fanout.start()
    await receiver.until(lambda: second <= receiver.subjects.keys())
    line = await fanout.logged("kafka.recreated")
    assert (line["group"], line["topic"]) == ("gateway.one", "sms.dr")
    line = await serve.logged("kafka.recreated")
    assert (line["group"], line["topic"]) == ("publisher", "sms.dr")
