"""An event on its way to one subscriber: the record, its attempts so far, and its place in its partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from enum import Enum, IntEnum
from typing import Final, Protocol

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.retry_records import AttemptHistory
from gateway.log import Entry, Record

_FRESH: Final = AttemptHistory()


class JobState(IntEnum):
    """The state of a job in :mod:`gateway.fanout.scheduler`, which has a picture of them."""

    LATER = 0
    BEHIND = 1
    READY = 2
    FLIGHT = 3
    WAITING = 4
    GONE = 5


class Source(Protocol):
    """Origin of jobs."""

    def done(self, job: Job) -> None:
        """Mark an event as completed; its outcome is durable where it has to be."""

    def abandon(self, job: Job) -> None:
        """Leave an event of a partition that was reassigned to its new owner."""


class Watermark:
    """Completions in any order → the offset up to which everything is done.

    Only records that are tracked count: offsets of one partition may have gaps (other topics, compaction,
    Kafka's transaction markers), and a record that a filter drops needs no place here.

    ``track`` and ``pass_over`` are called in the order of the log, ``done`` in any order, once for each
    tracked offset. All are O(1), amortised. Memory grows with :attr:`span`; the window bounds it.
    """

    __slots__ = ("_done", "_next", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None

    @property
    def span(self) -> int:
        """Tracked offsets at and above the watermark, done or not: what a crash now would repeat at most."""
        return len(self._open)

    @property
    def committable(self) -> int | None:
        """Everything below this is done; None before the first record."""
        return self._open[0] if self._open else self._next

    def track(self, offset: int) -> None:
        """Track an accepted record; it holds the watermark until it is done."""
        self._open.append(offset)
        self._next = offset + 1

    def pass_over(self, offset: int) -> None:
        """Skip a record; it never holds the watermark."""
        self._next = offset + 1

    def done(self, offset: int) -> int:
        """Note that a tracked record is done; return by how many tracked offsets :attr:`committable` moved."""
        if self._open[0] != offset:
            self._done.add(offset)
            return 0
        before = len(self._open)
        self._open.popleft()
        while self._open and self._open[0] in self._done:
            self._done.remove(self._open.popleft())
        return before - len(self._open)


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
        source: where it came from and reports back to.
        position: its partition's bookkeeping.
        trail: attempts made before it was parked.
        due: monotonic seconds before which it is not attempted.
    """

    __slots__ = (
        "attempts",
        "due",
        "entry",
        "is_replay",
        "position",
        "probes",
        "record",
        "size",
        "source",
        "state",
        "trail",
    )

    def __init__(
        self,
        record: Record,
        source: Source,
        position: Position,
        *,
        trail: AttemptHistory = _FRESH,
        due: float = 0.0,
        is_replay: bool = False,
    ) -> None:
        self.record = record
        #: Bytes in memory, about.
        self.size = len(record.value)
        self.source = source
        self.position = position
        self.trail = trail
        #: Attempts that count against the bound; those made while the breaker probed do not.
        self.attempts = trail.attempts
        #: Those others, in this process.
        self.probes = 0
        self.due = due
        self.is_replay = is_replay
        self.state = JobState.GONE
        #: What is to be appended to a retry tier or the dead letters before this one is done.
        self.entry: Entry | None = None

    def note(self, at: float, result: AttemptResult, *, counts: bool) -> None:
        """Record a failed attempt.

        Args:
            at: Unix seconds.
            result: its result.
            counts: it counts against the limit of attempts.
        """
        self.attempts += counts
        self.probes += not counts
        self.trail = self.trail.add(at, result, self.attempts)


class SharedSource(Source, Protocol):
    """Where jobs come from that hold a position of all subscribers."""

    def again(self, delay_s: float) -> str:
        """Return the topic that an event goes to whose next attempt is in ``delay_s`` seconds."""


class Standing(Enum):
    """How a subscriber is, as far as its parked events are concerned."""

    WELL = "well"
    DOWN = "down"
    #: Paused by a person, or stopped.
    HELD = "held"
    #: Configured, and not running yet.
    ABSENT = "absent"
    #: Not configured here.
    GONE = "gone"


class Recipient(Protocol):
    """A subscriber, as far as parked events are concerned."""

    @property
    def standing(self) -> Standing:
        """State of the subscriber."""

    def offer(self, job: Job) -> None:
        """Deliver an event when it is due."""

    def withdraw(self, job: Job) -> None:
        """Forget an event that is not being attempted."""

    def cut(self, jobs: Collection[Job]) -> None:
        """Cancel attempts under way; each job is abandoned a moment later."""


class ParkedJob(Job):
    """An event of a topic that all subscribers share.

    Args:
        subscriber: whose it is.
        moves: how often it was appended again without an attempt.
    """

    __slots__ = ("is_moving", "moves", "subscriber", "target")

    source: SharedSource

    def __init__(
        self, record: Record, source: SharedSource, position: Position, *, subscriber: str, moves: int
    ) -> None:
        super().__init__(record, source, position)
        self.subscriber = subscriber
        self.moves = moves
        #: Twice, as headers are read into objects.
        self.size += 2 * sum(len(name) + len(value) for name, value in record.headers)
        #: Who has it now; None: it waits for its subscriber.
        self.target: Recipient | None = None
        #: It is being appended again.
        self.is_moving = False

    def anew(self) -> ParkedJob:
        """Return the same event, to be offered again: queues may still hold this one, which was discarded."""
        again = ParkedJob(self.record, self.source, self.position, subscriber=self.subscriber, moves=self.moves)
        again.trail, again.attempts, again.due, again.is_replay = self.trail, self.attempts, self.due, self.is_replay
        again.probes = self.probes
        return again
