"""Reading that belongs to no group, on a real broker: streams, scans, partitions that are added."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import Transient
from gateway.fanout.scan import scan
from gateway.fanout.sse import EventStream
from gateway.log.kafka import KafkaLog, KafkaOptions
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, add_partitions, event
from tests.log.contract import read

pytestmark = pytest.mark.kafka


def _options(bootstrap: str, prefix: str = "", **more: Any) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, **({"partitions": 3} | more))


async def _started(stack: AsyncExitStack, options: KafkaOptions) -> KafkaLog:
    """A log as another process would have it."""
    log = KafkaLog(options)
    stack.push_async_callback(log.stop)
    await log.start()
    return log


async def _take(chunks: AsyncIterator[bytes], count: int) -> list[str]:
    """The next so many events of a stream, by their data."""
    found: list[str] = []
    async with asyncio.timeout(40):
        while len(found) < count:
            found += [line for line in (await anext(chunks)).decode().splitlines() if line.startswith("data: ")]
    return found


async def test_clients_of_one_stream_on_two_processes_each_get_everything(kafka: str, prefix: str) -> None:
    """A second client, on another machine, takes nothing from the first, and sends it nothing a second time."""
    options = _options(kafka, prefix)
    subscriber = Subscriber(name="crm", topics=[TOPIC], kind="stream", start="earliest")
    async with AsyncExitStack() as stack:
        logs = [await _started(stack, options) for _ in range(2)]
        await logs[0].append([event(n, f"k{n}") for n in range(30)])
        streams = [EventStream(log, subscriber, clock=SystemClock()).events(heartbeat_s=0.5) for log in logs]
        one, two = [await stack.enter_async_context(aclosing(chunks)) for chunks in streams]  # type: ignore[type-var]
        seen = [await _take(one, 30), await _take(two, 30)]
        await logs[0].append([event(n, f"k{n}") for n in range(100, 160)])
        for client, events in zip((one, two), seen, strict=True):
            events += await _take(client, 60)
            assert len(events) == len(set(events)) == 90


async def test_an_added_partition_is_read_by_who_reads_already(kafka: str, prefix: str) -> None:
    """A client that stays for days gets what comes to a partition that came meanwhile, from its beginning, once."""
    options = _options(kafka, prefix, partitions=1)
    async with AsyncExitStack() as stack:
        log = await _started(stack, options)
        await log.append([event(n, f"k{n}") for n in range(10)])
        reader = await log.browse("look", [TOPIC], start="latest")
        await add_partitions(options, TOPIC, 2)
        other = await _started(stack, options)
        given = [event(n, f"k{n}") for n in range(100, 140)]
        await other.append(given)
        await reader.consumer._client.force_metadata_update()  # as it does by itself once a minute
        found = await read(reader, 40)
        assert sorted(record.id for record in found) == sorted(entry.id for entry in given)
        assert {record.partition for record in found} == {f"{TOPIC}-0", f"{TOPIC}-1"}


async def test_a_browser_goes_on_behind_what_it_read_when_its_consumer_is_replaced(kafka: str, prefix: str) -> None:
    """As after an outage in which aiokafka gave up: nothing twice, nothing left out."""
    async with AsyncExitStack() as stack:
        log = await _started(stack, _options(kafka, prefix))
        given = [event(n, f"k{n}") for n in range(60)]
        await log.append(given[:40])
        reader = await log.browse("look", [TOPIC], start="earliest")
        found = await read(reader, 25, max_records=25)
        await reader._replace(reader.consumer)
        await log.append(given[40:])
        found += await read(reader, 35)
        assert sorted(record.id for record in found) == sorted(entry.id for entry in given)


async def test_browsing_leaves_no_group_behind(kafka: str, prefix: str) -> None:
    """Kafka keeps nothing of it: the names of clients and scans do not pile up there."""
    async with AsyncExitStack() as stack:
        log = await _started(stack, _options(kafka, prefix))
        await log.append([event(1, "k")])
        reader = await log.browse("look", [TOPIC], start="earliest")
        await reader.seek_to_time(0.0)
        await read(reader, 1)
        await reader.close()
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    groups = await client.list_consumer_groups()
    await client.close()
    assert not [group for group in groups if "look" in group[0]]


async def test_errors_of_a_browser_speak_of_no_group() -> None:
    """Who looks for a group of this name in Kafka would find none."""
    log = KafkaLog(_options("127.0.0.1:9", create_topics=False))
    with pytest.raises(Transient, match=r"^reader look: "):
        await log.browse("look", [TOPIC])


async def test_a_scan_waits_for_a_broker_that_pauses(broker: Cluster) -> None:
    """Records that come late are found; silence is not the end."""
    async with AsyncExitStack() as stack:
        log = await _started(stack, _options(broker.bootstrap))
        for start in range(0, 6000, 500):
            await log.append([event(n, f"k{n}", filling=2000) for n in range(start, start + 500)])
        count = 0
        async for _ in scan(log, "scan.x", [TOPIC], until=time.time() + 1, silence_s=20.0):
            count += 1
            if count == 1:
                broker.node(1).suspend()
                asyncio.get_running_loop().call_later(2.0, broker.node(1).resume)
        assert count == 6000


async def test_a_scan_that_loses_the_broker_is_an_error(broker: Cluster) -> None:
    """It does not end as if it had found all there was."""
    async with AsyncExitStack() as stack:
        log = await _started(stack, replace(_options(broker.bootstrap), partitions=1))
        for start in range(0, 6000, 500):
            await log.append([event(n, f"k{n}", filling=2000) for n in range(start, start + 500)])
        count = 0
        with pytest.raises(Transient):
            async for _ in scan(log, "scan.x", [TOPIC], until=time.time() + 1, silence_s=2.0):
                count += 1
                if count == 1:
                    await asyncio.to_thread(broker.node(1).kill)
        assert count < 6000
