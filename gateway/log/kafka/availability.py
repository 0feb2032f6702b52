"""Whether Kafka serves a client of ours: gauges, and a value for ``/readyz`` and the console.

What is logged of it is the business of :mod:`gateway.log.kafka.outage`, for all clients together.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.log.kafka import outage
from gateway.log.kafka.errors import AWAY, THROTTLED, WORDS, Problem, first_word
from gateway.log.kafka.observed_client import ClientHealth
from gateway.telemetry.metrics import METRICS

#: The clients that are open, by name.
_OPEN: defaultdict[str, set[Availability]] = defaultdict(set)

#: Subject of what concerns the connection and not one topic.
CONNECTION: Final = ""
#: Subject, in the log, of a quota.
_QUOTA: Final = "quota"
#: A quota that did not delay us for this long no longer does: between two delays a client may have little to send.
_QUOTA_HOLDS_S: Final = 30.0
_NOT_YET: Final = Problem(AWAY, "not connected yet")


@dataclass(frozen=True, slots=True)
class State:
    """What is the matter, at one moment.

    Args:
        is_ready: nothing is the matter. A client that a quota delays is ready.
        problems: subject (a topic, or ``""`` for the connection) → what it is; empty when ready.
        since: Unix seconds of the last change of ``is_ready``.
        throttled: what a quota does, if it does.
    """

    is_ready: bool
    problems: dict[str, Problem]
    since: float
    throttled: Problem | None = None

    @property
    def word(self) -> str:
        """The word that a person should look at first, see :mod:`gateway.log.kafka.errors`; empty when all is well."""
        return first_word([problem.word for problem in self.all])

    @property
    def reason(self) -> str:
        """All problems in one line; empty when all is well."""
        texts = [f"{subject}: {problem}" if subject else str(problem) for subject, problem in self.problems.items()]
        return "; ".join([*texts, *([str(self.throttled)] if self.throttled else [])])

    @property
    def all(self) -> list[Problem]:
        """The problems, and what a quota does."""
        return [*self.problems.values(), *([self.throttled] if self.throttled else [])]


def both(one: State, other: State) -> State:
    """Of two clients of one name: ready when both are, since the later of their changes; the first's texts count."""
    return State(
        one.is_ready and other.is_ready,
        other.problems | one.problems,
        max(one.since, other.since),
        one.throttled or other.throttled,
    )


class Availability:
    """Collects problems by subject. Starts with "not connected yet", said to nobody.

    Clients of one name share their gauges: those that browse for one stream, or one that comes before the other has
    gone.

    Args:
        client: label of the gauges and of log lines, such as ``publisher``.
        is_connected: nothing is the matter from the start on.
    """

    def __init__(self, client: str, *, is_connected: bool = False) -> None:
        self._client = client
        self._log = outage.OUTAGES
        self._problems: dict[str, Problem] = {} if is_connected else {CONNECTION: _NOT_YET}
        self._refused: set[str] = set()
        self._throttled: Problem | None = None
        self._throttled_until = 0.0
        self._since = time.time()
        _OPEN[client].add(self)
        self._show()

    def close(self) -> None:
        """The client is gone: a gauge that stays at 0 would be an alarm about nothing. May be called twice."""
        _OPEN[self._client].discard(self)
        self._show()
        if not _OPEN:
            self._log.clear()
        elif self._client not in _OPEN:
            self._log.gone(self._client)

    @property
    def state(self) -> State:
        """The present state."""
        return State(not self._problems, dict(self._problems), self._since, self._throttled)

    def problem(self, subject: str, problem: Problem) -> None:
        """Report that something does not work; the latest problem of a subject is kept."""
        if not self._problems:
            self._since = time.time()
        is_known = (before := self._problems.get(subject)) is not None and before.word == problem.word
        self._problems[subject] = problem
        if not is_known:
            self._show()
        if self in _OPEN.get(self._client, ()):
            self._log.problem(self._client, subject, problem)

    def solved(self, subject: str) -> None:
        """Report that a subject works (again)."""
        if self._problems.pop(subject, None) is None:
            return
        self._log.solved(self._client, subject)
        if not self._problems:
            self._since = time.time()
        self._show()

    def watch(self, health: ClientHealth) -> None:
        """Have the quotas reported that delay a client."""
        health.report_throttling(self._throttle)

    def look(self, health: ClientHealth, own_name: Callable[[str], str]) -> set[str]:
        """Report what brokers refuse to a client, topic by topic, and what they no longer refuse.

        Args:
            own_name: a topic's name by its name in Kafka.

        Returns: the subjects that are refused.
        """
        refused = {own_name(subject): problem for subject, problem in health.refused().items()}
        for subject in self._refused - refused.keys():
            self.solved(subject)
        for subject, problem in refused.items():
            self.problem(subject, problem)
        self._refused = set(refused)
        return self._refused

    def _throttle(self, seconds: float) -> None:
        METRICS.counter("gateway_kafka_throttled_seconds").labels(self._client).inc(seconds)
        self._throttled_until = max(self._throttled_until, time.monotonic() + seconds + _QUOTA_HOLDS_S)
        if self._throttled is None:
            asyncio.get_running_loop().call_later(seconds + _QUOTA_HOLDS_S, self._unthrottle)
        self._throttled = Problem(THROTTLED, f"a quota of the brokers delays requests, the last one by {seconds:.1f} s")
        if self in _OPEN.get(self._client, ()):
            self._log.problem(self._client, _QUOTA, self._throttled)
            self._show()

    def _unthrottle(self) -> None:
        left_s = self._throttled_until - time.monotonic()
        if left_s > 0:
            asyncio.get_running_loop().call_later(left_s, self._unthrottle)
            return
        self._throttled = None
        self._log.solved(self._client, _QUOTA)
        self._show()

    def _show(self) -> None:
        up, problems = METRICS.gauge("gateway_kafka_up"), METRICS.gauge("gateway_kafka_problems")
        clients = _OPEN[self._client]
        words = Counter(problem.word for client in clients for problem in client.state.all)
        for word in WORDS:
            if words[word]:
                problems.labels(self._client, word).set(words[word])
            else:
                with suppress(KeyError):
                    problems.remove(self._client, word)
        if clients:
            up.labels(self._client).set(all(not client._problems for client in clients))
            return
        del _OPEN[self._client]
        with suppress(KeyError):
            up.remove(self._client)
