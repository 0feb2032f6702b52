"""One subscriber: a cursor on the shared reading, a schedule, workers and flow control, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog

from gateway.clock import Clock
from gateway.fanout.attempt import Sink
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.cursor import Beginning, SubscriberCursor
from gateway.fanout.flow_control import FlowControl, PersistentState, Status
from gateway.fanout.job import Job, Standing
from gateway.fanout.scheduler import Dispatcher
from gateway.fanout.subscription import Subscription
from gateway.fanout.worker import EventDelivery, Workers
from gateway.log import Begins, EventLog, Start
from gateway.log.shared_reader import SharedReader

#: What was cancelled ends within a turn of the event loop; a sink that does not is left behind.
_CUT_S: Final = 0.5
_STANDINGS: Final[Mapping[Status, Standing]] = {
    "closed": Standing.WELL,
    "open": Standing.DOWN,
    "half_open": Standing.DOWN,
    "paused": Standing.HELD,
    "stopped": Standing.HELD,
}

_log = structlog.get_logger("gateway.fanout")


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


class SubscriberReader:
    """Delivers one subscriber's events until it is stopped.

    Args:
        subscription: numbers and names.
        log: source of events, and storage of parked ones and dead letters.
        sink: sends events; closed by :meth:`stop`.
        reading: shared reading of the main topics, for all subscribers; started and stopped by its owner.
        rng: jitter and span ids.
        attempt_log: metrics, log lines and notes of attempts.
        on_state: called when the persistent state changed, to make it durable.
        beginning: where it begins in its main topics, where that was fixed as a time.
    """

    def __init__(
        self,
        subscription: Subscription,
        log: EventLog,
        sink: Sink,
        *,
        reading: SharedReader,
        clock: Clock,
        rng: Random,
        attempt_log: AttemptLog,
        on_state: Callable[[], None] = lambda: None,
        beginning: Beginning | None = None,
        is_withdrawn: Callable[[Job], bool] | None = None,
    ) -> None:
        self.subscription = subscription
        self._log = log
        self._sink = sink
        self._reading = reading
        self._clock = clock
        self._attempt_log = attempt_log
        self._dispatcher = Dispatcher(clock, by_key=subscription.ordering == "key", rate_per_s=subscription.rate_per_s)
        self.flow = FlowControl(
            subscription.breaker,
            subscription.concurrency,
            self._dispatcher,
            clock,
            rng,
            attempt_log=attempt_log,
            on_state=self._state_changed,
        )
        self._delivery = EventDelivery(
            subscription,
            log,
            sink,
            flow=self.flow,
            dispatcher=self._dispatcher,
            is_certain=reading.is_certain,
            clock=clock,
            rng=rng,
            attempt_log=attempt_log,
            is_withdrawn=is_withdrawn,
        )
        self._workers = Workers(subscription.name, self._dispatcher, self._delivery)
        self._on_state = on_state
        self._beginning = beginning
        self._incarnations: Mapping[str, str] = {}
        self._cursor = self._make_cursor()
        self._is_started = False
        self._is_stopped = False

    @property
    def cursor(self) -> SubscriberCursor:
        """Its cursor in the main topics."""
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
        """Number of events that were read from the log and are not done."""
        return self._cursor.outstanding + self._delivery.parked

    @property
    def status(self) -> SubscriberStatus:
        """The status of the subscriber in this process."""
        persistent = self.flow.persistent_state
        return SubscriberStatus(
            self.subscription.name,
            self.flow.status,
            self.outstanding,
            self.in_flight,
            persistent.stopped,
            persistent.opened_at,
            self._cursor.oldest_at,
            self._cursor.has_first_partition,
        )

    def restore(self, lasting: PersistentState) -> None:
        """Restore a stored state, or one that another process has changed."""
        self.flow.restore(lasting)
        self._reading.changed()

    def trim(self) -> None:
        """Release resources that were not used since the last call."""
        self._workers.trim()

    def start(self) -> None:
        """Start reading and delivering. Call it once; after :meth:`stop` it does nothing."""
        if self._is_stopped or self._is_started:
            return
        self.flow.start()
        self._is_started = True
        self._reading.add(self._cursor)

    async def stop(self, deadline_s: float) -> None:
        """Stop reading, let attempts in flight end for at most ``deadline_s``, make commits durable.

        Events that are not delivered by then stay uncommitted and are read again. May be called twice, or before the
        start.
        """
        self._is_stopped = True
        self.flow.suspend()
        await self._reading.remove(self._cursor)
        if self._dispatcher.in_flight:
            try:
                async with asyncio.timeout(deadline_s):
                    await self._dispatcher.drained()
            except TimeoutError:
                _log.warning("subscriber.stop_cut_short", subscriber=self.subscription.name, in_flight=self.in_flight)
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
        return _STANDINGS[self.flow.status]

    def offer(self, job: Job) -> None:
        """See :meth:`gateway.fanout.job.Recipient.offer`."""
        self._delivery.parked += 1
        self._dispatcher.offer(job)

    def withdraw(self, job: Job) -> None:
        """See :meth:`gateway.fanout.job.Recipient.withdraw`."""
        self._delivery.parked -= 1
        self._dispatcher.discard(job)

    def cut(self, jobs: Collection[Job]) -> None:
        """See :meth:`gateway.fanout.job.Recipient.cut`."""
        self._workers.cut(jobs)

    def _make_cursor(self) -> SubscriberCursor:
        subscription = self.subscription
        return SubscriberCursor(
            group_name(subscription.name),
            subscription.topics,
            self._dispatcher,
            self._log.cursors,
            clock=self._clock,
            window=subscription.window,
            wants=subscription.wants,
            begins=self._begins,
            on_opened=self._note_incarnations,
            is_willing=self._is_willing,
            cut=self._workers.cut,
            on_skipped=self._attempt_log.skipped,
            on_change=self._reading.changed,
        )

    async def _begins(self) -> Start | Begins:
        return self.subscription.start if self._beginning is None else await self._beginning.asked()

    def _note_incarnations(self) -> bool:
        """Note what is read now; returns whether that is all there is to note."""
        if self._beginning is None:
            return True
        if (found := self._reading.incarnations()) != self._incarnations:
            self._incarnations = found
            self._beginning.on_opened(found)
        return self._cursor.topics <= found.keys()

    def _is_willing(self) -> bool:
        """Return whether it accepts events: while it is down, one is enough to see whether it is back."""
        seen = self.flow.status
        return seen == "closed" or (seen in {"open", "half_open"} and not self._cursor.outstanding)

    def _state_changed(self) -> None:
        self._on_state()
        self._reading.changed()


def group_name(subscriber: str) -> str:
    """Return the name of a subscriber's cursor in the log, and of its consumer group."""
    return f"gateway.{subscriber}"
