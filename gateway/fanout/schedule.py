"""Which event may be attempted next: pure, no tasks, no clock, no I/O.

Every job is at one place::

            due later                    due now
    offer ─────────────► LATER ─────────────────────────┐
      │                                                 ▼
      └───── its key is free ──► READY ◄── promoted ── BEHIND (its key is taken)
                                  │ ▲
                             take │ │ due, or given back
                                  ▼ │
                    finish ◄── FLIGHT ──► WAITING (for retry; its key stays taken)

A key is *taken* from the moment a job of it is ready until that job is finished: at most one job of a key
is READY, FLIGHT or WAITING, the others stand BEHIND it in the order they were offered. A job WAITING blocks
its key and nothing else. LATER is for parked events whose time has not come; they have no key yet.

Without ``by_key`` nothing stands behind anything.

What is discarded (at a rebalance) stays in the queue it stands in until it is met there, or until half of all that
stands in the queues is such: a subscriber that is paused meets nothing, and each rebalance would hold a window more.
"""

from __future__ import annotations

import heapq
from collections import deque
from enum import IntEnum
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.fanout.job import Job


class Place(IntEnum):
    """Where a job stands; see the picture above."""

    LATER = 0
    BEHIND = 1
    READY = 2
    FLIGHT = 3
    WAITING = 4
    GONE = 5


class Schedule:
    """Jobs in the order they may go out. All operations are O(log n) or better."""

    __slots__ = ("_by_key", "_gone", "_keys", "_number", "_ready", "_timers", "waiting")

    def __init__(self, *, by_key: bool) -> None:
        self._by_key = by_key
        self._keys: dict[str, deque[Job] | None] = {}
        self._ready: deque[Job] = deque()
        self._timers: list[tuple[float, int, Job]] = []
        self._number = count()
        self._gone = 0  # of those in _ready and _timers
        #: Jobs that wait for retry, each blocking its key.
        self.waiting = 0

    def offer(self, job: Job, now: float) -> None:
        """Take a job in; it goes out when its ``due`` is past and its key is free."""
        if job.due > now:
            job.place = Place.LATER
            heapq.heappush(self._timers, (job.due, next(self._number), job))
        else:
            self._enter(job)

    def take(self, now: float) -> Job | None:
        """The next job that may be attempted, now in flight; None when there is none."""
        if self._timers and self._timers[0][0] <= now:
            self._wake(now)
        ready = self._ready
        while ready:
            job = ready.popleft()
            if job.place is Place.READY:
                job.place = Place.FLIGHT
                return job
            self._gone -= 1
        return None

    def finish(self, job: Job) -> None:
        """A job in flight needs nothing more; the next of its key may go."""
        job.place = Place.GONE
        self._promote(job)

    def postpone(self, job: Job, due: float) -> None:
        """A job in flight is to be tried again at ``due``; its key waits with it."""
        job.place = Place.WAITING
        job.due = due
        self.waiting += 1
        heapq.heappush(self._timers, (due, next(self._number), job))

    def give_back(self, job: Job) -> None:
        """A job in flight was not attempted after all; it goes first."""
        job.place = Place.READY
        self._ready.appendleft(job)

    def discard(self, job: Job) -> None:
        """Forget a job that is not in flight."""
        before, job.place = job.place, Place.GONE
        if before is Place.WAITING:
            self.waiting -= 1
        if before in (Place.READY, Place.WAITING):
            self._promote(job)
        if before in (Place.LATER, Place.READY, Place.WAITING):
            self._gone += 1
            if 2 * self._gone > len(self._ready) + len(self._timers):
                self._sweep()

    def next_due(self) -> float | None:
        """When :meth:`take` may have more to give, if nothing else happens."""
        while self._timers and self._timers[0][2].place is Place.GONE:
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
                job.place = Place.BEHIND
                return
            self._keys[key] = None
        job.place = Place.READY
        self._ready.append(job)

    def _promote(self, job: Job) -> None:
        if not self._by_key:
            return
        key = job.record.key
        behind = self._keys[key]
        while behind:
            following = behind.popleft()
            if following.place is Place.BEHIND:
                following.place = Place.READY
                self._ready.append(following)
                return
        del self._keys[key]

    def _wake(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            job = heapq.heappop(self._timers)[2]
            if job.place is Place.LATER:
                self._enter(job)
            elif job.place is Place.WAITING:
                self.waiting -= 1
                job.place = Place.READY
                self._ready.append(job)
            else:
                self._gone -= 1

    def _sweep(self) -> None:
        self._ready = deque(job for job in self._ready if job.place is not Place.GONE)
        self._timers = [timer for timer in self._timers if timer[2].place is not Place.GONE]
        heapq.heapify(self._timers)
        self._gone = 0
