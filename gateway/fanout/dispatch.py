"""Gives jobs to workers: the schedule, brought to life with a limit and a timer.

There is no task for an event: a worker (:mod:`gateway.fanout.workers`) gets a job, attempts it, reports its outcome,
and requests the next one. At most :attr:`Dispatcher.limit` jobs are with workers; 0 stops every job that has not begun.
A bucket limits their rate. All times are monotonic, so that a change of the clock makes no job early or late.

Between changes, the schedule has no job that may be handed out. A worker that returns a job makes room for one, which
is its own: so returning a job hands none out, and requesting the next one does not look further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock, Timer
from gateway.fanout.job import Job
from gateway.fanout.rate import TokenBucket
from gateway.fanout.schedule import Schedule

#: A timer is set again if the next job is due more than this before it.
_EARLIER_S = 0.001
#: A retry that is due so soon waited for its subscriber; one that waits for longer has trouble of its own.
_SOON_S = 60.0


class Dispatcher:
    """Gives jobs out, one at a time for each key, and takes them back.

    Args:
        give: takes a job that may go out now, and has it handed to finish, postpone or give_back, and :meth:`take`
            called afterwards. Never blocks.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        by_key: bool,
        limit: int,
        give: Callable[[Job], None],
        bucket: TokenBucket | None = None,
    ) -> None:
        self._clock = clock
        self._give = give
        self._bucket = bucket
        self._schedule = Schedule(by_key=by_key)
        self._limit = limit
        self._is_probing = False
        self._drained: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Number of jobs that may be with workers."""
        return self._limit

    def permit(self, limit: int, *, is_probing: bool = False) -> None:
        """Set how many jobs may be with workers, and whether they probe if the subscriber is back."""
        self._limit = limit
        self._is_probing = is_probing
        self._hand_out()

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for retry."""
        return self._schedule.waiting

    def take(self) -> Job | None:
        """Return the next job, for a worker that has handed one back; None: it will be given one when there is."""
        return self._next() if self.in_flight < self._limit else None

    def offer(self, job: Job) -> None:
        """Add a job."""
        self._schedule.offer(job, self._clock.monotonic())
        self._hand_out()

    def hurry(self) -> None:
        """Release retries that are due soon with the next :meth:`permit`: the subscriber is back."""
        self._schedule.hurry(self._clock.monotonic(), _SOON_S)

    def finish(self, job: Job) -> None:
        """Remove a job that is done."""
        self._schedule.finish(job)
        self._landed()

    def postpone(self, job: Job, delay_s: float) -> None:
        """Retry a job in ``delay_s`` seconds; its key waits."""
        self._schedule.postpone(job, self._clock.monotonic() + delay_s)
        self._landed()

    def give_back(self, job: Job) -> None:
        """Put a job back that was not attempted; it is first."""
        self._schedule.give_back(job)
        self._landed()

    def discard(self, job: Job) -> None:
        """Forget a job that is not with a worker."""
        self._schedule.discard(job)
        self._hand_out()

    async def drained(self) -> None:
        """Wait until no job is with a worker."""
        while self.in_flight:
            landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(landed)
            await landed

    def close(self) -> None:
        """Stop assigning jobs, and cancel the timer."""
        self._limit = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _landed(self) -> None:
        self.in_flight -= 1
        if not self.in_flight and self._drained:
            waiters, self._drained = self._drained, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _hand_out(self) -> None:
        while self.in_flight < self._limit and (job := self._next()) is not None:
            self._give(job)

    def _next(self) -> Job | None:
        """Return a job that may start now; if there is none, set the timer for when there may be."""
        bucket, now = self._bucket, self._clock.monotonic()
        if bucket is not None:
            wait_s = bucket.wait_s(now)
            if wait_s > 0:
                self._set_timer(now + wait_s)
                return None
        job = self._schedule.take(now, is_probe=self._is_probing)
        if job is None:
            due = self._schedule.next_due()
            if due is not None:
                self._set_timer(due)
            return None
        if bucket is not None:
            bucket.take(now)
        self.in_flight += 1
        return job

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            if self._timer_at <= due + _EARLIER_S:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._hand_out()
