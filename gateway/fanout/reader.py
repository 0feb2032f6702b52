"""One subscriber: a cursor on the shared reading, workers that attempt, and what is decided in between.

A worker takes a job, attempts it, and acts on the outcome:

=================  ==========================================================================================
delivered          done
retry, soon        waits in memory and blocks its key (not a worker): delays below the first tier
retry, later       parked: appended to ``retry.<delay>``, then done; its key goes on (``pass``)
retry, ``block``   waits in memory whatever the delay; its key waits behind it
give up            appended to ``dlq.<subscriber>``, then done
stop               the subscriber is stopped, the event stays uncommitted
=================  ==========================================================================================

A parked event holds the position of a topic that all subscribers share, so it waits in memory for seconds only and is
parked again else (:mod:`.retry_topics`), whatever ``on_failure`` says.

While the subscriber is down (breaker not closed) or asked for a pause (``Retry-After``), nothing is parked:
then it is not the event's trouble, and the log is the buffer. Only a wait beyond the longest pause is parked all the
same, as the position would stand before it when the others go on. An append that fails is tried again until the log
takes it; the position waits for it. One that the log will never take (a record with its trail is larger than the
event was) is made smaller: a parked event becomes a dead letter, a dead letter keeps the least of its headers, and
what is refused even so is counted as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from random import Random
from typing import Final

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError, Poison
from gateway.fanout import parking
from gateway.fanout.attempt import NOT_AN_EVENT, AttemptResult, Sink
from gateway.fanout.breaker import Breaker
from gateway.fanout.concurrency import AdaptiveLimit
from gateway.fanout.cursor import Beginning, SubscriberCursor
from gateway.fanout.dispatch import Dispatcher
from gateway.fanout.gate import Gate, Lasting, Seen
from gateway.fanout.job import Job, ParkedJob, Standing
from gateway.fanout.plan import Plan
from gateway.fanout.rate import TokenBucket
from gateway.fanout.retry import Delivered, GiveUp, Retry, Stop, decide
from gateway.fanout.schedule import Place
from gateway.fanout.telling import Telling
from gateway.fanout.workers import Workers
from gateway.log import Begins, Entry, EventLog, Start
from gateway.log.shared_reader import SharedReader
from gateway.telemetry import redaction

#: Between looks whether a partition is still ours.
_UNCERTAIN_S: Final = 0.5
#: Waits between appends of one parked event or dead letter.
_APPEND_BACKOFF_S: Final = 5.0
#: What was cancelled ends within a turn of the event loop; a sink that does not is left behind.
_CUT_S: Final = 0.5
#: Share of the window that may wait in memory for retry; beyond it even short waits are parked, so that many
#: failing events do not keep the others out.
_WAITING_SHARE: Final = 0.25
#: So long a parked event that failed waits in memory, holding the position of all; longer, to keep the order of a key.
_PARKED_WAIT_S: Final[dict[str, float]] = {"pass": 5.0, "block": 30.0}

_STANDINGS: Final[Mapping[Seen, Standing]] = {
    "closed": Standing.WELL,
    "open": Standing.DOWN,
    "half_open": Standing.DOWN,
    "paused": Standing.HELD,
    "stopped": Standing.HELD,
}

_log = structlog.get_logger("gateway.fanout")


class SubscriberReader:
    """Delivers one subscriber's events until it is stopped.

    Args:
        plan: numbers and names.
        log: where events come from, and where parked ones and dead letters go.
        sink: where events go to; closed by :meth:`stop`.
        reading: of the main topics, for all subscribers; started and stopped by its owner.
        rng: jitter and span ids.
        telling: metrics, log lines and the record of attempts.
        on_state: told whenever the gate's lasting state changed, to make it durable.
        beginning: where it begins in its main topics, where that was fixed as a time.
    """

    def __init__(
        self,
        plan: Plan,
        log: EventLog,
        sink: Sink,
        *,
        reading: SharedReader,
        clock: Clock,
        rng: Random,
        telling: Telling,
        on_state: Callable[[], None] = lambda: None,
        beginning: Beginning | None = None,
    ) -> None:
        self.plan = plan
        self._log = log
        self._sink = sink
        self._reading = reading
        self._clock = clock
        self._rng = rng
        self._telling = telling
        self._adaptive = AdaptiveLimit(plan.concurrency)
        bucket = None if plan.rate_per_s is None else TokenBucket(plan.rate_per_s)
        self._dispatcher = Dispatcher(
            clock, by_key=plan.ordering == "key", limit=0, give=lambda job: self._workers.give(job), bucket=bucket
        )
        self._workers = Workers(plan.name, self._dispatcher, self._deliver, self._cancelled)
        self.gate = Gate(
            Breaker(plan.breaker, rng),
            self._adaptive,
            self._dispatcher,
            clock,
            telling=telling,
            on_state=self._state_changed,
        )
        self._on_state = on_state
        self._beginning = beginning
        self._incarnations: Mapping[str, str] = {}
        self._cursor = self._make_cursor()
        self._max_waiting = max(1, int(plan.window.max_events * _WAITING_SHARE))
        self._parked = 0  # events of retry topics that are here
        self._is_started = False
        self._is_stopped = False

    @property
    def cursor(self) -> SubscriberCursor:
        """Its place in the main topics."""
        return self._cursor

    @property
    def under_way(self) -> frozenset[Job]:
        """Events that are being attempted, or stored elsewhere after their last attempt."""
        return self._workers.jobs

    @property
    def in_flight(self) -> int:
        """Events with workers now."""
        return self._dispatcher.in_flight

    @property
    def outstanding(self) -> int:
        """Events taken from the log and not done."""
        return self._cursor.outstanding + self._parked

    def restore(self, lasting: Lasting) -> None:
        """Take up a state that was kept, or that another process has changed."""
        self.gate.restore(lasting)
        self._reading.changed()

    def trim(self) -> None:
        """Give back what was not needed since the last call."""
        self._workers.trim()

    def start(self) -> None:
        """Begin to read and deliver. Once; after :meth:`stop` it does nothing."""
        if self._is_stopped or self._is_started:
            return
        self.gate.open()
        self._is_started = True
        self._reading.add(self._cursor)

    async def stop(self, deadline_s: float) -> None:
        """Stop reading, let attempts in flight end for at most ``deadline_s``, make commits durable.

        What is not delivered by then stays uncommitted and comes again. May come twice, or before the start.
        """
        self._is_stopped = True
        self.gate.close()
        await self._reading.remove(self._cursor)
        if self._dispatcher.in_flight:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._dispatcher.drained()
            except TimeoutError:
                _log.warning("subscriber.stop_cut_short", subscriber=self.plan.name, in_flight=self.in_flight)
                self._workers.cut_attempts()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CUT_S):
                        await self._dispatcher.drained()
        await self._workers.stop()
        self._dispatcher.close()
        await self._sink.close()
        self._cursor.close()
        self._log.cursors.forget(self._cursor.name)

    # -- for retry topics, see gateway.fanout.job.Recipient -----------------------------------------------------

    @property
    def standing(self) -> Standing:
        """See :attr:`gateway.fanout.job.Recipient.standing`."""
        return _STANDINGS[self.gate.seen]

    def offer(self, job: Job) -> None:
        """See :meth:`gateway.fanout.job.Recipient.offer`."""
        self._parked += 1
        self._dispatcher.offer(job)

    def withdraw(self, job: Job) -> None:
        """See :meth:`gateway.fanout.job.Recipient.withdraw`."""
        self._parked -= 1
        self._dispatcher.discard(job)

    def cut(self, jobs: Collection[Job]) -> None:
        """See :meth:`gateway.fanout.job.Recipient.cut`."""
        self._workers.cut(jobs)

    def _make_cursor(self) -> SubscriberCursor:
        plan = self.plan
        return SubscriberCursor(
            group_name(plan.name),
            plan.topics,
            self._dispatcher,
            self._log.cursors,
            clock=self._clock,
            window=plan.window,
            wants=plan.wants,
            begins=self._begins,
            on_opened=self._note_incarnations,
            is_willing=self._is_willing,
            cut=self._workers.cut,
            on_skipped=self._telling.skipped,
            on_change=self._reading.changed,
        )

    async def _begins(self) -> Start | Begins:
        return self.plan.start if self._beginning is None else await self._beginning.asked()

    def _note_incarnations(self) -> bool:
        """Note what is read now; returns whether that is all there is to note."""
        if self._beginning is None:
            return True
        if (found := self._reading.incarnations()) != self._incarnations:
            self._incarnations = found
            self._beginning.on_opened(found)
        return self._cursor.topics <= found.keys()

    def _is_willing(self) -> bool:
        """While it is down, one event is enough to see whether it is back."""
        seen = self.gate.seen
        return seen == "closed" or (seen in {"open", "half_open"} and not self._cursor.outstanding)

    def _state_changed(self) -> None:
        self._on_state()
        self._reading.changed()

    async def _deliver(self, job: Job) -> None:
        """Do what an event needs next, and hand it back to the dispatcher."""
        try:
            if not job.position.is_ours:
                self._abandon(job)
            elif job.entry is not None:
                await self._put_away(job, job.entry)
            elif job.record.flaw:
                await self._give_up(job, AttemptResult(error=NOT_AN_EVENT, detail=job.record.flaw), NOT_AN_EVENT)
            elif not self._reading.is_certain():
                # Suspended or cut off for so long that another process may have the partition; it is about to be lost.
                self._dispatcher.postpone(job, _UNCERTAIN_S)
            else:
                await self._attempt(job)
        except Exception:  # one event's trouble must not cost a worker
            _log.exception("delivery.broke", subscriber=self.plan.name, id=redaction.event_id(job.record.id))
            if job.place is Place.FLIGHT:
                self._dispatcher.postpone(job, _APPEND_BACKOFF_S)

    async def _attempt(self, job: Job) -> None:
        counts = self.gate.is_closed  # attempts made to probe are not the event's
        number = self._adaptive.begin()
        try:
            result = await self._sink.attempt(job.record, is_replay=job.is_replay)
        except Poison as exc:
            await self._give_up(job, AttemptResult(error="poison", detail=str(exc)), "poison")
            return
        except Exception as exc:  # a fault of ours is a failed attempt, so that it ends like one
            _log.exception("delivery.broke", subscriber=self.plan.name, id=redaction.event_id(job.record.id))
            result = AttemptResult(error="internal", detail=type(exc).__name__)
        if result.is_success:
            job.attempts += 1
            self._telling.delivered(job, result)
            self._finish(job)
            self.gate.delivered(job.record.id, number, result.duration_s)
            return
        job.note(self._clock.now(), result, counts=counts)
        self.gate.failed(job.record.id, number, result)
        await self._act(job, result)

    async def _act(self, job: Job, result: AttemptResult) -> None:
        """Decide what becomes of an event whose attempt failed, and do it."""
        plan, telling = self.plan, self._telling
        if not job.position.is_ours:
            telling.failed(job, result, "abandoned")
            self._abandon(job)
            return
        age_s = self._clock.now() - _stored_at(job)
        match decide(plan.retry, max(1, job.attempts), result, self._rng, age_s=age_s):
            case Retry(delay_s) if (topic := self._retry_topic(job, delay_s)) is not None:
                telling.failed(job, result, "parked", delay_s=delay_s)
                due = self._clock.now() + delay_s
                await self._put_away(job, parking.parked(job.record, topic, job.trail, due, plan.name))
            case Retry(delay_s):
                delay_s = self._in_memory(delay_s)
                telling.failed(job, result, "retried", delay_s=delay_s)
                self._dispatcher.postpone(job, delay_s)
            case GiveUp(reason):
                telling.failed(job, result, "dead_lettered")
                await self._dead_letter(job, reason)
            case Stop(reason):
                telling.failed(job, result, "stopped")
                self.gate.stop(reason)
                self._dispatcher.give_back(job)
            case Delivered():  # a failed attempt never is
                raise AssertionError(result)

    async def _give_up(self, job: Job, result: AttemptResult, reason: str) -> None:
        """To the dead letters without asking how many attempts are left."""
        job.note(self._clock.now(), result, counts=True)
        self._telling.failed(job, result, "dead_lettered")
        await self._dead_letter(job, reason)

    async def _dead_letter(self, job: Job, reason: str) -> None:
        self._telling.dead_lettered(job, reason)
        topic = parking.dlq_topic(self.plan.name)
        await self._put_away(job, parking.dead_letter(job.record, topic, job.trail, reason))

    def _retry_topic(self, job: Job, delay_s: float) -> str | None:
        """Return the topic to park in, or None to wait in memory."""
        plan = self.plan
        if isinstance(job, ParkedJob):
            waits_here = self.gate.is_closed and delay_s <= _PARKED_WAIT_S[plan.on_failure]
            return None if waits_here else job.lane.again(delay_s)
        if plan.on_failure == "block" or not plan.tiers or not self.gate.lets_park(delay_s):
            return None
        tier = parking.tier(plan.tiers, delay_s)
        if tier is None and self._dispatcher.waiting >= self._max_waiting:
            tier = plan.tiers[0]
        return None if tier is None else parking.retry_topic(tier)

    def _in_memory(self, delay_s: float) -> float:
        """While the subscriber is down, no event waits longer than its breaker."""
        return delay_s if self.gate.is_closed else min(delay_s, self.plan.breaker.max_open_s)

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
                    subscriber=self.plan.name,
                    id=redaction.event_id(job.record.id),
                    error=str(exc),
                )
            self._dispatcher.postpone(job, self._rng.uniform(0.5, 1.0) * (exc.retry_after_s or _APPEND_BACKOFF_S))
            return
        self._finish(job)

    async def _refused(self, job: Job, entry: Entry, exc: Poison) -> None:
        """The log will never take this entry, as it is larger than the event was: something smaller, or nothing."""
        bare = parking.bare(entry)
        if entry.topic != parking.dlq_topic(self.plan.name):
            await self._give_up(job, AttemptResult(error="poison", detail=str(exc)), "poison")
        elif entry != bare:
            await self._put_away(job, bare)
        else:
            self._telling.lost(job, str(exc))
            self._finish(job)

    def _finish(self, job: Job) -> None:
        self._parked -= isinstance(job, ParkedJob)
        job.lane.done(job)
        self._dispatcher.finish(job)

    def _cancelled(self, job: Job) -> None:
        """Its partition went to another process during an attempt, whose outcome nobody knows."""
        self._telling.cancelled(job)
        self._abandon(job)

    def _abandon(self, job: Job) -> None:
        self._parked -= isinstance(job, ParkedJob)
        job.lane.abandon(job)
        self._dispatcher.finish(job)


def group_name(subscriber: str) -> str:
    """Name of a subscriber's cursor in the log, and of its consumer group."""
    return f"gateway.{subscriber}"


def _stored_at(job: Job) -> float:
    return job.record.appended_at if job.trail.stored_at is None else job.trail.stored_at
