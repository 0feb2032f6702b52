"""One producer of aiokafka: created, opened, refused, rewound, closed by force.

Only this module uses its private parts; the tests of hung and killed brokers, and of topics that cannot be written,
notice a new version of aiokafka that is incompatible.

Refusals. aiokafka 0.14 retries a batch itself after some errors, and sends nothing meanwhile to the broker that sent
the error: 0.1 s and new metadata for each answer with such a batch. For a topic that is missing, or has too few
replicas in sync, that is each request, and all topics wait. So such a batch is returned at once (:class:`Refused`), as
is one with an error that aiokafka considers final; its owner decides when to send it again.

Numbers. aiokafka gives a batch its numbers when it is first sent. A returned batch has used them, and the broker would
refuse the next one as out of order. So they are taken back (:func:`rewind`): the next batch of the partition has them.
The broker has not stored the batch, so it accepts the numbers with any other batch; but if an earlier request with the
same batch had no answer, it may have stored that one. Then the batch is sent again unchanged, and the broker recognises
it by its numbers (KIP-98: same first and last number).
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.producer.sender import SendProduceReqHandler

from gateway.log.kafka.availability import Availability
from gateway.log.kafka.errors import CLIENT_ERRORS, CODEC, TOO_LARGE, KafkaAway, Problem, away
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within

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


class Refused(errors.KafkaError):  # type: ignore[misc]  # aiokafka has no types
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


async def open_producer(
    options: KafkaOptions, availability: Availability, *, max_batch_bytes: int, close_s: float
) -> Any:
    """Return a connected producer with a producer id: idempotent, ``acks=all``; its quotas are reported.

    Raises:
        KafkaAway: Kafka cannot be reached within ``OPEN_S``, or refuses; or a library for the codec is missing.
    """
    try:
        producer = AIOKafkaProducer(
            **options.client(),
            acks="all",
            enable_idempotence=True,
            max_batch_size=max_batch_bytes,
            compression_type=options.compression,
        )
    except RuntimeError as exc:
        problem = Problem(CODEC, " ".join(str(exc).split()))
        raise KafkaAway(f"producer: {problem}", problem) from exc
    # aiokafka fails a batch whose partition has no leader for longer than the request time-out, also an idempotent
    # one, and so makes a repeat of it (a broker that hung is fenced and leaderless for a moment). It may wait.
    producer._message_accumulator._batch_ttl = math.inf
    availability.watch(producer.client.health)
    sender = producer._sender

    async def send(node_id: int, batches: Any) -> None:
        await _ProduceHandler(sender, batches).do(node_id)
        sender._in_flight.remove(node_id)
        sender._muted_partitions.difference_update(batches)

    sender._send_produce_req = send
    try:
        async with asyncio.timeout(OPEN_S):
            await producer.start()
    except CLIENT_ERRORS as exc:
        await within(close_s, producer.stop())
        raise away(exc, "producer", producer.client) from exc
    except BaseException:
        await within(close_s, producer.stop())
        raise
    return producer


def rewind(producer: Any, kafka_topic: str, partition: int, count: int) -> None:
    """Take back the numbers of a partition's newest batch, which was refused.

    Args:
        producer: aiokafka's.
        kafka_topic: name in Kafka.
        partition: its number.
        count: number of records in the batch.
    """
    numbers = producer._txn_manager._sequence_numbers
    place = TopicPartition(kafka_topic, partition)
    number = numbers[place] - count
    numbers[place] = number if number >= -(2**31) else number + 2**32


async def close_producer(producer: Any, seconds: float) -> None:
    """Close a producer that may have undelivered batches, within so many seconds.

    ``stop()`` waits for them for ever; its sender task, when cancelled, waits for the requests in flight, and when
    cancelled again leaves them. Cancelling it first and then a few times ends every wait inside (aiokafka 0.14).
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
