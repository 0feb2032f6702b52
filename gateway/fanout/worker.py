"""The workers of a subscriber: attempt an event, decide, act.

A worker is a task. It is created when an event may be attempted and no worker is idle, so that there are never more
workers than permitted attempts; :meth:`Workers.trim` ends those that had no work. A subscriber without events has no
workers and no timer. A single attempt can be cancelled: its worker continues with other events.

A worker takes a job, attempts it, and acts on the outcome:

=================  ==========================================================================================
delivered          done
retry, soon        waits in memory and blocks its key (not a worker): delays below the first tier
retry, later       parked: appended to ``retry.<delay>``, then done; its key continues (``pass``)
retry, ``block``   waits in memory whatever the delay; its key waits behind it
give up            appended to ``dlq.<subscriber>``, then done
replay delivered   an open dead letter is closed by a record in ``dlq.<subscriber>``, then done
stop               the subscriber is stopped, the event stays uncommitted
=================  ==========================================================================================

A parked event holds the position of a topic that all subscribers share, so it waits in memory for seconds only and is
parked again else (:mod:`.retry_topics`), whatever ``on_failure`` says.

While the subscriber is down (breaker not closed) or asked for a pause (``Retry-After``), nothing is parked:
then the event is not the cause, and the log is the buffer. Only a wait beyond the longest pause is parked anyway,
because the position would stay before it when the other events continue. A failed append is tried again until the log
accepts it; the position waits for it. An entry that the log will never accept (a record with its attempts is larger
than the event) is reduced: a parked event becomes a dead letter, a dead letter keeps only its most important headers,
and an entry that is still refused is counted as lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from random import Random
from typing import Final

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError, Poison
from gateway.fanout import retry_records
from gateway.fanout.attempt import NOT_AN_EVENT, AttemptResult, Sink
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.flow_control import FlowControl
from gateway.fanout.job import Job, JobState, ParkedJob
from gateway.fanout.retry import GiveUp, Retry, Stop, decide
from gateway.fanout.retry_records import Closing
from gateway.fanout.scheduler import Dispatcher
from gateway.fanout.subscription import Subscription
from gateway.log import Entry, EventLog
from gateway.telemetry import redaction

#: Between checks whether this process still has a partition.
_UNCERTAIN_S: Final = 0.5
#: Waits between appends of one parked event or dead letter.
_APPEND_BACKOFF_S: Final = 5.0
#: Share of the window that may wait in memory for retry; beyond it even short waits are parked, so that many
#: failing events do not keep the others out.
_WAITING_SHARE: Final = 0.25
#: So long a parked event that failed waits in memory, holding the position of all; longer, to keep the order of a key.
_PARKED_WAIT_S: Final[dict[str, float]] = {"pass": 5.0, "block": 30.0}

_log = structlog.get_logger("gateway.fanout")


class EventDelivery:
    """Process events for the workers: attempt, decide, act.

    Args:
        subscription: numbers and names.
        log: stores parked events and dead letters.
        sink: sends events.
        flow: whether the subscriber is healthy; notes the results of attempts.
        dispatcher: hands out events, and gets them back.
        is_certain: returns whether this process certainly still has the partitions.
        rng: jitter.
        attempt_log: metrics, log lines and notes of attempts.
        is_withdrawn: whether an event is the copy of a cancelled replay.
    """

    def __init__(
        self,
        subscription: Subscription,
        log: EventLog,
        sink: Sink,
        *,
        flow: FlowControl,
        dispatcher: Dispatcher,
        is_certain: Callable[[], bool],
        clock: Clock,
        rng: Random,
        attempt_log: AttemptLog,
        is_withdrawn: Callable[[Job], bool] | None = None,
    ) -> None:
        self._subscription = subscription
        self._log = log
        self._sink = sink
        self._flow = flow
        self._dispatcher = dispatcher
        self._is_certain = is_certain
        self._clock = clock
        self._rng = rng
        self._attempt_log = attempt_log
        self._is_withdrawn = is_withdrawn or (lambda _: False)
        self._max_waiting = max(1, int(subscription.window.max_events * _WAITING_SHARE))
        #: Events of retry topics that are with this subscriber.
        self.parked = 0

    async def deliver(self, job: Job) -> None:
        """Process the next step of an event, and return it to the dispatcher."""
        try:
            if not job.position.is_ours:
                self._abandon(job)
            elif job.entry is not None:
                await self._put_away(job, job.entry)
            elif job.is_replay and self._is_withdrawn(job):
                self._attempt_log.withdrawn(job)
                self._finish(job)
            elif job.record.flaw:
                await self._give_up(job, AttemptResult(error=NOT_AN_EVENT, detail=job.record.flaw), NOT_AN_EVENT)
            elif not self._is_certain():
                # Suspended or cut off for so long that another process may have the partition; it is about to be lost.
                self._dispatcher.postpone(job, _UNCERTAIN_S)
            else:
                await self._attempt(job)
        except Exception:  # one event's trouble must not cost a worker
            _log.exception("delivery.broke", subscriber=self._subscription.name, id=redaction.event_id(job.record.id))
            if job.state is JobState.FLIGHT:
                self._dispatcher.postpone(job, _APPEND_BACKOFF_S)

    async def _attempt(self, job: Job) -> None:
        counts = self._flow.is_healthy  # attempts made to probe are not the event's
        number = self._flow.begin()
        try:
            result = await self._sink.attempt(job.record, is_replay=job.is_replay)
        except Poison as exc:
            await self._give_up(job, AttemptResult(error="poison", detail=str(exc)), "poison")
            return
        except Exception as exc:  # a bug of the gateway counts as a failed attempt, and ends like one
            _log.exception("delivery.broke", subscriber=self._subscription.name, id=redaction.event_id(job.record.id))
            result = AttemptResult(error="internal", detail=type(exc).__name__)
        if result.is_success:
            job.attempts += 1
            self._attempt_log.delivered(job, result)
            closes = job.is_replay and retry_records.was_open(job.record)
            if not closes:
                self._finish(job)
            self._flow.delivered(job.record.id, number, result.duration_s)
            if closes:
                await self._put_away(job, self._closing(job))
            return
        job.note(self._clock.now(), result, counts=counts)
        self._flow.failed(job.record.id, number, result)
        await self._act(job, result)

    def _closing(self, job: Job) -> Entry:
        """Return the record that closes the dead letter which a replay has delivered."""
        how = Closing("delivered", self._clock.now(), replay=retry_records.replay_name(job.record))
        return retry_records.closing(job.record, self._subscription.name, how)

    async def _act(self, job: Job, result: AttemptResult) -> None:
        """Decide what becomes of an event whose attempt failed, and do it."""
        subscription, attempt_log = self._subscription, self._attempt_log
        if not job.position.is_ours:
            attempt_log.failed(job, result, "abandoned")
            self._abandon(job)
            return
        age_s = self._clock.now() - _stored_at(job)
        match decide(subscription.retry, max(1, job.attempts), result, self._rng, age_s=age_s):
            case Retry(delay_s) if (topic := self._retry_topic(job, delay_s)) is not None:
                attempt_log.failed(job, result, "parked", delay_s=delay_s)
                due = self._clock.now() + delay_s
                await self._put_away(job, retry_records.parked(job.record, topic, job.trail, due, subscription.name))
            case Retry(delay_s):
                delay_s = self._in_memory(delay_s)
                attempt_log.failed(job, result, "retried", delay_s=delay_s)
                self._dispatcher.postpone(job, delay_s)
            case GiveUp(reason):
                attempt_log.failed(job, result, "dead_lettered")
                await self._dead_letter(job, reason)
            case Stop(reason):
                attempt_log.failed(job, result, "stopped")
                self._flow.stop(reason)
                self._dispatcher.give_back(job)

    async def _give_up(self, job: Job, result: AttemptResult, reason: str) -> None:
        """Send an event to the dead letters, however many attempts are left."""
        job.note(self._clock.now(), result, counts=True)
        self._attempt_log.failed(job, result, "dead_lettered")
        await self._dead_letter(job, reason)

    async def _dead_letter(self, job: Job, reason: str) -> None:
        self._attempt_log.dead_lettered(job, reason)
        topic = retry_records.dlq_topic(self._subscription.name)
        await self._put_away(job, retry_records.dead_letter(job.record, topic, job.trail, reason))

    def _retry_topic(self, job: Job, delay_s: float) -> str | None:
        """Return the topic to park in, or None to wait in memory."""
        subscription = self._subscription
        if isinstance(job, ParkedJob):
            waits_here = self._flow.is_healthy and delay_s <= _PARKED_WAIT_S[subscription.on_failure]
            return None if waits_here else job.source.again(delay_s)
        if subscription.on_failure == "block" or not subscription.tiers or not self._flow.lets_park(delay_s):
            return None
        tier = retry_records.tier(subscription.tiers, delay_s)
        if tier is None and self._dispatcher.waiting >= self._max_waiting:
            tier = subscription.tiers[0]
        return None if tier is None else retry_records.retry_topic(tier)

    def _in_memory(self, delay_s: float) -> float:
        """Return the wait of an event in memory: while the subscriber is down, no longer than that of its breaker."""
        return delay_s if self._flow.is_healthy else min(delay_s, self._subscription.breaker.max_open_s)

    async def _put_away(self, job: Job, entry: Entry) -> None:
        if not job.position.is_ours:
            self._abandon(job)
            return
        job.entry = entry
        try:
            await self._log.append([entry])
        except Poison as exc:
            await self._refused(job, entry, exc)
            return
        except GatewayError as exc:
            if not exc.retriable:
                raise
            if not exc.is_logged:
                _log.warning(
                    "delivery.put_away_failed",
                    subscriber=self._subscription.name,
                    id=redaction.event_id(job.record.id),
                    error=str(exc),
                )
            self._dispatcher.postpone(job, self._rng.uniform(0.5, 1.0) * (exc.retry_after_s or _APPEND_BACKOFF_S))
            return
        self._finish(job)

    async def _refused(self, job: Job, entry: Entry, exc: Poison) -> None:
        """Store something smaller, or nothing: the log never accepts this entry, as it is larger than the event was."""
        bare = retry_records.bare(entry)
        if retry_records.is_closing(entry):
            self._attempt_log.not_closed(job, str(exc))
            self._finish(job)
        elif entry.topic != retry_records.dlq_topic(self._subscription.name):
            await self._give_up(job, AttemptResult(error="poison", detail=str(exc)), "poison")
        elif entry != bare:
            await self._put_away(job, bare)
        else:
            self._attempt_log.lost(job, str(exc))
            self._finish(job)

    def _finish(self, job: Job) -> None:
        self.parked -= isinstance(job, ParkedJob)
        job.source.done(job)
        self._dispatcher.finish(job)

    def cancelled(self, job: Job) -> None:
        """Note that its partition went to another process during an attempt, whose outcome is unknown."""
        self._attempt_log.cancelled(job)
        self._abandon(job)

    def _abandon(self, job: Job) -> None:
        self.parked -= isinstance(job, ParkedJob)
        job.source.abandon(job)
        self._dispatcher.finish(job)


class _Worker:
    """One task and what it has.

    Args:
        job: being delivered now; None between two.
        is_cut: the delivery was cancelled, and not the task.
    """

    __slots__ = ("is_cut", "job", "task")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.is_cut = False
        self.task: asyncio.Task[None] | None = None

    def was_cut(self) -> bool:
        """Return whether only the delivery was cancelled, and not the task, which continues then."""
        if not self.is_cut or self.task is None:
            return False
        self.is_cut = False
        return self.task.uncancel() == 0


class Workers:
    """Deliver what the dispatcher gives out.

    Args:
        subscriber: names the tasks.
    """

    def __init__(self, subscriber: str, dispatcher: Dispatcher, delivery: EventDelivery) -> None:
        self._subscriber = subscriber
        self._dispatcher = dispatcher
        self._delivery = delivery
        dispatcher.give = self.give
        self._workers: set[_Worker] = set()
        self._idle: deque[asyncio.Future[Job | None]] = deque()
        self._least_idle = 0

    def __len__(self) -> int:
        return len(self._workers)

    def give(self, job: Job) -> None:
        """Pass a job to the worker that was busy last, or to a new one."""
        idle = self._idle
        while idle:
            handed = idle.pop()
            if len(idle) < self._least_idle:
                self._least_idle = len(idle)
            if not handed.done():  # its worker was not cancelled
                handed.set_result(job)
                return
        worker = _Worker()
        self._workers.add(worker)
        worker.task = asyncio.create_task(self._work(worker, job), name=f"fanout:{self._subscriber}:worker")

    def cut(self, jobs: Collection[Job]) -> None:
        """Cancel the delivery of these jobs; what becomes of an attempt that is under way is not known then."""
        for worker in self._workers:
            if worker.job in jobs and worker.task is not None and not worker.is_cut:
                worker.is_cut = True
                worker.task.cancel()

    @property
    def jobs(self) -> frozenset[Job]:
        """The jobs in delivery."""
        return frozenset(worker.job for worker in self._workers if worker.job is not None)

    def cut_attempts(self) -> None:
        """Cancel all attempts, see :meth:`cut`; an event that has had its last one is stored meanwhile."""
        self.cut([job for job in self.jobs if job.entry is None])

    def trim(self) -> None:
        """End the workers that had nothing to do since the last call."""
        for _ in range(min(self._least_idle, len(self._idle))):
            handed = self._idle.popleft()
            if not handed.done():
                handed.set_result(None)
        self._least_idle = len(self._idle)

    async def stop(self) -> None:
        """Cancel all of them, with what they deliver. May come twice."""
        tasks = [worker.task for worker in self._workers if worker.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, worker: _Worker, first: Job) -> None:
        job: Job | None = first
        try:
            while job is not None:
                worker.job = job
                try:
                    await self._delivery.deliver(job)
                except asyncio.CancelledError:
                    if not worker.was_cut():
                        raise
                    self._delivery.cancelled(job)
                worker.job = None
                if worker.is_cut:  # and it ended all the same
                    worker.was_cut()
                job = self._dispatcher.take() or await self._wait()
        finally:
            self._workers.discard(worker)

    async def _wait(self) -> Job | None:
        """Wait for the next job; None is the end."""
        handed: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._idle.append(handed)
        try:
            return await handed
        except asyncio.CancelledError:
            if handed.done() and not handed.cancelled() and (job := handed.result()) is not None:
                self._dispatcher.give_back(job)
            raise


def _stored_at(job: Job) -> float:
    return job.record.appended_at if job.trail.stored_at is None else job.trail.stored_at
