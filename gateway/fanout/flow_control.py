"""The number of attempts that a subscriber may have in flight now, and the reason.

=====================  ==============================================================================
paused                 0: an operator paused it
stopped                0: the subscriber answered 410, or an operator stopped it
held                   0 until the time that ``Retry-After`` of a 429 or 503 gave
breaker open           0 until the next probe; at the time of ``Retry-After`` where it was given
breaker half open      1
otherwise              the adaptive limit
=====================  ==============================================================================

Paused, stopped and the breaker's state are persistent: they are passed to ``on_state`` and restored after a restart.
Holds and probes are due by the monotonic clock; the time of day is only recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from gateway.clock import Clock, Timer
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.circuit_breaker import Breaker, BreakerPolicy
from gateway.fanout.scheduler import Dispatcher

#: What is seen outside. ``held`` counts as closed.
Status = Literal["closed", "open", "half_open", "paused", "stopped"]

#: No ``Retry-After`` holds a whole subscriber for longer; its events still honour theirs.
MAX_HOLD_S: Final = 3600.0
#: Nor for less: a date is named to the second, and each probe takes one attempt.
_MIN_HOLD_S: Final = 0.5
#: Latency above this multiple of the usual one is taken for queueing at the subscriber.
_SLOW: Final = 2.0
#: Weight of one answer in the recent latency.
_RECENT: Final = 0.1
#: Weight of one round in the usual latency where it rises: a subscriber that stays slow is the new usual after some
#: thirty rounds. By rounds, as few attempts at a time give few answers: counted by answers, a limit of one would stay
#: one for half an hour.
_USUAL_UP: Final = 0.03


@dataclass(frozen=True, slots=True)
class PersistentState:
    """State that outlives the process.

    Args:
        paused: by a person.
        stopped: why it was stopped; empty when it was not.
        opened_at: Unix seconds since when the breaker is not closed; None when it is.
        open_s: its wait between probes.
    """

    paused: bool = False
    stopped: str = ""
    opened_at: float | None = None
    open_s: float = 0.0


class AdaptiveLimit:
    """The limit on attempts in flight, 1 to ``maximum``. It starts at the maximum that the operator chose.

    Additive increase, multiplicative decrease, as TCP does it (RFC 5681: slow start below the threshold, then one more
    for each round; one decrease for each round at most). A sign of overload is 429, 503 or a time-out. Latency well
    above its usual level stops the growth but does not shrink: a slow receiver is not an overloaded one.
    """

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


class FlowControl:
    """Sets the dispatcher's limit. Permits none until :meth:`start`.

    Args:
        policy: when the breaker opens, and how it probes.
        concurrency: attempts at once, at most.
        rng: jitter of the probes.
        on_state: called when the persistent state changed.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        concurrency: int,
        dispatcher: Dispatcher,
        clock: Clock,
        rng: Random,
        *,
        attempt_log: AttemptLog,
        on_state: Callable[[], None],
    ) -> None:
        self._breaker = Breaker(policy, rng)
        self._adaptive = AdaptiveLimit(concurrency)
        self._dispatcher = dispatcher
        self._clock = clock
        self._attempt_log = attempt_log
        self._on_state = on_state
        self._is_open = False
        self._paused = False
        self._stopped = ""
        self._held_until = float("-inf")
        self._opened_at: float | None = None  # Unix seconds
        self._is_hearsay = False  # open by a restored state, and not by an attempt of this process
        self._timer: Timer | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether the breaker is closed: the subscriber counts as healthy."""
        return self._breaker.state == "closed"

    def lets_park(self, delay_s: float) -> bool:
        """Return whether a wait of so long is the event's own, and not caused by a shorter hold of the subscriber."""
        return self.is_healthy and (self._dispatcher.limit > 0 or delay_s > MAX_HOLD_S)

    @property
    def status(self) -> Status:
        """The state for people and metrics."""
        if self._stopped:
            return "stopped"
        return "paused" if self._paused else self._breaker.state

    @property
    def persistent_state(self) -> PersistentState:
        """The state to keep over a restart."""
        return PersistentState(
            self._paused, self._stopped, self._opened_at, 0.0 if self.is_healthy else self._breaker.open_s
        )

    def restore(self, kept: PersistentState) -> None:
        """Restore a stored state, before :meth:`start` or after another process changed it."""
        self._paused = kept.paused
        self._stopped = kept.stopped
        if kept.opened_at is not None and self.is_healthy and not self._is_open:
            self._opened_at = kept.opened_at
            self._is_hearsay = True
            self._breaker.restore(kept.open_s, self._clock.monotonic())
        elif kept.opened_at is None and self._is_hearsay:
            # Another process got through. One that has no partition with events would otherwise never find out.
            self._opened_at = None
            self._is_hearsay = False
            self._breaker.close()
        self._apply()

    def start(self) -> None:
        """Permit attempts."""
        self._is_open = True
        self._apply()

    def suspend(self) -> None:
        """Permit no further attempts."""
        self._is_open = False
        self._apply()

    def pause(self) -> None:
        """Permit no attempts until :meth:`resume`; events wait in the log."""
        self._change(paused=True, stopped=self._stopped)

    def resume(self) -> None:
        """Resume after a pause or a stop, at the subscriber's position. An open breaker stays open until a probe."""
        self._change(paused=False, stopped="")

    def stop(self, reason: str) -> None:
        """Stop: the subscriber wants no more events."""
        self._attempt_log.stopped(reason)
        self._change(paused=self._paused, stopped=reason)

    def begin(self) -> int:
        """Note the start of an attempt; return its number for :meth:`delivered` or :meth:`failed`."""
        return self._adaptive.begin()

    def delivered(self, event_id: str, number: int, latency_s: float) -> None:
        """Record a successful attempt.

        Args:
            event_id: id of the event.
            number: of the attempt, from :meth:`begin`.
            latency_s: duration of the attempt.
        """
        is_changed = self._adaptive.end(number, is_overload=False, latency_s=latency_s)
        is_changed |= self._record(event_id, is_success=True)
        if is_changed:
            self._apply()

    def failed(self, event_id: str, number: int, result: AttemptResult) -> None:
        """Record a failed attempt.

        Args:
            event_id: id of the event.
            number: of the attempt, from :meth:`begin`.
            result: its result.
        """
        is_changed = self._adaptive.end(number, is_overload=result.is_overload, latency_s=result.duration_s)
        named_at: float | None = None
        if result.retry_after_s and result.status in {429, 503}:
            hold_s = min(MAX_HOLD_S, max(_MIN_HOLD_S, result.retry_after_s))
            named_at = self._held_until = max(self._held_until, self._clock.monotonic() + hold_s)
            is_changed = True
        is_changed |= self._record(event_id, is_success=False, named_at=named_at)
        if is_changed:
            self._apply()

    def _record(self, event_id: str, *, is_success: bool, named_at: float | None = None) -> bool:
        before = self._breaker.state
        now = self._clock.monotonic()
        self._is_hearsay = False
        if not self._breaker.record(event_id, is_success=is_success, now=now, named_at=named_at):
            return False
        if before == "closed":
            self._opened_at = self._clock.now()
        elif self._breaker.state == "closed":
            self._opened_at = None
            self._adaptive.restart()
            self._dispatcher.hurry()
        self._attempt_log.breaker(self._breaker.state, before, probe_in_s=self._breaker.probe_at - now)
        if before != "half_open" or self._breaker.state == "closed":
            self._on_state()
        return True

    def _change(self, *, paused: bool, stopped: str) -> None:
        if (self._paused, self._stopped) == (paused, stopped):
            return
        self._paused, self._stopped = paused, stopped
        self._apply()
        self._on_state()

    def _apply(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_open or self._paused or self._stopped:
            self._dispatcher.permit(0)
            return
        now = self._clock.monotonic()
        if self._breaker.state == "open":
            self._wait(max(self._breaker.probe_at, self._held_until) - now)
        elif self._held_until > now:
            self._wait(self._held_until - now)
        elif self._breaker.state == "half_open":
            self._dispatcher.permit(1, is_probing=True)
        else:
            self._dispatcher.permit(self._adaptive.limit)

    def _wait(self, delay_s: float) -> None:
        self._dispatcher.permit(0)
        self._timer = self._clock.call_later(max(0.0, delay_s), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        if self._held_until <= now:
            self._breaker.probe(now)
        self._apply()
