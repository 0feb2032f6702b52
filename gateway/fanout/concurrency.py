"""Adaptive number of attempts at once: grows while the subscriber keeps up, halves on a sign of overload.

Additive increase, multiplicative decrease, as TCP does it (RFC 5681: slow start below the threshold, then
one more for each round; one decrease for each round at most). A sign of overload is 429, 503 or a time-out.
Latency well above its usual level stops the growth but does not shrink: a slow receiver is not an
overloaded one.
"""

from __future__ import annotations

from typing import Final

#: Latency above this multiple of the usual one is taken for queueing at the subscriber.
_SLOW: Final = 2.0
#: Weight of one answer in the recent latency.
_RECENT: Final = 0.1
#: Weight of one round in the usual latency where it rises: a subscriber that stays slow is the new usual after some
#: thirty rounds. By rounds, as few attempts at a time give few answers: counted by answers, a limit of one would stay
#: one for half an hour.
_USUAL_UP: Final = 0.03


class AdaptiveLimit:
    """The limit on attempts in flight, 1 to ``maximum``. It starts at the maximum that the operator chose."""

    __slots__ = ("_cut_until", "_limit", "_recent_s", "_started", "_threshold", "_usual_s", "maximum")

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._limit = float(maximum)
        self._threshold = float(maximum)
        self._recent_s = 0.0
        self._usual_s = 0.0
        self._started = 0
        self._cut_until = 0

    @property
    def limit(self) -> int:
        """Attempts that may be in flight now."""
        return int(self._limit)

    def begin(self) -> int:
        """Note the start of an attempt; return its number for :meth:`end`."""
        self._started += 1
        return self._started

    def end(self, number: int, *, is_overload: bool, latency_s: float) -> bool:
        """Note the end of an attempt; return whether :attr:`limit` changed.

        Attempts that began before the last decrease do not decrease again.

        Args:
            number: returned by :meth:`begin`.
            is_overload: the result is a sign of overload.
            latency_s: duration of the attempt.
        """
        if not is_overload and self._limit == self.maximum:  # the hot path
            self._learn(latency_s)
            return False
        before = int(self._limit)
        if is_overload:
            if number > self._cut_until:
                self._limit = self._threshold = max(1.0, self._limit / 2)
                self._cut_until = self._started
        else:
            self._learn(latency_s)
            if self._limit < self.maximum and self._recent_s <= self._usual_s * _SLOW:
                step = 1.0 if self._limit < self._threshold else 1.0 / int(self._limit)
                self._limit = min(float(self.maximum), self._limit + step)
        return int(self._limit) != before

    def restart(self) -> None:
        """Begin at one after an outage, and grow quickly up to half of the previous limit.

        The usual latency from before the outage does not apply after it: it is measured again.
        """
        self._recent_s = self._usual_s = 0.0
        self._threshold = max(1.0, self._limit / 2)
        self._limit = 1.0
        self._cut_until = self._started

    def _learn(self, latency_s: float) -> None:
        if self._usual_s == 0.0:
            self._recent_s = self._usual_s = latency_s
            return
        self._recent_s += _RECENT * (latency_s - self._recent_s)
        if self._recent_s < self._usual_s:
            self._usual_s = self._recent_s
        else:
            self._usual_s += _USUAL_UP / int(self._limit) * (self._recent_s - self._usual_s)
