"""One time-out for all attempts of a subscriber: what began first is due first, so the first one's timer will do.

A timer of its own for each attempt, as the HTTP client would make, costs a twentieth of the whole delivery.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.clock import Clock, Timer


class Deadlines:
    """Cancels tasks that take longer than ``timeout_s``::

        task = deadlines.begin()
        try:
            await something()
        except asyncio.CancelledError:
            if not deadlines.is_late(task):
                raise  # another part cancelled this task
        finally:
            deadlines.end(task)

    Args:
        timeout_s: seconds, the same for all.
    """

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._open: dict[asyncio.Task[Any], float] = {}  # in the order of their deadlines
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: Timer | None = None

    def begin(self) -> asyncio.Task[Any]:
        """Start the deadline of the running task. A task has one deadline at a time."""
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = self._clock.monotonic() + self._timeout_s
        if self._timer is None:
            self._timer = self._clock.call_later(self._timeout_s, self._ring)
        return task

    def is_late(self, task: asyncio.Task[Any]) -> bool:
        """Return whether only the deadline cancelled the task, which then continues as if it was not cancelled."""
        return task in self._late and task.uncancel() == 0

    def end(self, task: asyncio.Task[Any]) -> None:
        """End the deadline of a task."""
        self._open.pop(task, None)
        self._late.discard(task)

    def _ring(self) -> None:
        """Cancel the tasks that are due, and set the timer for the next one."""
        self._timer = None
        now = self._clock.monotonic()
        while self._open:
            task, due = next(iter(self._open.items()))
            if due > now:
                self._timer = self._clock.call_later(due - now, self._ring)
                return
            del self._open[task]
            self._late.add(task)
            task.cancel()
