"""Takes records out of aiokafka's consumer, one partition at a time, past those whose batches cannot be decoded.

A batch cannot be decoded when its codec is not installed, when it is corrupt on the broker's disk, or when its format
is unknown to the client. Its partition is read record by record up to the batch, then left alone for a while and tried
again there: another replica may have the batch whole. It is never passed over by itself, as nothing that was stored may
be lost in silence; the other partitions are read meanwhile.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import errors

from gateway.clock import Backoff
from gateway.log import TOMBSTONE, FlawedRecord, Record
from gateway.log.kafka import record_format
from gateway.log.kafka.aiokafka_workarounds import fetched, next_records, wait_for_records
from gateway.log.kafka.errors import CODEC, OWN_NAME, UNREADABLE, Problem
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.topics import OWN_STATE, is_own
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: Between two lines about one partition. A topic full of such records would otherwise fill the log.
_LOG_EVERY_S: Final = 60.0

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
            await wait_for_records(consumer, wait_s)
            taken = await self._drain(consumer, wanted, max_records)
        return taken

    def close(self) -> None:
        """Remove the gauge of a closed reader. May be called twice."""
        self._forget(())

    async def _drain(self, consumer: Any, wanted: Collection[Any], room: int) -> Taken:
        """Return what is fetched already."""
        taken: Taken = {}
        for tp in [tp for tp in fetched(consumer) if tp in wanted]:
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
                return await next_records(consumer, tp, room)
            except Exception as exc:
                _raise_others(exc)
                self._stuck[tp] = _Stuck()
            await next_records(consumer, tp, 1)  # drops what is left of the failed fetch; it is fetched again
            return []
        records: list[Any] = []
        try:
            while len(records) < room and (more := await next_records(consumer, tp, 1)):
                records += more
        except Exception as exc:
            _raise_others(exc)
            with suppress(errors.IllegalStateError):  # taken away meanwhile: its next owner meets the batch
                self._note(tp, stuck, await consumer.position(tp), exc)
                await next_records(consumer, tp, 1)
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
        """Forget partitions that other members read now: those report them."""
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
    return OWN_NAME.sub("", " ".join(str(exc).split()))[:200] or type(exc).__name__


def _raise_others(exc: Exception) -> None:
    """Raise again what is no error of decoding: of rights, of the group, and of a consumer that was stopped."""
    decoding = (errors.UnsupportedCodecError, errors.CorruptRecordException)
    # ConsumerStoppedError is no KafkaError in aiokafka 0.14.
    if isinstance(exc, (errors.KafkaError, errors.ConsumerStoppedError)) and not isinstance(exc, decoding):
        raise exc


def _name(tp: Any) -> str:
    return f"{tp.topic}-{tp.partition}"


class RecordMaker:
    """Makes the log's records of Kafka's, for one reader; marks and counts those that are no events.

    Args:
        group: label of the counter and of log lines.
    """

    def __init__(self, group: str, options: KafkaOptions) -> None:
        self._group = group
        self._options = options
        self._counters: dict[str, Any] = {}
        self._logged_at: dict[str, float] = {}

    def records(self, taken: Mapping[Any, list[Any]], name_of: Callable[[Any], str]) -> list[Record]:
        """Return the records of what was taken.

        Args:
            taken: messages of aiokafka by partition.
            name_of: returns the name of a partition.
        """
        records: list[Record] = []
        read = record_format.read
        for tp, messages in taken.items():
            name, topic = name_of(tp), self._options.own_name(tp.topic)
            holds_events = not topic.startswith(OWN_STATE)
            for message in messages:
                value, headers, id_, flaw = read(message.value, message.headers, holds_events=holds_events)
                record = Record(
                    name,
                    message.offset,
                    message.timestamp / 1000,
                    topic,
                    (message.key or b"").decode(errors="replace"),
                    id_,
                    value,
                    headers,
                )
                records.append(self._flawed(record, flaw) if flaw else record)
        return records

    def _flawed(self, record: Record, flaw: str) -> FlawedRecord:
        """Return a record with its flaw and an id. Count it, unless it is a dead letter, which was counted before.

        It is logged if the partition's last log line is old enough.

        Args:
            record: as read.
            flaw: why it is no event.
        """
        if not record.id:
            record = record._replace(id=_id_of(record))
        if is_own(record.topic):
            return FlawedRecord(record, flaw)
        kind = "tombstone" if flaw == TOMBSTONE else "not_an_event"
        counter = self._counters.get(kind)
        if counter is None:
            counter = METRICS.counter("gateway_kafka_not_events").labels(self._group, kind)
            self._counters[kind] = counter
        counter.inc()
        now = time.monotonic()
        if kind == "not_an_event" and now - self._logged_at.get(record.partition, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[record.partition] = now
            _log.warning(
                "kafka.not_an_event", group=self._group, partition=record.partition, offset=record.offset, reason=flaw
            )
        return FlawedRecord(record, flaw)


def _id_of(record: Record) -> str:
    place = f"{record.partition}@{record.offset}"
    return hashlib.blake2b(place.encode(), digest_size=16).hexdigest()
