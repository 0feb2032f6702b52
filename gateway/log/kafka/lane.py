"""What waits for one partition of one topic, in order, and what of it is on its way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.log import Entry, Headers, Record
from gateway.log.kafka.binding import STRUCTURED_ONLY, KafkaHeaders, is_plain, structured
from gateway.log.kafka.options import Backoff

#: Memory of one waiting record beside its bytes: tuples, key, record. Measured 420 to 600.
OVERHEAD_BYTES: Final = 600

Encode = Callable[[bytes, str, Headers], tuple[bytes, KafkaHeaders]]


class Ticket(Protocol):
    """Told when records are done. One ticket stands for many records."""

    is_cancelled: bool

    def done(self, count: int) -> None:
        """So many more of its records are acknowledged by Kafka, or dead-lettered."""


#: A waiting record: itself, its key in bytes, whom to tell.
Item = tuple[Entry | Record, bytes, Ticket]


@dataclass(slots=True)
class Batch:
    """Records that were handed to the client together and are acknowledged together.

    Args:
        size: what these records count in memory.
        dropped: what those counted that were dropped while it was filled, as their senders had given up.
    """

    items: list[Item]
    builder: Any
    size: int
    dropped: int
    sent_at: float
    is_abandoned: bool = False


@dataclass(slots=True)
class Lane:
    """One partition. At most one batch is with the client at a time, see :mod:`gateway.log.kafka.writer`."""

    topic: Topic
    partition: int
    pending: deque[Item] = field(default_factory=deque)
    in_flight: Batch | None = None

    @property
    def is_ready(self) -> bool:
        """There is something to send and nothing on its way."""
        return bool(self.pending) and self.in_flight is None

    def put_back(self, items: list[Item]) -> None:
        """A batch failed: its records come first again, in their order."""
        self.pending.extendleft(reversed(items))

    def fill(self, builder: Any, encode: Encode | None, now: float) -> Batch:
        """Move records from the head of the lane into an empty batch until it is full.

        Args:
            encode: how values and headers are written; None for structured mode, which needs little work.
        """
        taken: list[Item] = []
        pending = self.pending
        append = builder.append
        registered = self.topic.registered
        plain = [*STRUCTURED_ONLY, *registered] if registered else STRUCTURED_ONLY
        limit = self.topic.max_batch_bytes
        size = dropped = 0
        now_ms = int(time.time() * 1000)
        while pending:
            item = pending[0]
            entry, key, ticket = item
            value = entry.value
            if ticket.is_cancelled:
                pending.popleft()
                dropped += weight(entry)
                ticket.done(1)
                continue
            if limit and taken and builder.size() + len(value) + len(key) > limit:
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
        return Batch(taken, builder, size, dropped, now)

    def drop_cancelled(self) -> int:
        """Forget what waits and whose senders have given up; tells how much that was."""
        kept, size = without_cancelled(self.pending)
        if size:
            self.pending = deque(kept)
        return size


@dataclass(slots=True)
class Topic:
    """One topic and its lanes; ``lanes`` is empty until its partitions are known.

    Args:
        name: without the prefix.
        registered: the header with the id of the topic's schema in a registry; empty where none is configured.
        unplaced: records that came before the partitions were known.
        max_batch_bytes: learned from a broker that refused a batch for its size; 0: no limit but ours.
        retry_at: the monotonic time before which nothing is sent to it.
    """

    name: str
    registered: KafkaHeaders = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    unplaced: list[Item] = field(default_factory=list)
    max_batch_bytes: int = 0
    retry_at: float = 0.0
    #: Between sends that the broker refuses: each costs all topics a new producer.
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=15.0))
    #: Between looks for its partitions, which cost nobody else anything.
    resolving: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=2.0))

    @property
    def is_idle(self) -> bool:
        """Nothing of it waits or is on its way."""
        return not self.unplaced and not any(lane.pending or lane.in_flight for lane in self.lanes)

    def drop_cancelled(self) -> int:
        """As :meth:`Lane.drop_cancelled`, in all lanes and before them."""
        self.unplaced, size = without_cancelled(self.unplaced)
        return size + sum(lane.drop_cancelled() for lane in self.lanes)


def weight(entry: Entry | Record) -> int:
    """What a waiting record counts in memory."""
    return len(entry.value) + OVERHEAD_BYTES


def without_cancelled(items: Collection[Item]) -> tuple[list[Item], int]:
    """Those whose senders still wait, and what the others counted in memory; their tickets are told."""
    kept = [item for item in items if not item[2].is_cancelled]
    if len(kept) == len(items):
        return kept, 0
    size = 0
    for entry, _, ticket in items:
        if ticket.is_cancelled:
            size += weight(entry)
            ticket.done(1)
    return kept, size
