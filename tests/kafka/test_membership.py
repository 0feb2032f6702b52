"""Kafka no longer knows a member: whether another process has its id is looked at, and only a fact is reported."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import structlog
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest

from gateway.log import Record
from gateway.log.kafka import KafkaLog, membership, topics
from gateway.log.kafka.aiokafka_workarounds import fetched
from gateway.log.kafka.errors import KafkaAway
from gateway.log.kafka.membership import Assignor, process_of
from tests.kafka.member_process import GROUP, SESSION_S, options
from tests.kafka.test_group_reader import Process
from tests.kafka.traffic import TOPIC, event
from tests.waiting import pause, until

pytestmark = pytest.mark.kafka

_FENCED = "kafka.instance_fenced"


class Member:
    """A process that reads (:mod:`tests.kafka.member_process`), and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        self._more = asyncio.Condition()

    async def listen(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            with suppress(json.JSONDecodeError):
                self.said.append(json.loads(line))
            async with self._more:
                self._more.notify_all()

    def events(self) -> list[str]:
        return [line["event"] for line in self.said]

    async def until(self, event: str, times: int = 1) -> None:
        async with asyncio.timeout(90), self._more:
            await self._more.wait_for(lambda: self.events().count(event) >= times)


@asynccontextmanager
async def _member(bootstrap: str, prefix: str, instance: str) -> AsyncIterator[Member]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kafka.member_process", bootstrap, prefix, instance, stderr=asyncio.subprocess.PIPE
    )
    member = Member(process)
    listening = asyncio.create_task(member.listen())
    try:
        yield member
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening


@asynccontextmanager
async def _reading(bootstrap: str, prefix: str) -> AsyncIterator[Process]:
    """A reader in this process that has all partitions."""
    process = Process(options(bootstrap, prefix, "one"), [])
    await process.start()
    await until(lambda: len(process.held) == 6)
    try:
        yield process
    finally:
        await process.stop()


def _coordinator(process: Process) -> Any:
    assert process.reader is not None
    return process.reader.consumer._coordinator


async def _ask(log: KafkaLog, request: Any) -> Any:
    """Send a request to the group's coordinator over connections that are not the member's."""
    offsets = log._offsets
    return await offsets._of_coordinator(await offsets.client(), GROUP, request)


@pytest.fixture
def _is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for another process to go waits longer than any test."""
    monkeypatch.setattr(membership, "_LOOK_S", 600.0)


async def test_a_second_process_is_reported_when_it_is_there(kafka: str, prefix: str) -> None:
    """Once, with advice; the older one reads nothing, and goes on when the newer one has gone."""
    with structlog.testing.capture_logs() as lines:
        async with _reading(kafka, prefix) as process:
            async with _member(kafka, prefix, "one") as second:
                await second.until("assigned")
                await until(lambda: not process.held)
                assert process.reader is not None
                await until(lambda: "kafka.instance_id one" in process.reader.state.reason)  # type: ignore[union-attr]
                assert second.events().count("revoked") == 0
            await until(lambda: len(process.held) == 6)
            assert _FENCED not in second.events()
    assert [line["log_level"] for line in lines if line["event"] == _FENCED] == ["error"]


async def test_a_process_that_was_suspended_joins_again_and_says_nothing_of_another(kafka: str, prefix: str) -> None:
    """For longer than its session, while nobody else was there."""
    async with _member(kafka, prefix, "one") as member:
        await member.until("assigned")
        member.process.send_signal(signal.SIGSTOP)
        await pause(SESSION_S + 3, "the time itself is what the promise is about")
        member.process.send_signal(signal.SIGCONT)
        await member.until("assigned", 2)
        assert _FENCED not in member.events()


@pytest.mark.usefixtures("_is_patient")
async def test_a_member_that_kafka_has_dropped_early_joins_again_at_once(kafka: str, prefix: str) -> None:
    """Its session is not over, as after a rebalance that it was too slow for: no fence, and no wait for anybody."""
    with structlog.testing.capture_logs() as lines:
        async with _reading(kafka, prefix) as process:
            coordinator = _coordinator(process)
            before = coordinator.member_id
            await _ask(process.log, LeaveGroupRequest(coordinator.group_id, before))
            await until(lambda: [kind for kind, _ in process.calls] == ["assigned", "revoked", "assigned"])
            assert _coordinator(process) is coordinator
            assert coordinator.member_id != before
    assert _FENCED not in [line["event"] for line in lines]


@pytest.mark.usefixtures("_is_patient")
async def test_a_late_join_of_our_own_is_no_other_process(kafka: str, prefix: str) -> None:
    """A request that a broker gets to after its connection was given up takes our id: by the same process."""
    with structlog.testing.capture_logs() as lines:
        async with _reading(kafka, prefix) as process:
            await _ask(process.log, _join(process, process.log.process))
            await until(lambda: [kind for kind, _ in process.calls] == ["assigned", "revoked", "assigned"])
    assert _FENCED not in [line["event"] for line in lines]


@pytest.mark.usefixtures("_is_patient")
async def test_the_same_join_of_another_process_is_one(kafka: str, prefix: str) -> None:
    """An answer to a heartbeat is all that the older member gets, whoever has taken its id."""
    with structlog.testing.capture_logs() as lines:
        async with _reading(kafka, prefix) as process:
            await _ask(process.log, _join(process, "another"))
            await until(lambda: not process.held)
    assert [line["event"] for line in lines].count(_FENCED) == 1


@pytest.mark.usefixtures("_is_patient")
async def test_it_does_not_join_while_kafka_does_not_say_who_has_the_id(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer is not "nobody": neither a failed question nor a group that assigns its partitions."""
    asked: list[str] = []
    with structlog.testing.capture_logs() as lines:
        async with _reading(kafka, prefix) as process:
            offsets = process.log._offsets
            members = offsets.members

            async def late(group: str) -> dict[str, bytes]:
                asked.append(group)
                if len(asked) <= 3:
                    raise KafkaAway("no answer")
                found = await members(group)
                return found if len(asked) > 6 else dict.fromkeys(found, b"")

            monkeypatch.setattr(offsets, "members", late)
            await _ask(process.log, _join(process, "another"))
            await until(lambda: not process.held)
    assert len(asked) == 7
    assert [line["event"] for line in lines].count(_FENCED) == 1


async def test_a_process_that_was_suspended_makes_way_for_the_one_that_has_its_id(kafka: str, prefix: str) -> None:
    """Its lease is over, so it joins anew, as a member without a past: but not before it has looked."""
    async with _member(kafka, prefix, "one") as first:
        await first.until("assigned")
        first.process.send_signal(signal.SIGSTOP)
        async with _member(kafka, prefix, "one") as second:
            await second.until("assigned")
            await pause(SESSION_S, "the time itself is what the promise is about")
            first.process.send_signal(signal.SIGCONT)
            await first.until(_FENCED)
            await first.until("revoked")
            assert "revoked" not in second.events()
            assert _FENCED not in second.events()
        await first.until("assigned", 2)


def _join(process: Process, name: str) -> JoinGroupRequest:
    coordinator = _coordinator(process)
    said = Assignor(name).metadata([process.log.options.kafka_name(TOPIC)]).encode()
    return JoinGroupRequest(coordinator.group_id, 6000, 8000, "", "one", "consumer", [(Assignor.name, said)])


async def test_nothing_is_certain_while_kafka_does_not_know_us(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt begins while it is looked who has our id: the partitions may be somebody else's."""
    is_asked, may_answer = asyncio.Event(), asyncio.Event()
    async with _reading(kafka, prefix) as process:
        assert process.reader is not None
        offsets = process.log._offsets
        members = offsets.members

        async def slow(group: str) -> dict[str, bytes]:
            is_asked.set()
            await may_answer.wait()
            return await members(group)

        monkeypatch.setattr(offsets, "members", slow)
        assert process.reader.is_certain()
        coordinator = _coordinator(process)
        await _ask(process.log, LeaveGroupRequest(coordinator.group_id, coordinator.member_id))
        await is_asked.wait()
        assert not process.reader.is_certain()
        may_answer.set()
        await until(process.reader.is_certain)


@pytest.mark.parametrize("said", [b"", b"\x00", b"\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"])
def test_what_other_clients_say_names_no_process(said: bytes) -> None:
    """None, too little, and nothing of its own: what is not ours is read without an error."""
    assert process_of(said) == ""


def test_a_subscription_names_its_process() -> None:
    """Also after a new assignment was asked for."""
    assignor = Assignor("p-1")
    assignor.number = 12
    assert process_of(assignor.metadata(["a", "b"]).encode()) == "p-1"


async def test_partitions_that_are_not_placed_yet_cost_nothing(kafka: str, prefix: str) -> None:
    """aiokafka asks for no position of them and raises nothing, however long their owner takes."""
    arrived: list[Record] = []
    process = Process(options(kafka, prefix, "one"), arrived)
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(partitions: Collection[str]) -> Mapping[str, int]:
        is_asked.set()
        await may_answer.wait()
        return await Process.on_assigned(process, partitions)

    process.on_assigned = slow  # type: ignore[method-assign]
    await topics.create(process.log.options, [TOPIC])
    await process.start()
    await process.log.append([event(number, f"key-{number}") for number in range(30)])
    await is_asked.wait()
    assert process.reader is not None
    consumer = process.reader.consumer
    assert await consumer.getmany(timeout_ms=1500) == {}
    may_answer.set()
    await until(lambda: len(arrived) == 30)
    assert process.reader.consumer is consumer
    assert process.troubles == []
    await process.stop()


async def test_a_consumer_that_is_stopped_while_it_reads_makes_nothing_unreadable(kafka: str, prefix: str) -> None:
    """What it had fetched is read again by the next one; the reader goes on."""
    arrived: list[Record] = []
    process = Process(options(kafka, prefix, "one"), arrived)
    await process.start()
    await process.log.append([event(1, "key")])
    await until(lambda: arrived)
    await process.halt()
    await process.log.append([event(2, "key")])
    assert process.reader is not None
    consumer = process.reader.consumer
    await until(lambda: fetched(consumer))
    await consumer.stop()
    with structlog.testing.capture_logs() as lines:
        batch = await process.reader.fetch(max_records=50, wait_s=0.2)
    assert not batch
    assert not batch.gaps
    assert "kafka.unreadable" not in [line["event"] for line in lines]
    await process.log.stop()
