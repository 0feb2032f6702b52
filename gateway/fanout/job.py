"""An event on its way to one subscriber: the record, and what became of it so far."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.parking import Trail
from gateway.fanout.schedule import Place
from gateway.fanout.watermark import Watermark
from gateway.log import Entry, Record

_FRESH: Final = Trail()


class Origin(Protocol):
    """What has read a job, and commits it."""

    def done(self, job: Job) -> None:
        """The event needs nothing more; what became of it is durable where it has to be."""

    def abandon(self, job: Job) -> None:
        """The event's partition is no longer ours: it is left to its new owner."""


class Position(Protocol):
    """Bookkeeping of a job's partition, see :class:`gateway.fanout.partition_queue.PartitionQueue`."""

    name: str
    mark: Watermark
    jobs: dict[int, Job]
    is_ours: bool
    committed: int | None


class Job:
    """One outstanding event. State, not a value: one is made for every event, on the hot path.

    Args:
        record: as read; its bytes go out unchanged.
        lane: where it came from and reports back to.
        position: its partition's bookkeeping.
        trail: attempts made before it was parked.
        due: monotonic seconds before which it is not attempted.
    """

    __slots__ = ("attempts", "due", "entry", "is_replay", "lane", "place", "position", "record", "trail")

    def __init__(
        self,
        record: Record,
        lane: Origin,
        position: Position,
        *,
        trail: Trail = _FRESH,
        due: float = 0.0,
        is_replay: bool = False,
    ) -> None:
        self.record = record
        self.lane = lane
        self.position = position
        self.trail = trail
        #: Attempts that count against the bound; those made while the breaker probed do not.
        self.attempts = trail.attempts
        self.due = due
        self.is_replay = is_replay
        self.place = Place.GONE
        #: What is to be appended to a retry tier or the dead letters before this one is done.
        self.entry: Entry | None = None

    def note(self, at: float, result: AttemptResult, *, counts: bool) -> None:
        """Keep what one failed attempt told."""
        self.attempts += counts
        self.trail = self.trail.add(at, result, self.attempts)
