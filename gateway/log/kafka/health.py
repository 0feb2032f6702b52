"""Whether Kafka serves a client of the gateway: its failures, its gauges, and a state for ``/readyz`` and the console.

:mod:`gateway.log.kafka.outage` writes the log lines, for all clients together.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.protocol.produce import ProduceRequest

from gateway.log.kafka import outage
from gateway.log.kafka.errors import (
    AUTHENTICATION,
    AWAY,
    THROTTLED,
    WORDS,
    Problem,
    connection_problem,
    first_word,
    problem_of,
)
from gateway.telemetry.metrics import METRICS

#: Refusals while a leader moves or a coordinator starts last only for a moment, and are no problem.
_GRACE_S: Final = 3.0
#: A failure of an address that is older explains nothing: its broker may have left the cluster. aiokafka tries a needed
#: address several times a second.
_FAILURE_S: Final = 60.0
#: A refusal of a request that was not repeated within this is over: the partition may belong to another process.
_REFUSAL_S: Final = 30.0
#: Subject of refusals of the whole consumer group, in :meth:`ClientHealth.refused`.
GROUP: Final = "consumer group"
#: The offset is not in the partition: the reader handles it.
_OUT_OF_RANGE: Final = errors.OffsetOutOfRangeError.errno
_NO_RIGHT: Final = errors.TopicAuthorizationFailedError.errno
#: The clients that are open, by name.
_OPEN: defaultdict[str, set[Availability]] = defaultdict(set)

#: Subject of problems of the connection, not of one topic.
CONNECTION: Final = ""
#: Subject, in the log, of a quota.
_QUOTA: Final = "quota"
#: A quota that has not delayed a client for this long is over: between two delays a client may have little to send.
_QUOTA_HOLDS_S: Final = 30.0
#: Of a client that was just created: it says nothing about Kafka.
NOT_YET: Final = Problem(AWAY, "not connected yet")


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
    """Return the state of two clients of one name: ready if both are, since the later change of the two."""
    return State(
        one.is_ready and other.is_ready,
        other.problems | one.problems,
        max(one.since, other.since),
        one.throttled or other.throttled,
    )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A broker's answer that aiokafka tries again."""

    code: int
    since: float
    last: float


class ClientHealth:
    """Failures and refusals of one client."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, Problem]] = {}
        self._refusals: dict[tuple[type[Any], str], _Refusal] = {}
        #: Monotonic seconds until which a quota delays this client; until then a missing answer is no sign of failure.
        self.throttled_until = 0.0
        self._on_throttled: Callable[[float], None] = lambda _: None

    def report_throttling(self, report: Callable[[float], None]) -> None:
        """Call ``report`` with the number of seconds whenever a quota delays this client."""
        self._on_throttled = report

    @property
    def failure(self) -> Problem | None:
        """The reason why this client cannot connect; None while no address fails."""
        oldest = time.monotonic() - _FAILURE_S
        failures = [problem for at, problem in self._failures.values() if at >= oldest]
        return next((one for one in failures if one.word == AUTHENTICATION), failures[-1] if failures else None)

    def refused(self) -> dict[str, Problem]:
        """Return the refusals that have lasted for seconds, by topic (name in Kafka) or :data:`GROUP`."""
        now = time.monotonic()
        return {
            subject: problem_of(errors.for_code(one.code)())
            for (_, subject), one in self._refusals.items()
            if one.since <= now - _GRACE_S and one.last >= now - _REFUSAL_S
        }

    def failed(self, address: str, exc: BaseException) -> None:
        """Note a failed connection."""
        self._failures.pop(address, None)
        self._failures[address] = time.monotonic(), connection_problem(address, exc)

    def connected(self, address: str) -> None:
        """Note that a connection was made, and authenticated."""
        self._failures.pop(address, None)

    def answered(self, request: Any, response: Any) -> None:
        """Note a broker's answer."""
        kind = type(request)
        if kind is ProduceRequest or kind is FetchRequest:
            for topic, partitions in response.topics:
                self._note(kind, topic, [partition[1] for partition in partitions])
        elif kind is OffsetCommitRequest:
            # Other errors of commits concern the whole group, and are normal while it assigns its partitions again.
            for topic, partitions in response.topics:
                self._note(kind, topic, [code for _, code in partitions if code == _NO_RIGHT])
        elif kind is FindCoordinatorRequest or kind is JoinGroupRequest:
            self._note(kind, GROUP, [response.error_code])

    def throttled(self, seconds: float) -> None:
        """Note that a quota delays this client for so many seconds."""
        self.throttled_until = max(self.throttled_until, time.monotonic() + seconds)
        self._on_throttled(seconds)

    def _note(self, kind: type[Any], subject: str, codes: Collection[int]) -> None:
        code = next((code for code in codes if code not in (0, _OUT_OF_RANGE)), 0)
        known = self._refusals.get((kind, subject))
        if not code:
            if known is not None:
                del self._refusals[kind, subject]
        else:
            now = time.monotonic()
            is_same = known is not None and now - known.last < _REFUSAL_S
            self._refusals[kind, subject] = _Refusal(code, known.since if known and is_same else now, now)


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
        self._problems: dict[str, Problem] = {} if is_connected else {CONNECTION: NOT_YET}
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
    def is_connected(self) -> bool:
        """Whether there is no problem of the connection."""
        return CONNECTION not in self._problems

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

    def look(self, health: ClientHealth, own_name: Callable[[str], str]) -> None:
        """Report refusals of brokers, topic by topic, and their ends."""
        refused = {own_name(subject): problem for subject, problem in health.refused().items()}
        for subject in self._refused - refused.keys():
            self.solved(subject)
        for subject, problem in refused.items():
            self.problem(subject, problem)
        self._refused = set(refused)

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
