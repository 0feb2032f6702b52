"""Whether Kafka serves a client of the gateway: gauges, and a state for ``/readyz`` and the console.

:mod:`gateway.log.kafka.outage` writes the log lines, for all clients together.
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

#: Subject of problems of the connection, not of one topic.
CONNECTION: Final = ""
#: Subject, in the log, of a quota.
_QUOTA: Final = "quota"
#: A quota that has not delayed a client for this long is over: between two delays a client may have little to send.
_QUOTA_HOLDS_S: Final = 30.0
_NOT_YET: Final = Problem(AWAY, "not connected yet")


@dataclass(frozen=True, slots=True)
class State:
    """The problems of a client at one moment.

    Args:
        is_ready: there is no problem. A client that a quota delays is ready.
        problems: subject (a topic, or ``""`` for the connection) → problem; empty when ready.
        since: Unix seconds of the last change of ``is_ready``.
        throttled: the delay by a quota, if there is one.
    """

    is_ready: bool
    problems: dict[str, Problem]
    since: float
    throttled: Problem | None = None

    @property
    def word(self) -> str:
        """The most important word, see :mod:`gateway.log.kafka.errors`; empty without problems."""
        return first_word([problem.word for problem in self.all])

    @property
    def reason(self) -> str:
        """All problems in one line; empty without problems."""
        texts = [f"{subject}: {problem}" if subject else str(problem) for subject, problem in self.problems.items()]
        return "; ".join([*texts, *([str(self.throttled)] if self.throttled else [])])

    @property
    def all(self) -> list[Problem]:
        """The problems, and the delay by a quota."""
        return [*self.problems.values(), *([self.throttled] if self.throttled else [])]


def both(one: State, other: State) -> State:
    """Return the state of two clients of one name: ready if both are, since the later change of the two.

    Args:
        one: its texts have precedence.
        other: state of the other client.
    """
    return State(
        one.is_ready and other.is_ready,
        other.problems | one.problems,
        max(one.since, other.since),
        one.throttled or other.throttled,
    )


class Availability:
    """Collects problems by subject. Starts with "not connected yet", which is not logged.

    Clients of one name share their gauges: several that browse for one stream, or a new one that starts before the old
    one is closed.

    Args:
        client: label of the gauges and of log lines, such as ``publisher``.
        is_connected: there is no problem at the start.
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
        """Remove the gauges of a closed client: one that stays at 0 would be a false alarm. May be called twice."""
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
        """Report delays of a client by quotas from now on."""
        health.report_throttling(self._throttle)

    def look(self, health: ClientHealth, own_name: Callable[[str], str]) -> set[str]:
        """Report refusals of brokers, topic by topic, and their ends.

        Args:
            health: of the client.
            own_name: returns a topic's name by its name in Kafka.

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
