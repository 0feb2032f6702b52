"""A clock that stands still until the test moves it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from tests.waiting import turn


class Call:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    def __init__(self, now: float = 1_760_000_000.0) -> None:
        self.started = now
        self.time = now
        #: By how much somebody has set the time of day.
        self.set_by_s = 0.0
        self._calls: list[tuple[float, int, Call]] = []
        self._number = count()

    def now(self) -> float:
        return self.time + self.set_by_s

    def monotonic(self) -> float:
        return self.time

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Call:
        call = Call(callback)
        heapq.heappush(self._calls, (self.time + delay_s, next(self._number), call))
        return call

    def next_call(self) -> float | None:
        while self._calls and self._calls[0][2].callback is None:
            heapq.heappop(self._calls)
        return self._calls[0][0] if self._calls else None

    def advance_to(self, when: float) -> None:
        """Make every call that is due until ``when``, each at its time."""
        while (due := self.next_call()) is not None and due <= when:
            _, _, call = heapq.heappop(self._calls)
            self.time = max(self.time, due)
            callback, call.callback = call.callback, None
            assert callback is not None
            callback()
        self.time = max(self.time, when)

    def advance(self, seconds: float) -> None:
        self.advance_to(self.time + seconds)


async def turns(count: int = 20) -> None:
    """Let everything that can go on without time or I/O go on."""
    for _ in range(count):
        await turn()
