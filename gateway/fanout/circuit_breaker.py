"""Is the subscriber down? Pure: results and times in, a state out.

::

             most attempts fail                probe time
    closed ────────────────────► open ────────────────────► half_open
       ▲                          ▲  one more failure, wait doubled │
       └──────────────────────────┴─────────────────────────────────┘
                    one success                   (one attempt at a time)

It opens when, over the window, there were enough attempts, most failed, *and* they were failures of several
different events since the last success: one bad event, however often it is tried, is that event's trouble
and not the subscriber's. It also opens when so many attempts in turn failed and nothing has succeeded for a second:
the successes of the minute before a subscriber went down are no reason to continue. While it is not closed there is one
attempt for each probe; each probe takes the next event in turn, so that one bad event cannot keep the breaker open.
Such attempts do not count against the event's own bound.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

State = Literal["closed", "open", "half_open"]

#: The window moves in this many steps; fewer make it jump, more cost memory without a benefit.
_STEPS: Final = 10
#: Failures in turn count as an outage when they have lasted so long. Shorter, and a subscriber that refuses a third of
#: a busy second's events by themselves would be taken to be down; ten times longer, and events are already parked.
_OUTAGE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and how to probe.

    Args:
        failure_rate: share of failed attempts in the window that opens, above 0, at most 1.
        window_s: how far back attempts count.
        min_attempts: fewer attempts in the window say nothing.
        min_events: so many different events must have failed since the last success.
        first_open_s: wait before the first probe.
        max_open_s: longest wait between probes: how long after its recovery a subscriber may stay unnoticed.
    """

    failure_rate: float = 0.5
    window_s: float = 60.0
    min_attempts: int = 10
    min_events: int = 3
    first_open_s: float = 5.0
    max_open_s: float = 8.0


class Breaker:
    """The state of one subscriber. Times are monotonic seconds."""

    __slots__ = (
        "_failed",
        "_failing_since",
        "_failures",
        "_policy",
        "_rng",
        "_step",
        "_step_end",
        "_steps",
        "open_s",
        "probe_at",
        "state",
    )

    def __init__(self, policy: BreakerPolicy, rng: Random) -> None:
        self._policy = policy
        self._rng = rng
        self._steps: deque[list[float]] = deque()  # [start of the step, attempts, failures]
        self._step: list[float] = []  # the last of them, until
        self._step_end = float("-inf")
        self._failed: set[str] = set()
        self._failures = 0  # since the last success
        self._failing_since = 0.0
        self.state: State = "closed"
        self.probe_at = 0.0
        self.open_s = policy.first_open_s

    def restore(self, open_s: float, now: float) -> None:
        """Restore an open state from before a restart; it probes at once, because the subscriber may be back.

        Args:
            open_s: wait between probes.
            now: monotonic seconds.
        """
        self.state, self.open_s, self.probe_at = "open", open_s, now

    def record(self, event_id: str, *, is_success: bool, now: float, named_at: float | None = None) -> bool:
        """Record the result of one attempt; return whether the state changed.

        Args:
            event_id: id of the event.
            is_success: the subscriber accepted it.
            now: monotonic seconds.
            named_at: time of the next attempt that the subscriber's answer asks for, if it does.
        """
        before = self.state
        if is_success and before == "closed":  # the hot path
            step = self._step
            if now < self._step_end:
                step[1] += 1
            else:
                self._count(is_success=True, now=now)
            if self._failures:
                self._forget_failures()
            return False
        if before == "closed":
            self._count(is_success=is_success, now=now)
        if is_success:
            self.close()
        else:
            self._note_failure(event_id, now)
            if before == "half_open" or (before == "closed" and self._is_down(now)):
                self._open(now, again=before == "half_open", named_at=named_at)
        return self.state != before

    def close(self) -> None:
        """Close it, with all counts reset."""
        self.state = "closed"
        self._steps.clear()
        self._step_end = float("-inf")
        self._forget_failures()
        self.open_s = self._policy.first_open_s

    def probe(self, now: float) -> bool:
        """Change from open to half open when the probe is due; return whether it changed."""
        if self.state != "open" or now < self.probe_at:
            return False
        self.state = "half_open"
        return True

    def _count(self, *, is_success: bool, now: float) -> None:
        if now >= self._step_end:
            self._step = [now, 0, 0]
            self._step_end = now + self._policy.window_s / _STEPS
            self._steps.append(self._step)
        while self._steps[0][0] <= now - self._policy.window_s:
            self._steps.popleft()
        self._step[1] += 1
        self._step[2] += not is_success

    def _note_failure(self, event_id: str, now: float) -> None:
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if len(self._failed) < self._policy.min_events:
            self._failed.add(event_id)

    def _forget_failures(self) -> None:
        self._failures = 0
        self._failed.clear()

    def _is_down(self, now: float) -> bool:
        if len(self._failed) < self._policy.min_events:
            return False
        attempts = sum(step[1] for step in self._steps)
        failures = sum(step[2] for step in self._steps)
        if attempts < self._policy.min_attempts:
            return False
        in_turn = min(self._failures, failures)  # of the window
        is_outage = in_turn >= self._policy.min_attempts and now - self._failing_since >= _OUTAGE_S
        return is_outage or failures >= self._policy.failure_rate * attempts

    def _open(self, now: float, *, again: bool, named_at: float | None) -> None:
        self.open_s = min(self._policy.max_open_s, self.open_s * 2) if again else self._policy.first_open_s
        self.state = "open"
        # Half of it is jitter, so that several processes do not probe in step.
        self.probe_at = now + self.open_s * self._rng.uniform(0.5, 1.0) if named_at is None else named_at
