"""Which event may be attempted next: pure, no tasks, no clock, no I/O.

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
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count

from gateway.fanout.job import Job, JobState


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
