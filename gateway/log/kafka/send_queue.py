"""Queue of the records of one partition: waiting and in flight, in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.clock import Backoff
from gateway.log import Entry, Headers, Record
from gateway.log.kafka.record_format import STRUCTURED_ONLY, KafkaHeaders, is_plain, structured

#: Memory of one waiting record in addition to its bytes: tuples, key, record. Measured 420 to 600.
OVERHEAD_BYTES: Final = 600

Encode = Callable[[bytes, str, Headers], tuple[bytes, KafkaHeaders]]


class Ticket(Protocol):
    """Is called when records are done. Many records may share one ticket."""

    is_cancelled: bool

    def done(self, count: int) -> None:
        """Note that ``count`` more of its records are acknowledged by Kafka, or dead-lettered."""


#: A waiting record: itself, its key in bytes, its ticket.
Waiting = tuple[Entry | Record, bytes, Ticket]


@dataclass(slots=True)
class InFlight:
    """Records that were given to the client together and are acknowledged together.

    Args:
        size: what these records count in memory.
        dropped: what those counted that were dropped while it was filled, as their senders had given up.
        is_exact: it may have been written before, as it is, under the same numbers.
    """

    items: list[Waiting]
    builder: Any
    size: int
    dropped: int
    sent_at: float
    is_exact: bool = False
    is_abandoned: bool = False


@dataclass(slots=True)
class SendQueue:
    """One partition. At most one batch is with the client at a time, see :mod:`gateway.log.kafka.writer`.

    Args:
        registered: the header with the id of the topic's schema in a registry; empty where none is configured.
        exactly: the next batch has so many records, no more and no fewer: the broker may have them already, and
            recognises them by their numbers. 0: as many as fit.
        poison: the record that no broker takes, while it is stored elsewhere; nothing behind it is sent before that.
        retry_at: the monotonic time before which nothing is sent.
    """

    topic: str
    partition: int
    registered: KafkaHeaders = field(default_factory=list)
    pending: deque[Waiting] = field(default_factory=deque)
    in_flight: InFlight | None = None
    exactly: int = 0
    poison: Waiting | None = None
    retry_at: float = 0.0
    #: Between batches that the broker refuses. A probe is one batch; ten times less would be a steady load on a broker
    #: for nothing, ten times more a minute in which a right that was granted is not noticed.
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=5.0))

    @property
    def is_ready(self) -> bool:
        """Whether there is something to send and nothing in flight."""
        return bool(self.pending) and self.in_flight is None and self.poison is None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is in flight."""
        return not (self.pending or self.in_flight or self.poison)

    def put_back(self, batch: InFlight, *, is_exact: bool) -> None:
        """Put a batch that failed back to the head, its records in their order.

        Args:
            is_exact: the next batch has exactly these records.
        """
        self.pending.extendleft(reversed(batch.items))
        self.exactly = len(batch.items) if is_exact else 0

    def fill(self, builder: Any, encode: Encode | None, now: float, limit: int = 0) -> InFlight:
        """Move records from the head of the queue into an empty batch until it is full.

        Args:
            encode: how values and headers are written; None for structured mode, which needs little work.
            now: monotonic time.
            limit: of the batch in bytes, learned from a broker that refused one for its size; 0: no limit but ours.
        """
        taken: list[Waiting] = []
        pending = self.pending
        append = builder.append
        registered = self.registered
        plain = [*STRUCTURED_ONLY, *registered] if registered else STRUCTURED_ONLY
        exactly, self.exactly = self.exactly, 0
        size = dropped = 0
        now_ms = int(time.time() * 1000)
        while pending and not (exactly and len(taken) == exactly):
            item = pending[0]
            entry, key, ticket = item
            value = entry.value
            if ticket.is_cancelled and not exactly:
                pending.popleft()
                dropped += weight(entry)
                ticket.done(1)
                continue
            if limit and taken and not exactly and builder.size() + len(value) + len(key) > limit:
                break
            if encode is not None:
                value, headers = encode(value, entry.id, entry.headers)
            elif is_plain(value, entry.id, entry.headers):
                headers = plain
            else:
                value, headers = structured(value, entry.id, entry.headers)
            if registered and headers is not plain:
                headers = [*headers, *registered]
            # Kafka's time is that of the journal: a seek to a time means the same on both logs. But not one that is
            # still to come, of a clock that was ahead: brokers refuse more than an hour of that, until it has come.
            timestamp = min(int(entry.appended_at * 1000), now_ms) if isinstance(entry, Record) else now_ms
            if append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
                break
            pending.popleft()
            taken.append(item)
            size += len(entry.value) + OVERHEAD_BYTES
        return InFlight(taken, builder, size, dropped, now, is_exact=bool(exactly))

    def take_back(self) -> None:
        """Put back what is on its way: its client is given up, and with it the numbers that it gave."""
        self.exactly = 0
        if (batch := self.in_flight) is not None:
            batch.is_abandoned = True
            self.in_flight = None
            self.put_back(batch, is_exact=False)

    def drop_cancelled(self) -> int:
        """Forget what waits and whose senders have given up; return how much that was in bytes."""
        if self.exactly:
            return 0
        kept, size = without_cancelled(self.pending)
        if size:
            self.pending = deque(kept)
        return size


def weight(entry: Entry | Record) -> int:
    """Return what a waiting record counts in memory, in bytes."""
    return len(entry.value) + OVERHEAD_BYTES


def without_cancelled(items: Collection[Waiting]) -> tuple[list[Waiting], int]:
    """Return those whose senders still wait, and what the others counted in memory; their tickets are called."""
    kept = [item for item in items if not item[2].is_cancelled]
    if len(kept) == len(items):
        return kept, 0
    size = 0
    for entry, _, ticket in items:
        if ticket.is_cancelled:
            size += weight(entry)
            ticket.done(1)
    return kept, size
