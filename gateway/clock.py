"""Time as something handed in, so that an hour of outage takes a test a second."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Forget the call; harmless when it was made already."""


class Clock(Protocol):
    """Time for fan-out: ``now`` for stored timestamps, ``monotonic`` for durations."""

    def now(self) -> float:
        """Return Unix seconds, UTC."""

    def monotonic(self) -> float:
        """Return seconds since some start; never goes back."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the event loop in ``delay_s`` seconds."""


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """See :class:`Clock`."""
        return asyncio.get_running_loop().call_later(delay_s, callback)


async def sleep(clock: Clock, delay_s: float) -> None:
    """Wait ``delay_s`` seconds of this clock; cancelling it forgets the timer."""
    if delay_s <= 0:
        return
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    timer = clock.call_later(delay_s, wake)
    try:
        await woken
    finally:
        timer.cancel()


@dataclass(slots=True)
class Backoff:
    """Growing pauses with jitter between attempts, ``first_s`` up to ``last_s`` seconds."""

    first_s: float = 0.2
    last_s: float = 5.0
    _next_s: float = 0.0

    def next_s(self) -> float:
        """Return the pause before the next attempt, seconds: half fixed, half random, so that clients are spread."""
        self._next_s = min(max(self._next_s * 2, self.first_s), self.last_s)
        return self._next_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again with the shortest pause, after a success."""
        self._next_s = 0.0


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Run a client's ``stop()`` or similar work for a limited time, then cancel it; return whether it ended itself.

    Its errors are dropped: the caller only wants it to end. When we are cancelled, so is it.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        is_done = task.done()
        if not is_done:
            task.cancel()
    with suppress(Exception, asyncio.CancelledError):
        if is_done:
            task.result()
    return is_done
