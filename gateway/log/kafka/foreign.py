"""Records of other producers that are no events: an id for each, a counter, and a rate-limited log line."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

import structlog

from gateway.log import TOMBSTONE, FlawedRecord, Record
from gateway.log.kafka.topics import is_own
from gateway.telemetry.metrics import METRICS

#: Between two lines about one partition. A topic full of such records would otherwise fill the log.
_LOG_EVERY_S: Final = 60.0

_log = structlog.get_logger("gateway.kafka")


class NotEvents:
    """Marks and counts such records for one reader.

    Args:
        group: label of the counter and of log lines.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._counters: dict[str, Any] = {}
        self._logged_at: dict[str, float] = {}

    def flawed(self, record: Record, flaw: str) -> FlawedRecord:
        """Return a record with its flaw and an id. Count it, unless it is a dead letter, which was counted before.

        It is logged if the partition's last log line is old enough.

        Args:
            record: as read.
            flaw: why it is no event.
        """
        if is_own(record.topic):
            return FlawedRecord(record if record.id else record._replace(id=_id_of(record)), flaw)
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
        return FlawedRecord(record if record.id else record._replace(id=_id_of(record)), flaw)


def _id_of(record: Record) -> str:
    place = f"{record.partition}@{record.offset}"
    return hashlib.blake2b(place.encode(), digest_size=16).hexdigest()
