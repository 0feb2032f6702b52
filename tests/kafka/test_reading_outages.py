"""Readers while Kafka is away: an error that passes, a state, and an end in time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.errors import NotNow, Transient
from gateway.log import Entry, Record
from gateway.log.kafka import CursorPolicy, KafkaLog, KafkaOptions, ReaderPolicy
from tests.broker.cluster import Cluster
from tests.kafka.joined import commit, joined
from tests.kafka.traffic import TOPIC, event
from tests.log.contract import read
from tests.waiting import pause

pytestmark = pytest.mark.kafka
_QUICK = ReaderPolicy(session_s=6.0, beat_s=0.2, probe_s=0.5, request_s=5.0)
_CURSORS = CursorPolicy(interval_s=0.1)


def _options(bootstrap: str, prefix: str = "") -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=6)


async def test_a_member_lives_through_a_broker_that_is_killed(broker: Cluster) -> None:
    """An outage is a Transient error and a state; afterwards the same reader goes on behind what is committed."""
    log = KafkaLog(_options(broker.bootstrap), reader_policy=_QUICK, cursor_policy=_CURSORS, append_s=2.0)
    await log.start()
    reader = await joined(log, [TOPIC])
    await log.append([event(n, f"key-{n}") for n in range(50)])
    while sum(log.cursors.committed("gateway.billing").values()) < 50:
        commit(log, await reader.fetch(max_records=50, wait_s=1.0))
    await log.cursors.flush()
    await asyncio.to_thread(broker.node(1).kill)
    with pytest.raises(Transient):
        async with asyncio.timeout(30):
            while True:
                await reader.fetch(max_records=10, wait_s=0.2)
    assert not reader.state.is_ready
    with pytest.raises(NotNow):
        await log.append([event(50, "key-50")])
    await asyncio.to_thread(broker.node(1).start)
    await log.append([event(51, "key-51")])
    found: list[Record] = []
    async with asyncio.timeout(60):
        while not any(record.key == "key-51" for record in found):
            try:
                found += await reader.fetch(max_records=10, wait_s=0.5)
            except Transient:
                await pause(0.1, "a reader that tries again")
    assert {record.key for record in found} <= {"key-50", "key-51"}
    assert reader.state.is_ready
    await log.stop()


async def test_close_ends_in_time_while_kafka_is_away(broker: Cluster) -> None:
    """A reader, positions and a log close within their time whatever Kafka does."""
    log = KafkaLog(_options(broker.bootstrap), reader_policy=_QUICK, cursor_policy=_CURSORS)
    await log.start()
    reader = await joined(log, [TOPIC])
    await log.append([event(1, "k")])
    while not (batch := await reader.fetch(max_records=1, wait_s=1.0)):
        pass
    await asyncio.to_thread(broker.node(1).kill)
    commit(log, batch)
    started = time.monotonic()
    await log.stop()
    assert time.monotonic() - started < 15
    with pytest.raises(Transient):
        await reader.fetch(max_records=1, wait_s=0)


async def test_no_broker_at_all_is_a_transient_error() -> None:
    """Joining without a broker raises within its time, and can be tried again."""
    log = KafkaLog(KafkaOptions(("127.0.0.1:9",)))
    for _ in range(2):
        with pytest.raises(Transient, match=r"127\.0\.0\.1"):
            await joined(log, [TOPIC])
    await log.stop()


async def test_seek_to_time_passes_over_nothing_that_comes_meanwhile(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is appended between the questions of one seek is read, whichever of them it falls behind."""
    log = KafkaLog(_options(kafka, prefix), reader_policy=_QUICK)
    await log.start()
    reader = await log.browse("look", [TOPIC], start="latest")
    given: list[Entry] = []
    ask = reader._ask

    async def ask_and_append(question: Any) -> Any:
        answer = await ask(question)
        given.append(event(len(given), "k"))
        await log.append(given[-1:])
        return answer

    await reader.fetch(max_records=1, wait_s=0.1)
    since = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(reader, "_ask", ask_and_append)
        await reader.seek_to_time(since)
    assert len(given) == 2
    assert {record.id for record in await read(reader, len(given))} == {entry.id for entry in given}
    await log.stop()
