"""The tasks that attempt a subscriber's events: as many as the work needs.

A worker is created when an event may be attempted and no worker is idle, so that there are never more workers than
permitted attempts; :meth:`Workers.trim` ends those that had no work. A subscriber without events has no workers
and no timer.

A single attempt can be cancelled: its worker continues with other events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection

from gateway.fanout.dispatch import Dispatcher
from gateway.fanout.job import Job


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
        deliver: attempts one job and hands it back to the dispatcher; raises nothing.
        on_cut: called with a job whose delivery was cancelled; hands it back to the dispatcher.
    """

    def __init__(
        self,
        subscriber: str,
        dispatcher: Dispatcher,
        deliver: Callable[[Job], Awaitable[None]],
        on_cut: Callable[[Job], None],
    ) -> None:
        self._subscriber = subscriber
        self._dispatcher = dispatcher
        self._deliver = deliver
        self._on_cut = on_cut
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
                    await self._deliver(job)
                except asyncio.CancelledError:
                    if not worker.was_cut():
                        raise
                    self._on_cut(job)
                worker.job = None
                worker.was_cut()  # or it ended all the same
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
