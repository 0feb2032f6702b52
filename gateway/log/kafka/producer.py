"""One producer of aiokafka's: made, opened, closed by force.

What reaches into its private parts stands here and nowhere else; the tests of hung and killed brokers notice when a new
version of aiokafka no longer fits.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer

from gateway.log.kafka.availability import Availability
from gateway.log.kafka.errors import CLIENT_ERRORS, CODEC, KafkaAway, Problem, away
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within


async def open_producer(
    options: KafkaOptions, availability: Availability, *, max_batch_bytes: int, close_s: float
) -> Any:
    """A producer that is connected and has its producer id: idempotent, ``acks=all``; its quotas are reported.

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


async def close_producer(producer: Any, seconds: float) -> None:
    """Close a producer that may have undelivered batches.

    ``stop()`` waits for them for ever; its sender task, cancelled, waits for the requests under way, and cancelled
    again leaves them. Cancelling it first and then a few times is what ends every wait inside (aiokafka 0.14).
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
