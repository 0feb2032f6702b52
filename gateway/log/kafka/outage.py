"""The log lines of an outage: few, for any number of clients, subscribers and attempts.

While Kafka is unavailable, each client of a process notices it separately and repeatedly. They report to one
:class:`OutageLog`, which writes

* ``kafka.unavailable`` when an outage begins: the first client, the word, the reason, the advice;
* ``kafka.still_unavailable`` once a minute for the whole process: how many clients, with which words, since when;
* ``kafka.available`` when it ends: how long it lasted and how many clients it concerned.

An outage has one word, and a topic if it concerns one: an unavailable Kafka is one outage for all clients, a missing
right is another outage for each topic, also while Kafka is unavailable. An outage that ends and begins again within ten
seconds is not logged again. A quota is not an outage, and its lines are ``kafka.throttled`` and so on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog

from gateway.log.kafka.errors import AUTHENTICATION, AWAY, CLIENT_ERRORS, THROTTLED, Problem, first_word

#: Between lines about a lasting outage.
EVERY_S: Final = 60.0
#: An outage that ends and begins again within this is not logged again.
_AGAIN_S: Final = 10.0
#: A client that was closed with a problem is usually created again within this; then it is the same problem.
_GONE_S: Final = 60.0
#: Topics named in a line.
_MOST_TOPICS: Final = 10
#: These concern the connection, whatever was tried when they were met.
_OF_THE_CONNECTION: Final = frozenset({AWAY, AUTHENTICATION, THROTTLED})

_log = structlog.get_logger("gateway.kafka")


class _Key(NamedTuple):
    """Key of an outage."""

    word: str
    topic: str


@dataclass(slots=True)
class _Report:
    """The report of one client about one subject.

    Args:
        gone_at: time at which the client was closed (monotonic seconds).
    """

    key: _Key
    problem: Problem
    gone_at: float | None = None


@dataclass(slots=True)
class _Outage:
    """An outage that has not ended."""

    since: float
    is_said: bool
    clients: set[str] = field(default_factory=set)


class OutageLog:
    """Collects the problems of all clients of a process.

    Args:
        every_s: seconds between lines about a lasting outage.
        monotonic: returns monotonic seconds.
        call_later: calls a function after so many seconds.
    """

    def __init__(
        self,
        *,
        every_s: float = EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._every_s = every_s
        self._monotonic = monotonic
        self._call_later = call_later or _call_later
        self._reports: dict[tuple[str, str], _Report] = {}
        self._outages: dict[_Key, _Outage] = {}
        self._said_until: dict[_Key, float] = {}
        self._generation = 0

    def problem(self, client: str, subject: str, problem: Problem) -> None:
        """Report that something does not work. The first report of an outage is logged, and counted by the others."""
        key = _Key(problem.word, "" if problem.word in _OF_THE_CONNECTION else subject)
        before = self._reports.get((client, subject))
        self._reports[client, subject] = _Report(key, problem)
        if before is not None and before.key != key:
            self._leave(before.key, is_over=False)
        outage = self._outages.get(key)
        if outage is None:
            outage = self._begin(key, client, problem)
        outage.clients.add(client)

    def solved(self, client: str, subject: str) -> None:
        """Report that a subject works (again). The last such report of an outage is logged."""
        report = self._reports.pop((client, subject), None)
        if report is not None:
            self._leave(report.key, is_over=True)

    def gone(self, client: str) -> None:
        """Report that a client was closed. A new one of its name within a minute continues with its problems."""
        now = self._monotonic()
        for (name, _), report in self._reports.items():
            if name == client:
                report.gone_at = now
        self._call_later(_GONE_S, self._forget_gone)

    def clear(self) -> None:
        """Forget everything: no client is left."""
        self._reports.clear()
        self._outages.clear()
        self._said_until.clear()
        self._generation += 1

    def _begin(self, key: _Key, client: str, problem: Problem) -> _Outage:
        now = self._monotonic()
        is_said = now - self._said_until.get(key, -_AGAIN_S) >= _AGAIN_S
        if not self._outages:
            self._generation += 1
            self._tick_later()
        outage = self._outages[key] = _Outage(now, is_said)
        if is_said:
            _log.warning(
                "kafka.throttled" if key.word == THROTTLED else "kafka.unavailable",
                client=client,
                topic=key.topic or None,
                word=key.word,
                reason=problem.text,
                advice=problem.advice,
            )
        return outage

    def _leave(self, key: _Key, *, is_over: bool) -> None:
        """Remove a report of an outage, which ends with the last one; it is not over if only its word has changed."""
        if any(report.key == key for report in self._reports.values()) or key not in self._outages:
            return
        outage = self._outages.pop(key)
        if not outage.is_said:
            return
        self._said_until[key] = self._monotonic()
        if is_over:
            _log.info(
                "kafka.not_throttled" if key.word == THROTTLED else "kafka.available",
                topic=key.topic or None,
                word=key.word,
                lasted_s=round(self._monotonic() - outage.since, 3),
                clients=len(outage.clients),
            )

    def _forget_gone(self) -> None:
        oldest = self._monotonic() - _GONE_S
        for name in [name for name, one in self._reports.items() if one.gone_at is not None and one.gone_at <= oldest]:
            self._leave(self._reports.pop(name).key, is_over=False)

    def _tick_later(self) -> None:
        generation = self._generation
        self._call_later(self._every_s, lambda: self._tick(generation))

    def _tick(self, generation: int) -> None:
        if generation != self._generation or not self._outages:
            return
        self._tick_later()
        problems = [report.problem for report in self._reports.values()]
        worst = first_word(problem.word for problem in problems)
        first = next(problem for problem in problems if problem.word == worst)
        for key in self._outages:
            self._outages[key].is_said = True
        topics = sorted({key.topic for key in self._outages if key.topic})
        _log.warning(
            "kafka.still_throttled" if first.word == THROTTLED else "kafka.still_unavailable",
            clients=len({client for client, _ in self._reports}),
            words=self._words(),
            topics=topics[:_MOST_TOPICS] or None,
            lasted_s=round(self._monotonic() - min(outage.since for outage in self._outages.values()), 3),
            reason=first.text,
            advice=first.advice,
        )

    def _words(self) -> dict[str, int]:
        """Return the number of clients by word."""
        return dict(Counter(word for _, word in {(name, one.key.word) for (name, _), one in self._reports.items()}))


def _call_later(seconds: float, function: Callable[[], None]) -> None:
    """Call a function later on the running loop; without a loop there are no lasting outages."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    loop.call_later(seconds, function)


#: Of this process.
OUTAGES: Final = OutageLog()

#: Between lines of aiokafka of one kind.
_OF_A_KIND_S: Final = 60.0
#: By the text before formatting.
_SHOWN_ONCE: Final = frozenset({"Sending username and password in the clear"})


class RateLimit(logging.Filter):
    """Passes lines that only aiokafka has, one of each kind (logger and text before formatting) a minute.

    aiokafka writes lines at level WARNING and ERROR for normal operations (a first start, a rebalance, a stop) and,
    while Kafka is unavailable, ten times a second from every client. The gateway itself logs what an operator needs,
    once, so aiokafka's lines become the line ``kafka.client_log`` at level debug. Two
    kinds are not changed: a fault that is no error of Kafka or the network (a bug), and a password that is sent in
    clear text, once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record. Kinds are templates in aiokafka's source, so the table stays small."""
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        exc = record.exc_info[1] if record.exc_info else None
        is_bug = exc is not None and not isinstance(exc, CLIENT_ERRORS)
        if template not in _SHOWN_ONCE and not is_bug:
            if record.levelno >= logging.WARNING:
                _log.debug("kafka.client_log", logger=record.name, text=record.getMessage())
            return False
        now = time.monotonic()
        shown_at = self._shown.get((record.name, template))
        if shown_at is not None and (template in _SHOWN_ONCE or now - shown_at < _OF_A_KIND_S):
            return False
        self._shown[record.name, template] = now
        return True


RATE_LIMIT: Final = RateLimit()


def limit_logs() -> None:
    """Add the filter to aiokafka's loggers. May be called again; the next call covers loggers created later."""
    for name in list(logging.Logger.manager.loggerDict):
        if name == "aiokafka" or name.startswith("aiokafka."):
            logger = logging.getLogger(name)
            if RATE_LIMIT not in logger.filters:
                logger.addFilter(RATE_LIMIT)
    # A line for each missing topic of each answer, hundreds while no subscriber has dead letters: the gateway reports
    # missing topics and rights itself.
    logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)
