"""Taking records out of aiokafka's consumer, one partition at a time, past those whose batches cannot be decoded.

A batch cannot be decoded when its codec is not installed, when it is corrupt on the broker's disk, or when its format
is unknown to the client. aiokafka 0.14 raises then from ``getmany``, and in doing so

* drops what it took out of other partitions in the same call, although their positions have moved: those records would
  never be read;
* never hands out the good records before the batch, when they came with the same fetch.

So each partition is asked by itself. One that fails is read record by record up to the batch, then left alone for a
while and tried again there: another replica may have the batch whole. It is never passed over by itself, as nothing
that was stored may be lost in silence; the other partitions are read meanwhile.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import errors

from gateway.log.kafka.errors import CODEC, UNREADABLE, Problem
from gateway.log.kafka.options import Backoff
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: aiokafka puts number and name of the error before each text.
_OWN_NAME: Final = re.compile(r"^(\[Error \d+\] )?\w+(Error|Exception): ")

Taken = dict[Any, list[Any]]


@dataclass(slots=True)
class _Stuck:
    """A partition with a batch that cannot be decoded.

    Args:
        offset: of the first record that could not be read; None while the good ones before it are still to be read.
        retry_at: monotonic time of the next try.
    """

    offset: int | None = None
    problem: Problem | None = None
    retry_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, last_s=30.0))


class PartitionFetcher:
    """Takes records for one reader.

    Args:
        group: label of the gauge and of log lines.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._stuck: dict[Any, _Stuck] = {}
        #: Problem by partition (topic and number, in Kafka's names), for ``/readyz`` and the console.
        self.problems: dict[str, Problem] = {}
        #: Unix seconds since when there are problems.
        self.since = 0.0

    async def take(self, consumer: Any, active: Collection[Any], *, max_records: int, wait_s: float) -> Taken:
        """Return records of these partitions, at most ``max_records``; empty when none came within ``wait_s`` seconds.

        Raises:
            KafkaError: trouble of the whole consumer, such as a right that was withdrawn.
        """
        now = time.monotonic()
        wanted = set(active)
        if self._stuck:
            self._forget(consumer.assignment())
            wanted -= {tp for tp, stuck in self._stuck.items() if stuck.retry_at > now}
            due_s = min((stuck.retry_at - now for stuck in self._stuck.values()), default=wait_s)
            wait_s = min(wait_s, max(due_s, 0.05))
        taken = await self._drain(consumer, wanted, max_records)
        if not taken and wait_s > 0:
            await _wait_for_data(consumer, wait_s)
            taken = await self._drain(consumer, wanted, max_records)
        return taken

    def close(self) -> None:
        """Remove the gauge of a closed reader. May be called twice."""
        self._forget(())

    async def _drain(self, consumer: Any, wanted: Collection[Any], room: int) -> Taken:
        """What is fetched already. Nothing here waits for the network, so an error is one of decoding."""
        taken: Taken = {}
        for tp in [tp for tp in consumer._fetcher._records if tp in wanted]:
            if room <= 0:
                break
            try:
                records = await self._of(consumer, tp, room)
            except errors.KafkaError:
                if taken:
                    break  # it is raised again by the next call
                raise
            if records:
                taken[tp] = records
                room -= len(records)
        return taken

    async def _of(self, consumer: Any, tp: Any, room: int) -> list[Any]:
        stuck = self._stuck.get(tp)
        if stuck is None:
            try:
                return await _next(consumer, tp, room)
            except Exception as exc:
                _raise_others(exc)
                self._stuck[tp] = _Stuck()
            await _next(consumer, tp, 1)  # drops what is left of the failed fetch; it is fetched again
            return []
        records: list[Any] = []
        try:
            while len(records) < room and (more := await _next(consumer, tp, 1)):
                records += more
        except Exception as exc:
            _raise_others(exc)
            with suppress(errors.IllegalStateError):  # taken away meanwhile: its next owner meets the batch
                self._note(tp, stuck, await consumer.position(tp), exc)
                await _next(consumer, tp, 1)
        else:
            if records and (stuck.offset is None or records[-1].offset >= stuck.offset):
                self._solved(tp)
        return records

    def _note(self, tp: Any, stuck: _Stuck, offset: int, exc: Exception) -> None:
        problem = problem_of(exc, offset)
        stuck.retry_at = time.monotonic() + stuck.backoff.next_s()
        if problem != stuck.problem:
            stuck.offset, stuck.problem = offset, problem
            _log.error(
                "kafka.unreadable",
                group=self._group,
                partition=_name(tp),
                offset=offset,
                word=problem.word,
                reason=problem.text,
                advice=problem.advice,
            )
            self._show()

    def _solved(self, tp: Any) -> None:
        stuck = self._stuck.pop(tp)
        if stuck.offset is not None:
            _log.info("kafka.readable", group=self._group, partition=_name(tp), offset=stuck.offset)
            self._show()

    def _forget(self, assigned: Collection[Any]) -> None:
        """Partitions that went to other members are theirs to report."""
        gone = [tp for tp in self._stuck if tp not in assigned]
        for tp in gone:
            del self._stuck[tp]
        if gone:
            self._show()

    def _show(self) -> None:
        self.since = self.since if self.problems else time.time()
        self.problems = {_name(tp): stuck.problem for tp, stuck in self._stuck.items() if stuck.problem is not None}
        METRICS.gauge("gateway_kafka_unreadable_partitions").labels(self._group).set(len(self.problems))


def problem_of(exc: Exception, offset: int) -> Problem:
    """Return why the batch at this offset cannot be decoded, without its bytes."""
    if isinstance(exc, errors.UnsupportedCodecError):
        return Problem(CODEC, f"unreadable from offset {offset} on: its codec cannot be decoded here ({_text(exc)})")
    return Problem(
        UNREADABLE,
        f"from offset {offset} on the record batch is corrupt, or of an unknown format ({_text(exc)})",
    )


def _text(exc: Exception) -> str:
    return _OWN_NAME.sub("", " ".join(str(exc).split()))[:200] or type(exc).__name__


def _raise_others(exc: Exception) -> None:
    """Raise again what is no error of decoding: of rights, of the group, and of a consumer that was stopped."""
    decoding = (errors.UnsupportedCodecError, errors.CorruptRecordException)
    # ConsumerStoppedError is no KafkaError in aiokafka 0.14.
    if isinstance(exc, (errors.KafkaError, errors.ConsumerStoppedError)) and not isinstance(exc, decoding):
        raise exc


async def _next(consumer: Any, tp: Any, count: int) -> list[Any]:
    found: list[Any] = (await consumer.getmany(tp, timeout_ms=0, max_records=count)).get(tp, [])
    return found


async def _wait_for_data(consumer: Any, wait_s: float) -> None:
    """Wait until a fetch brought something, at most so long. aiokafka has no call that waits and takes nothing.

    Raises:
        KafkaError: the group's trouble, such as a right that is missing.
    """
    waiter = consumer._fetcher._create_fetch_waiter()
    done, _ = await asyncio.wait([waiter], timeout=wait_s)
    if done:
        waiter.result()
    else:
        waiter.cancel()


def _name(tp: Any) -> str:
    return f"{tp.topic}-{tp.partition}"
