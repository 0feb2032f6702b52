"""Choose the parked events that are appended again, so that no position waits for them, and append them.

All subscribers share retry topics and ``replay``, and each topic has one position. It moves on although one subscriber
accepts no events: these are appended again, at the end of a retry topic, with a later due time.

=========  ==========================================================================================================
down       the subscriber's breaker is open, or it is paused or stopped; the event that is due for longest stays with it
           as its next probe
late       due for :data:`LATE_S` and not attempted, while its subscriber took nothing, or took what came after it
full       due events of others are behind it in the topic, and its subscriber has more than its share of the window
held       it is not due for long, and so many after it are done that a crash would repeat too much
gone       the configuration does not have its subscriber. Another process may have a newer one, so the event becomes a
           dead letter only after :data:`GONE_MOVES` moves, seven minutes
=========  ==========================================================================================================

For ``full``, :class:`Mover` looks without a cursor for subscribers that wait behind a full window, and stores nothing.

Each time the event is not attempted its wait doubles, so that a subscriber that is down for an hour costs eight copies
of an event and not sixty, and an event waits at most as long again after its subscriber is back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

import structlog

from gateway.clock import Clock
from gateway.errors import Poison
from gateway.fanout import retry_records
from gateway.fanout.job import JobState, ParkedJob, Standing
from gateway.fanout.partition_queue import PartitionQueue
from gateway.fanout.scan import has_more
from gateway.log import Entry, EventLog
from gateway.telemetry import redaction
from gateway.telemetry.metrics import Metrics

#: An event that is due is attempted within this time, or its place in the topic is given up. Ten times more holds the
#: position over a restart's patience, ten times less copies events of subscribers that are only slow.
LATE_S: Final = 30.0
#: The shortest wait of an event that is appended again: the first retry topic that is always there.
FIRST_WAIT_S: Final = 60.0
#: The longest, by whether the subscriber is down by itself, or held by a person.
_MAX_DOWN_S: Final = 600.0
_MAX_HELD_S: Final = 3600.0
GONE_MOVES: Final = 3
#: Done behind one that holds the position: what a crash repeats of a topic at most, about.
_MAX_REPEATS: Final = 500

#: How long the window is full before the first look for subscribers that wait behind it, and between two looks.
_PATIENCE_S: Final = 2.0
_FETCH_RECORDS: Final = 500
_FETCH_WAIT_S: Final = 1.0
#: Records read in one look. A subscriber whose events are further back is found when the window has moved.
_MAX_RECORDS: Final = 100_000

_log = structlog.get_logger("gateway.fanout")

Reason = Literal["down", "late", "full", "held", "gone"]


@dataclass(frozen=True, slots=True)
class Share:
    """How much a subscriber may have in memory while others wait."""

    max_events: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Move:
    """An event that is appended again.

    Args:
        due: monotonic seconds.
        is_dead: it becomes a dead letter instead.
    """

    job: ParkedJob
    due: float
    reason: Reason
    is_dead: bool = False


class Progress:
    """The last record that a subscriber accepted from one topic."""

    __slots__ = ("at", "offsets")

    def __init__(self, at: float) -> None:
        self.at = at
        self.offsets: dict[str, int] = {}  # by partition, the highest


def wait_s(moves: int, longest_s: float) -> float:
    """Return how long an event waits that was appended again so often before."""
    return min(longest_s, FIRST_WAIT_S * 2.0 ** min(moves, 20))


def choose(
    held: Iterable[ParkedJob],
    now: float,
    *,
    standing: Callable[[str], Standing],
    progress: Callable[[str], Progress | None],
    share: Share | None,
    blocking: Collection[ParkedJob] = (),
) -> list[Move]:
    """Return what is to be appended again now.

    Args:
        held: events of one topic that are in memory and not done.
        now: monotonic seconds.
        standing: of a subscriber.
        progress: of a subscriber in this topic.
        share: of each subscriber, while others wait behind these; None while none waits.
        blocking: events that hold the position before many that are done.
    """
    moves: list[Move] = []
    kept: dict[str, list[ParkedJob]] = {}
    probes: dict[str, ParkedJob] = {}
    standings: dict[str, Standing] = {}
    for job in held:
        if job.state is JobState.FLIGHT or job.is_moving or job.entry is not None:
            continue
        name = job.subscriber
        if name not in standings:
            standings[name] = standing(name)
        state = standings[name]
        overdue_s = now - job.due
        if overdue_s < 0:
            if job in blocking:
                moves.append(Move(job, max(job.due, now + 1.0), "held"))
            else:
                kept.setdefault(name, []).append(job)
        elif state is Standing.GONE:
            moves.append(Move(job, now + wait_s(job.moves, _MAX_DOWN_S), "gone", is_dead=job.moves >= GONE_MOVES))
        elif state is Standing.HELD:
            moves.append(Move(job, now + wait_s(job.moves, _MAX_HELD_S), "down"))
        elif state is Standing.DOWN:
            probe = probes.get(name)
            other: ParkedJob | None = job
            if overdue_s < LATE_S and (probe is None or job.due < probe.due):
                probes[name], other = job, probe
            if other is not None:
                moves.append(Move(other, now + wait_s(other.moves, _MAX_DOWN_S), "down"))
        elif overdue_s >= LATE_S and (state is Standing.ABSENT or _is_late(job, now, progress(name))):
            moves.append(Move(job, now + wait_s(job.moves, _MAX_DOWN_S), "late"))
        else:
            kept.setdefault(name, []).append(job)
    if share is not None:
        for jobs in kept.values():
            moves += [Move(job, max(job.due, now + FIRST_WAIT_S), "full") for job in _beyond(jobs, share)]
    return moves


def _is_late(job: ParkedJob, now: float, progress: Progress | None) -> bool:
    """Return whether its subscriber accepts nothing, or accepted a later event; a slow one is served in order."""
    if progress is None or now - progress.at >= LATE_S:
        return True
    return job.record.offset < progress.offsets.get(job.record.partition, 0)


def _beyond(jobs: list[ParkedJob], share: Share) -> list[ParkedJob]:
    jobs.sort(key=lambda job: job.due)
    size = 0
    for number, job in enumerate(jobs):
        size += job.size
        if number >= share.max_events or size > share.max_bytes:
            return jobs[max(1, number) :]
    return []


def blocking(positions: Iterable[PartitionQueue]) -> set[ParkedJob]:
    """Return the events behind which so much is done that a crash would repeat too much of it."""
    found: set[ParkedJob] = set()
    for position in positions:
        beyond = position.mark.span - len(position.jobs) - _MAX_REPEATS
        if beyond > 0:
            found.update(job for job in islice(position.jobs.values(), beyond) if isinstance(job, ParkedJob))
    return found


class Mover:
    """Looks who waits behind the window of one topic, and appends its events again.

    Args:
        topic: where they are now.
        again: returns the retry topic for a wait, in seconds.
    """

    def __init__(
        self, log: EventLog, topic: str, again: Callable[[float], str], clock: Clock, metrics: Metrics
    ) -> None:
        self._log = log
        self._topic = topic
        self._again = again
        self._clock = clock
        self._lost = metrics.counter("gateway_deliveries")
        self._moved = metrics.counter("gateway_retry_moved")
        self._full_since: float | None = None
        self._waiting_at: dict[str, int] = {}

    def is_waited_for(self, nexts: Mapping[str, int]) -> bool:
        """Return whether subscribers are known to wait behind these places, by partition."""
        return any(nexts.get(name, offset + 1) <= offset for name, offset in self._waiting_at.items())

    async def look(self, nexts: Mapping[str, int], is_held: Callable[[str], bool], *, is_full: bool) -> None:
        """Look for subscribers that wait, if the window has been full for :data:`_PATIENCE_S`.

        Args:
            nexts: where the window ends, by partition.
            is_held: whether a subscriber has events in the window.
            is_full: whether the window is full now.

        Raises:
            Transient: the log cannot be read now.
        """
        now = self._clock.monotonic()
        if not is_full or self.is_waited_for(nexts):
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= _PATIENCE_S:
            self._full_since = now
            self._waiting_at = await self._look_ahead(nexts, is_held)

    async def _look_ahead(self, nexts: Mapping[str, int], is_held: Callable[[str], bool]) -> dict[str, int]:
        """Return the last place of an event that is due and whose subscriber has none in the window, by partition."""
        found: dict[str, int] = {}
        now, looked_at = self._clock.now(), 0
        reader = await self._log.browse(f"scan.{self._topic}", [self._topic], positions=nexts)
        try:
            ends = await reader.ends()
            while looked_at < _MAX_RECORDS and await has_more(reader, ends):
                records = await reader.fetch(max_records=_FETCH_RECORDS, wait_s=_FETCH_WAIT_S)
                if not records:
                    break
                looked_at += len(records)
                for record in records:
                    parked = retry_records.read(record)
                    if parked.due <= now and not is_held(parked.subscriber):
                        found[record.partition] = record.offset
        finally:
            await reader.close()
        return found

    async def append(self, moves: Sequence[Move]) -> None:
        """Store moves; an event that the log accepts in no form is counted as lost.

        All are appended at once; if the log refuses that, each separately, in the first accepted form.

        Raises:
            GatewayError: the log does not accept them now; some may be stored.
        """
        entries = [self._entry(move) for move in moves]
        try:
            await self._log.append(entries)
        except Poison:
            for move, entry in zip(moves, entries, strict=True):
                await self._append_one(move.job, entry)
        for move in moves:
            self._moved.labels(move.reason).inc()

    async def _append_one(self, job: ParkedJob, entry: Entry) -> None:
        error = ""
        for form in (entry, *retry_records.last_forms(job.record, job.trail, job.subscriber)):
            try:
                await self._log.append([form])
            except Poison as exc:
                error = str(exc)
            else:
                return
        self._lost.labels(job.subscriber, "lost").inc()
        _log.error("delivery.lost", id=redaction.event_id(job.record.id), topic=self._topic, error=error)

    def _entry(self, move: Move) -> Entry:
        job, delay_s = move.job, move.due - self._clock.monotonic()
        if move.is_dead:
            _log.warning(
                "delivery.dead_lettered",
                id=redaction.event_id(job.record.id),
                topic=job.record.topic,
                subscriber=job.subscriber,
                reason="no_subscriber",
            )
            topic = retry_records.dlq_topic(job.subscriber)
            return retry_records.dead_letter(job.record, topic, job.trail, "no_subscriber")
        topic, due = self._again(delay_s), self._clock.now() + delay_s
        moves = 0 if move.reason in ("held", "full") else job.moves + 1
        return retry_records.parked(job.record, topic, job.trail, due, job.subscriber, moves=moves)
