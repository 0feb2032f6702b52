"""All changes to aiokafka 0.14, but those of a group's member (:mod:`.membership`), and the private names they need.

Other modules use private names only to reach a consumer's client, coordinator, subscription and metadata. Where each
change was reported, and what ends it (no version did when 0.14 was the newest; a patch is in ``deploy/docs/upstream``):

=====================================  ===============================  ================================================
:func:`patch_clients`: no creation     not reported; a patch            an option ``allow.auto.create.topics`` (KIP-361)
:func:`patch_clients`: failures        not reported                     connection errors that state their cause
:func:`patch_clients`: leaks           aio-libs/aiokafka#715; a patch   a cancelled start that closes its connections
:func:`patch_clients`: quotas          not reported                     a client that observes ``throttle_time_ms``
:func:`.outage.limit_logs`             aio-libs/aiokafka#830, #1020     fewer lines while Kafka is unavailable
:func:`fetch_placed_only`              not reported                     no look-up of positions that are not wanted
:func:`next_records`                   aio-libs/aiokafka#321            an error that costs one partition only
:func:`end_consumer`                   aio-libs/aiokafka#773            a ``stop()`` that has a limit
:func:`close_producer`                 aio-libs/aiokafka#1101           a ``stop()`` that has a limit
:func:`return_refusals`                aio-libs/aiokafka#1017           numbers that a refused batch gives back
:func:`.producer.is_reachable`         aio-libs/aiokafka#456            a client that bootstraps again (KIP-899)
:class:`.membership.Membership`        not reported                     all of static membership (KIP-345, KIP-814)
:mod:`.requests`                       not reported                     these versions of the requests
=====================================  ===============================  ================================================

The tests of hung and killed brokers, and of topics that cannot be written, notice an incompatible version of aiokafka.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet

import aiokafka.admin.client
import aiokafka.client
import aiokafka.consumer.consumer
import aiokafka.producer.producer
from aiokafka import TopicPartition, errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.sender import SendProduceReqHandler
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.protocol.metadata import MetadataRequest

from gateway.clock import within
from gateway.log.kafka.errors import CLIENT_ERRORS, TOO_LARGE
from gateway.log.kafka.health import ClientHealth

# -- clients ------------------------------------------------------------------------------------------------------


class _WithoutCreation(MetadataRequest):  # type: ignore[misc]  # aiokafka has no types
    """A request that creates no topic at brokers with ``auto.create.topics.enable``; aiokafka's always does.

    A mistyped name in ``gateway tail`` or in a subscriber would create one. Only :func:`.topics.create` creates topics.
    """

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


class ObservedClient(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client with a record of its failures and refusals, which aiokafka hides or leaves out.

    It drops the reason why a connection could not be made, and retries silently what a broker refuses. A start that is
    cancelled leaks a connection.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.health = ClientHealth()
        self._made: WeakSet[_Connection] = WeakSet()

    async def bootstrap(self) -> None:
        """See :class:`AIOKafkaClient`."""
        with _making(self):
            await super().bootstrap()

    async def close(self) -> None:
        """See :class:`AIOKafkaClient`. It closes leaked connections too."""
        try:
            await super().close()
        finally:
            for connection in self._made:
                connection.close()

    async def _get_conn(self, node_id: Any, **how: Any) -> Any:
        with _making(self):
            return await super()._get_conn(node_id, **how)

    async def connect(self, host: str, port: int, **arguments: Any) -> _Connection:
        """Return a new connection."""
        connection = _Connection(host, port, self.health, **arguments)
        self._made.add(connection)
        try:
            await connection.connect()
        except (OSError, TimeoutError, errors.KafkaError) as exc:
            self.health.failed(f"{host}:{port}", exc)
            raise
        self.health.connected(f"{host}:{port}")
        return connection


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    """A connection that waits while a quota mutes it, as Kafka's own client does.

    A broker whose quota is exceeded answers at once, then reads nothing from the connection for ``throttle_time_ms``
    (KIP-219). A request that is sent meanwhile times out, and Kafka appears to be unavailable.
    """

    def __init__(self, host: str, port: int, health: ClientHealth, **arguments: Any) -> None:
        super().__init__(host, port, **arguments)
        self._health = health
        self._muted_until = 0.0

    async def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request as soon as the broker reads it; return the response."""
        while (muted_s := self._muted_until - time.monotonic()) > 0:
            done, _ = await asyncio.wait([self._closed_fut], timeout=muted_s)
            if done:
                break  # the next line raises because it is closed
        response = await super().send(request, expect_response)
        if throttled_ms := getattr(response, "throttle_time_ms", 0):
            self._muted_until = time.monotonic() + throttled_ms / 1000
            self._health.throttled(throttled_ms / 1000)
        self._health.answered(request, response)
        return response


#: The client that creates a connection.
_MAKER: ContextVar[ObservedClient] = ContextVar("kafka_client")


@contextmanager
def _making(client: ObservedClient) -> Iterator[None]:
    token = _MAKER.set(client)
    try:
        yield
    finally:
        _MAKER.reset(token)


async def _create_conn(host: str, port: int, **arguments: Any) -> _Connection:
    return await _MAKER.get().connect(host, port, **arguments)  # aiokafka's function does not know the client


def patch_clients() -> None:
    """Make later clients of this process observed ones, which create no topics. May be called again.

    aiokafka's producer, consumer and admin client create their clients and requests themselves, by the names in their
    modules.
    """
    client: Any = aiokafka.client
    admin: Any = aiokafka.admin.client
    modules: tuple[Any, ...] = (admin, aiokafka.consumer.consumer, aiokafka.producer.producer)
    client.create_conn = _create_conn
    client.MetadataRequest = admin.MetadataRequest = _WithoutCreation
    for module in modules:
        module.AIOKafkaClient = ObservedClient


# -- consumers ----------------------------------------------------------------------------------------------------


class _Placed:
    """An assignment of aiokafka, without partitions that have no position."""

    def __init__(self, assignment: Any) -> None:
        self.state_value = assignment.state_value
        self.tps = [tp for tp in assignment.tps if assignment.state_value(tp).has_valid_position]


def fetch_placed_only(consumer: Any) -> None:
    """Make a started consumer fetch only partitions with a position (``seek``): the gateway decides where they begin.

    aiokafka would request the group's position of each other one, get none, and raise ``NoOffsetForPartitionError``
    some time after the partition has been placed.
    """
    fetcher = consumer._fetcher
    actions = fetcher._get_actions_per_node
    fetcher._get_actions_per_node = lambda assignment: actions(_Placed(assignment))


def state_of(consumer: Any, tp: Any) -> Any:
    """Return aiokafka's state of an assigned partition; None if it is not assigned."""
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription is not None else None
    return assignment.state_value(tp) if assignment is not None else None


def fetched(consumer: Any) -> list[Any]:
    """Return the partitions of which records, or errors, were fetched and not taken."""
    return list(consumer._fetcher._records)


async def next_records(consumer: Any, tp: Any, count: int) -> list[Any]:
    """Return fetched records of one partition. Nothing here waits for the network, so an error is one of decoding.

    aiokafka's ``getmany`` of several partitions, when a batch of one cannot be decoded, drops what it took out of the
    others, although their positions have moved; and it never returns the good records before the batch.
    """
    found: list[Any] = (await consumer.getmany(tp, timeout_ms=0, max_records=count)).get(tp, [])
    return found


async def wait_for_records(consumer: Any, wait_s: float) -> None:
    """Wait until a fetch brought something, at most so long.

    Raises:
        KafkaError: the group's trouble, such as a right that is missing.
    """
    waiter = consumer._fetcher._create_fetch_waiter()
    done, _ = await asyncio.wait([waiter], timeout=wait_s)
    if done:
        waiter.result()
    else:
        waiter.cancel()


async def end_consumer(consumer: Any, stop_s: float, cut_s: float) -> None:
    """Stop a consumer, started or not; raises nothing.

    aiokafka's ``stop()`` waits for the end of a rebalance, which may take as long as other members settle. A cancelled
    stop leaves its heartbeats running: a member that does not answer, for which its group waits.

    Args:
        stop_s: for aiokafka's own stop.
        cut_s: for the remaining work if that stop did not end: half of it to leave the group, half to close
            connections. A member whose request to leave has no answer by then leaves when its session is over.
    """
    if await within(stop_s, consumer.stop()):
        return
    if isinstance(consumer._coordinator, GroupCoordinator):
        await within(cut_s / 2, _leave(consumer._coordinator, consumer._client))
    if consumer._fetcher is not None:
        await within(cut_s / 4, consumer._fetcher.close())
    await within(cut_s / 4, consumer._client.close())


async def _leave(coordinator: Any, client: Any) -> None:
    """Stop heartbeats and leave the group."""
    coordinator._coordination_task.cancel()
    await asyncio.wait([coordinator._coordination_task])
    await coordinator._stop_heartbeat_task()
    await coordinator._stop_commit_offsets_refresh_task()
    if coordinator.member_id and coordinator.coordinator_id is not None:
        # By the other connection: on the coordinator's own a request to join may wait for its answer, and a broker
        # takes one request of a connection at a time. Nor by aiokafka's own good-bye, which spares the first join.
        good_bye = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
        await client.send(coordinator.coordinator_id, good_bye)


# -- producers ----------------------------------------------------------------------------------------------------

#: Answers of a broker that has stored nothing.
_BEFORE_STORING: Final = (
    errors.TopicAuthorizationFailedError,
    errors.UnknownTopicOrPartitionError,
    errors.InvalidTopicError,
    errors.NotEnoughReplicasError,
    errors.PolicyViolationError,
    errors.InvalidTimestampError,
    errors.UnsupportedForMessageFormatError,
    *TOO_LARGE,
)
#: Errors of the producer itself, not of a topic: only another producer can continue after one of these.
_OF_THE_PRODUCER: Final = (
    errors.OutOfOrderSequenceNumber,
    errors.InvalidProducerEpoch,
    errors.UnknownProducerId,
    errors.InvalidProducerIdMapping,
    errors.ClusterAuthorizationFailedError,
)
#: Errors that aiokafka retries; the gateway retries them instead, so that no other topic waits.
_OF_A_TOPIC: Final = (
    errors.UnknownTopicOrPartitionError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
)
#: INVALID_RECORD, which aiokafka does not know: a compacted topic without keys, a wrong record.
_INVALID_RECORD: Final = 87


class Refused(errors.KafkaError):  # type: ignore[misc]
    """A broker answered that it did not write one batch; other batches and the producer are as before.

    Args:
        error: aiokafka's error, with the broker's own text if it has one.
        is_certain: the batch is not stored; otherwise an earlier request may have stored all of it.
    """

    def __init__(self, error: Any, *, is_certain: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_certain = is_certain


class _ProduceHandler(SendProduceReqHandler):  # type: ignore[misc]
    """Returns batches whose error concerns only their topic."""

    _response: Any = None

    def handle_response(self, response: Any) -> Any:
        self._response = response
        return super().handle_response(response)

    def _can_retry(self, error: Any, batch: Any) -> bool:
        is_ours = self._response is not None and not isinstance(error, _OF_THE_PRODUCER)
        if not is_ours or (error.retriable and not isinstance(error, _OF_A_TOPIC)):
            return bool(super()._can_retry(error, batch))
        if getattr(error, "invalid_metadata", False):
            self._client.force_metadata_update()
        code, said = _answer(self._response, batch.tp)
        is_certain = batch.retry_count == 1 and (isinstance(error, _BEFORE_STORING) or code == _INVALID_RECORD)
        batch.failure(Refused(_explained(error, code, said, batch.tp.topic), is_certain=is_certain))
        return False


def _answer(response: Any, place: Any) -> tuple[int, str]:
    """Return the error's number for a partition, and the broker's words on it; empty where it has none."""
    answers = dict(response.topics)
    (answer,) = (one for one in answers[place.topic] if one[0] == place.partition)
    return answer[1], (answer[-1] or "") if response.API_VERSION >= 8 else ""


def _explained(error: Any, code: int, said: str, topic: str) -> Any:
    """Return the error with the broker's words in it."""
    if isinstance(error, errors.UnknownError):
        return errors.UnknownError(f"error {code}: {said}" if said else f"error {code}")
    words = topic if isinstance(error, errors.TopicAuthorizationFailedError) else said
    return type(error)(words) if words else type(error)()


def return_refusals(producer: Any) -> None:
    """Make a new producer return refused batches at once (:class:`Refused`), and let batches wait for a leader.

    aiokafka retries a batch itself after some errors, and sends nothing to the broker for the 0.1 s before: all topics
    wait for one that is missing, or has too few replicas in sync. And it fails a batch, also an idempotent one, whose
    partition has no leader for longer than the request time-out (a broker that hung is fenced and leaderless for a
    moment), which makes a repeat of it.
    """
    producer._message_accumulator._batch_ttl = math.inf
    sender = producer._sender

    async def send(node_id: int, batches: Any) -> None:
        await _ProduceHandler(sender, batches).do(node_id)
        sender._in_flight.remove(node_id)
        sender._muted_partitions.difference_update(batches)

    sender._send_produce_req = send


def rewind(producer: Any, kafka_topic: str, partition: int, count: int) -> None:
    """Restore the numbers of a partition's newest batch, which was refused: the next batch has them.

    aiokafka gives a batch its numbers when it is first sent, and the broker would refuse the next one as out of order.
    The broker has not stored the batch, so it accepts the numbers with any other batch; but if an earlier request with
    the same batch had no answer, it may have stored that one. Then the batch is sent again unchanged, and the broker
    recognises it by its numbers (KIP-98: same first and last number).

    Args:
        kafka_topic: name in Kafka.
        partition: its number.
        count: number of records in the batch.
    """
    numbers = producer._txn_manager._sequence_numbers
    place = TopicPartition(kafka_topic, partition)
    number = numbers[place] - count
    numbers[place] = number if number >= -(2**31) else number + 2**32


def leaderless(producer: Any, kafka_topic: str) -> list[int]:
    """Return the partitions of a topic that have no leader, as far as a producer knows."""
    known = producer.client.cluster._partitions.get(kafka_topic, {})
    return sorted(number for number, about in known.items() if about.leader == -1)


async def close_producer(producer: Any, seconds: float) -> None:
    """Close a producer that may have undelivered batches, within so many seconds.

    ``stop()`` waits for them for ever; its sender task, when cancelled, waits for the requests in flight, and when
    cancelled again leaves them. Cancelling it first and then a few times ends every wait inside.
    """
    sender = producer._sender.sender_task
    closing = asyncio.ensure_future(producer.stop())
    try:
        for wait_s in (seconds / 2, *[seconds / 8] * 4):
            await asyncio.wait([closing], timeout=wait_s)
            if closing.done():
                break
            if sender is not None and not sender.done():
                sender.cancel()
    finally:
        if closing.done():
            with suppress(*CLIENT_ERRORS, asyncio.CancelledError):
                closing.result()
        closing.cancel()
