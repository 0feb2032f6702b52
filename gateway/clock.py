"""Time as something handed in, so that an hour of outage takes a test a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Forget the call; harmless when it was made already."""


class Clock(Protocol):
    """What fan-out asks of time. ``now`` is what is written down, ``monotonic`` what durations are made of."""

    def now(self) -> float:
        """Unix seconds, UTC."""

    def monotonic(self) -> float:
        """Seconds since some start; never goes back."""

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


def doubling(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield the pauses between attempts, in seconds: each twice as long as the one before.

    Args:
        first_s: the first pause.
        longest_s: no pause is longer.
    """
    while True:
        yield first_s
        first_s = min(longest_s, first_s * 2)
