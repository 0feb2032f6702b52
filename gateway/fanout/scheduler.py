"""Choose the next event of a subscriber, and the time of its attempt. Pure, but for the timer of :class:`Dispatcher`.

Every job is in one state::

            due later                    due now
    offer ─────────────► LATER ─────────────────────────┐
      │                                                 ▼
      └───── its key is free ──► READY ◄── promoted ── BEHIND (its key is taken)
                                  │ ▲
                             take │ │ due, or given back
                                  ▼ │
                    finish ◄── FLIGHT ──► WAITING (for retry; its key stays taken)

A key is *taken* from the moment a job of it is ready until that job is finished: at most one job of a key
is READY, FLIGHT or WAITING, the others are BEHIND it in the order they were offered. A job WAITING blocks
its key and nothing else. LATER is for parked events whose time has not come; they have no key yet.

Without ``by_key`` no job is BEHIND.

Of those READY, retries go before events that were never attempted, and the one that has been due for longest goes
first. While the breaker probes that would let one bad event keep it open, as it may be due again before every other:
there, those that failed fewer probes go first, and an event that was never attempted before a retry that failed one.
When the subscriber is back, retries no longer wait, and go in the order of the log.

A discarded job (at a rebalance) stays in its queue until it is found there, or until half of all jobs in the queues
are discarded: a paused subscriber takes no jobs, and each rebalance would add a window of them to the memory.

A worker (:mod:`gateway.fanout.worker`) gets a job from the :class:`Dispatcher`, attempts it, reports its outcome, and
requests the next one. At most :attr:`Dispatcher.limit` jobs are with workers; 0 stops every job that has not begun. A
bucket limits their rate. All times are monotonic, so that a change of the clock makes no job early or late.

Between changes, the schedule has no job that may be handed out. A worker that returns a job makes room for one, which
is its own: so returning a job hands none out, and requesting the next one does not look further.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from gateway.clock import Clock, Timer
from gateway.fanout.job import Job, JobState

#: Lateness that may be caught up, in seconds of the rate: timers and a busy loop are late by some tens of
#: milliseconds. Ten times less loses rate under load; ten times more breaks the 2 % over ten seconds.
BURST_S: Final = 0.05
#: A timer is set again if the next job is due more than this before it.
_EARLIER_S: Final = 0.001
#: A retry that is due so soon waited for its subscriber; one that waits for longer has trouble of its own.
_SOON_S: Final = 60.0


class Schedule:
    """Jobs in the order they may go out. All operations are O(log n) or better."""

    __slots__ = ("_by_key", "_gone", "_keys", "_new", "_number", "_retries", "_timers", "waiting")

    def __init__(self, *, by_key: bool) -> None:
        self._by_key = by_key
        self._keys: dict[str, deque[Job] | None] = {}
        self._new: deque[Job] = deque()  # never attempted
        self._retries: list[tuple[float, int, Job]] = []  # a heap; by the time since which each is due
        self._timers: list[tuple[float, int, Job]] = []
        self._number = count()
        self._gone = 0  # of those in the three
        #: Jobs that wait for retry, each blocking its key.
        self.waiting = 0

    def offer(self, job: Job, now: float) -> None:
        """Add a job; it may start when its ``due`` is past and its key is free."""
        if job.due > now:
            job.state = JobState.LATER
            heapq.heappush(self._timers, (job.due, next(self._number), job))
        else:
            self._enter(job)

    def take(self, now: float, *, is_probe: bool = False) -> Job | None:
        """Return the next job that may be attempted, now in flight; None when there is none.

        Args:
            now: monotonic seconds.
            is_probe: the attempt checks whether the subscriber is back.
        """
        if self._timers and self._timers[0][0] <= now:
            self._wake(now)
        if self._gone:
            self._shed()
        if not self._retries and not self._new:
            return None
        if not self._retries or (is_probe and self._new and self._least_probed()[2].probes):
            job = self._new.popleft()
        else:
            job = self._take_retry(is_probe=is_probe)
        job.state = JobState.FLIGHT
        return job

    def finish(self, job: Job) -> None:
        """Complete a job in flight; the next of its key may start."""
        job.state = JobState.GONE
        self._promote(job)

    def postpone(self, job: Job, due: float) -> None:
        """Schedule a job in flight for a retry at ``due``; its key waits with it."""
        job.state = JobState.WAITING
        job.due = due
        self.waiting += 1
        heapq.heappush(self._timers, (due, next(self._number), job))

    def give_back(self, job: Job) -> None:
        """Put a job back that was not attempted after all; it is the first of its kind."""
        self._be_ready(job, is_first=True)

    def discard(self, job: Job) -> None:
        """Forget a job that is not in flight."""
        before, job.state = job.state, JobState.GONE
        if before is JobState.WAITING:
            self.waiting -= 1
        if before in (JobState.READY, JobState.WAITING):
            self._promote(job)
        if before in (JobState.LATER, JobState.READY, JobState.WAITING):
            self._gone += 1
            if 2 * self._gone > len(self._new) + len(self._retries) + len(self._timers):
                self._sweep()

    def hurry(self, now: float, within_s: float) -> None:
        """Make retries ready now, in the order of their events in the log.

        Args:
            now: monotonic seconds.
            within_s: retries that are due within so many seconds become ready too.
        """
        until = now + within_s
        ready = [job for _, _, job in self._retries if job.state is JobState.READY]
        soon = [job for due, _, job in self._timers if job.state is JobState.WAITING and due <= until]
        self._gone -= len(self._retries) - len(ready)
        self._retries = []
        self._timers = [one for one in self._timers if one[2].state is not JobState.WAITING or one[0] > until]
        heapq.heapify(self._timers)
        self.waiting -= len(soon)
        for job in sorted([*ready, *soon], key=lambda one: (one.record.appended_at, one.record.offset)):
            job.state = JobState.READY
            heapq.heappush(self._retries, (now, next(self._number), job))

    def next_due(self) -> float | None:
        """Return when :meth:`take` may next have a job, if nothing else happens."""
        while self._timers and self._timers[0][2].state is JobState.GONE:
            heapq.heappop(self._timers)
            self._gone -= 1
        return self._timers[0][0] if self._timers else None

    def _enter(self, job: Job) -> None:
        if self._by_key:
            key = job.record.key
            if key in self._keys:
                behind = self._keys[key]
                if behind is None:
                    behind = self._keys[key] = deque()
                behind.append(job)
                job.state = JobState.BEHIND
                return
            self._keys[key] = None
        self._be_ready(job)

    def _be_ready(self, job: Job, *, is_first: bool = False) -> None:
        job.state = JobState.READY
        if job.trail.steps:
            heapq.heappush(self._retries, (job.due, next(self._number), job))
        elif is_first:
            self._new.appendleft(job)
        else:
            self._new.append(job)

    def _shed(self) -> None:
        """Forget what is gone at the heads, so that each head may go out."""
        while self._new and self._new[0].state is JobState.GONE:
            self._new.popleft()
            self._gone -= 1
        while self._retries and self._retries[0][2].state is JobState.GONE:
            heapq.heappop(self._retries)
            self._gone -= 1

    def _take_retry(self, *, is_probe: bool) -> Job:
        if not is_probe:
            return heapq.heappop(self._retries)[2]
        found = self._least_probed()
        self._retries.remove(found)
        heapq.heapify(self._retries)
        return found[2]

    def _least_probed(self) -> tuple[float, int, Job]:
        """Return the retry that failed the fewest probes; of several, the one that has been due for longest."""
        there = (one for one in self._retries if one[2].state is JobState.READY)
        return min(there, key=lambda one: (one[2].probes, one[0], one[1]))

    def _promote(self, job: Job) -> None:
        if not self._by_key:
            return
        key = job.record.key
        behind = self._keys[key]
        while behind:
            following = behind.popleft()
            if following.state is JobState.BEHIND:
                self._be_ready(following)
                return
        del self._keys[key]

    def _wake(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            job = heapq.heappop(self._timers)[2]
            if job.state is JobState.LATER:
                self._enter(job)
            elif job.state is JobState.WAITING:
                self.waiting -= 1
                self._be_ready(job)
            else:
                self._gone -= 1

    def _sweep(self) -> None:
        self._new = deque(job for job in self._new if job.state is not JobState.GONE)
        self._retries = [one for one in self._retries if one[2].state is not JobState.GONE]
        heapq.heapify(self._retries)
        self._timers = [timer for timer in self._timers if timer[2].state is not JobState.GONE]
        heapq.heapify(self._timers)
        self._gone = 0


class TokenBucket:
    """At most ``rate_per_s`` events a second, evenly. Times are monotonic seconds.

    The bucket is kept as one number, the *theoretical arrival time* of the next event (GCRA, ITU-T I.371). Nothing
    polls, and no worker is held. Over any time ``t`` at most ``rate * (t + burst_s) + 1`` events pass.

    Args:
        rate_per_s: above 0.
        burst_s: how much of a pause may be made up for afterwards.
    """

    __slots__ = ("_burst_s", "_interval_s", "_next")

    def __init__(self, rate_per_s: float, *, burst_s: float = BURST_S) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._burst_s = burst_s
        self._next = float("-inf")

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next event may pass, 0 when it may at once."""
        return max(0.0, self._next - now)

    def take(self, now: float) -> None:
        """Count one event that passes."""
        self._next = max(self._next, now - self._burst_s) + self._interval_s


class Dispatcher:
    """Gives jobs out, one at a time for each key, and takes them back.

    It gives none until :meth:`permit`.

    Args:
        by_key: one job of each key at a time.
        rate_per_s: at most so many jobs a second; None: any number.
    """

    #: Takes a job that may go out now, and has it handed to finish, postpone or give_back, and :meth:`take` called
    #: afterwards. Never blocks. Set by the workers.
    give: Callable[[Job], None]

    def __init__(self, clock: Clock, *, by_key: bool, rate_per_s: float | None = None) -> None:
        self._clock = clock
        self._bucket = None if rate_per_s is None else TokenBucket(rate_per_s)
        self._schedule = Schedule(by_key=by_key)
        self._limit = 0
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
            self.give(job)

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
