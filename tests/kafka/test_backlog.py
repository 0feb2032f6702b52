"""What goes into a batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.log import Record
from gateway.log.kafka.backlog import SendQueue, TopicQueue

VALUE = b'{"specversion":"1.0","id":"00000000000000000000000000000000"}'


@dataclass(slots=True)
class Builder:
    """As aiokafka's, without an end."""

    timestamps: list[int] = field(default_factory=list)

    def append(self, *, timestamp: int, **_: Any) -> int:
        self.timestamps.append(timestamp)
        return len(self.timestamps)

    def size(self) -> int:
        return 0


@dataclass(slots=True)
class Ticket:
    is_cancelled: bool = False

    def done(self, count: int) -> None:
        raise AssertionError("nothing is acknowledged while a batch is filled")


@pytest.mark.parametrize(("ahead_s", "is_kept"), [(-86400.0, True), (-1.0, True), (2 * 3600.0, False)])
def test_no_record_carries_a_time_that_is_still_to_come(ahead_s: float, is_kept: bool) -> None:
    """Kafka 4 refuses more than an hour of that; the journal's time of an event of a wrong clock must not block all."""
    began = time.time()
    record = Record("events", 7, began + ahead_s, "sms.dr", "k", "0" * 32, VALUE)
    queue, builder = SendQueue(TopicQueue("sms.dr"), 0), Builder()
    queue.pending.append((record, b"k", Ticket()))
    queue.fill(builder, None, 0.0)
    (timestamp,) = builder.timestamps
    if is_kept:
        assert timestamp == int(record.appended_at * 1000)
    else:
        assert int(began * 1000) <= timestamp <= time.time() * 1000
