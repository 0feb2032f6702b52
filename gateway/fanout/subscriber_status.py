"""The status of a subscriber in one process, for the console, the command line and the other processes."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.fanout.flow_control import Status
from gateway.fanout.reader import SubscriberReader


@dataclass(frozen=True, slots=True)
class SubscriberStatus:
    """The status of a subscriber, for the console and the command line.

    Args:
        outstanding: events in memory; ``in_flight`` of them are being attempted.
        stopped: the reason if ``state`` is ``stopped``.
        opened_at: Unix seconds since when it counts as down; None if it does not.
        has_first_partition: this process reads the first partition of its first topic; of all processes, one does.
        oldest_at: Unix seconds at which its oldest event in memory was stored, parked ones apart; None if none is.
    """

    name: str
    state: Status
    outstanding: int
    in_flight: int
    stopped: str
    opened_at: float | None
    oldest_at: float | None = None
    has_first_partition: bool = False


def status_of(name: str, reader: SubscriberReader) -> SubscriberStatus:
    """Return the present status of a subscriber.

    Args:
        name: its name.
        reader: delivers to it in this process.
    """
    persistent = reader.flow.persistent_state
    return SubscriberStatus(
        name,
        reader.flow.status,
        reader.outstanding,
        reader.in_flight,
        persistent.stopped,
        persistent.opened_at,
        reader.cursor.oldest_at,
        reader.cursor.has_first_partition,
    )
