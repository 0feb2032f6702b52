"""Events per second, as a token bucket.

The bucket is kept as one number, the *theoretical arrival time* of the next event (GCRA, ITU-T I.371). The
dispatcher asks how long to wait before it hands out a job, and takes a token when it does; nothing polls, and
no worker is held. Over any time ``t`` at most ``rate * (t + burst_s) + 1`` events pass.
"""

from __future__ import annotations

from typing import Final

#: Lateness that may be caught up, in seconds of the rate: timers and a busy loop are late by some tens of
#: milliseconds. Ten times less loses rate under load; ten times more breaks the 2 % over ten seconds.
BURST_S: Final = 0.05


class TokenBucket:
    """At most ``rate_per_s`` events a second, evenly. Times are monotonic seconds.

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
