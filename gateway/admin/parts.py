"""The parts of the gateway that run in this process, for the admin API, and their health. Filled by ``app``."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, TypeVar

from prometheus_client import CollectorRegistry

from gateway.clock import SystemClock
from gateway.config.sections import Alert
from gateway.config.settings import Settings, Subscriber
from gateway.errors import NotNow, SenderError
from gateway.fanout.open_dead_letters import OpenDeadLetters
from gateway.fanout.reader import SubscriberStatus
from gateway.fanout.replay_board import ReplayBoard
from gateway.fanout.subscriber_state import SubscriberStateStore
from gateway.fanout.subscriber_store import SubscriberStore
from gateway.fanout.subscriptions import FanOut, UnknownSubscriber
from gateway.ingest.endpoints import Endpoints
from gateway.log import EventLog
from gateway.log.journal import Journal
from gateway.log.kafka import KafkaLog
from gateway.log.kafka.health import CONNECTION, NOT_YET
from gateway.publisher import Publisher
from gateway.search import Search
from gateway.telemetry.metrics import METRICS, Metrics, counts
from gateway.telemetry.reports import Report, Reports, families

#: Processes that take callbacks are called so.
_INGEST: Final = "ingest"
UNKNOWN: Final = "unknown: it gives no answer in 1 s; it has died and is being started again, hangs, or is overloaded"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Args:
        name: what it is, such as ``journal``.
        problem: a sentence that says what is wrong and what to do; empty when healthy.
        is_needed: False: reported, but callbacks are accepted without it (Kafka unavailable, a dead subscriber).
    """

    name: str
    problem: str
    is_needed: bool = True


Checks = Mapping[str, Callable[[], Check]]
Others = Mapping[str, Report | None]
_T = TypeVar("_T")


def report(checks: Checks, others: Others | None = None) -> tuple[bool, dict[str, str]]:
    """Return whether the gateway can accept callbacks, and each check's result, other processes' by ``process.name``.

    Ready means: all that this process needs holds, no other process says that something it needs does not, and at least
    one of those that take callbacks answers. One that is being started again takes no callback from the others, so it
    does not make the machine unready.

    Args:
        checks: of this process.
        others: the reports of the others; None where this process is the only one.
    """
    is_ready, texts = _own(checks)
    for name, one in (others or {}).items():
        if one is None:
            texts[name] = UNKNOWN
        else:
            is_ready = is_ready and one.is_ready
            texts |= {f"{name}.{check}": text or "ok" for check, text in one.checks.items()}
    takers = [one for name, one in (others or {}).items() if name.startswith(_INGEST)]
    return is_ready and (not takers or any(takers)), {name: text or "ok" for name, text in texts.items()}


def own_report(
    process: str,
    started_at: float,
    checks: Checks,
    metrics: Metrics = METRICS,
    *,
    statuses: Iterable[SubscriberStatus] = (),
    with_metrics: bool = False,
) -> Report:
    """Return what a process without the admin port serves.

    Args:
        process: its name, such as ``ingest-0``.
        started_at: of this life, Unix seconds.
        statuses: of the subscribers that it delivers to.
        with_metrics: all of them, which takes milliseconds with hundreds of subscribers.
    """
    is_ready, texts = _own(checks)
    found = families(process, metrics.registry) if with_metrics else ()
    subscribers = [asdict(one) for one in statuses]
    return Report(process, os.getpid(), started_at, is_ready, texts, counts(metrics), found, subscribers)


def _own(checks: Checks) -> tuple[bool, dict[str, str]]:
    results = [check() for check in checks.values()]
    is_ready = not any(result.problem and result.is_needed for result in results)
    return is_ready, {result.name: result.problem for result in results}


class NotHere(SenderError):
    """This process does not do what was asked for; the message names the one that does."""

    status_hint = 409


@dataclass(slots=True, eq=False)
class Parts:
    """The parts of one process; None is what its role does not have.

    Args:
        settings: as read at start.
        role: ``run``, ``serve`` or ``fanout``.
        topics: all topics that events can go to.
        journal: where callbacks are stored.
        log: what fan-out reads, here or in other processes: the journal, or Kafka's log.
        state_store: what all processes know of the states of subscribers.
        dead_letters: which are open; None in ``serve``.
        replays: what is known of them.
        subscribers: as in force; exchanged when the configuration or the stored ones change.
        of_file: names of those of the configuration file.
        stored: those that were added at run time.
        alerts: receivers of alerts, as in force.
        reports: asks the other processes of this gateway; None: everything is in this one.
    """

    settings: Settings
    role: str
    checks: Checks
    registry: CollectorRegistry
    topics: Sequence[str] = ()
    journal: Journal | None = None
    log: EventLog | None = None
    fanout: FanOut | None = None
    state_store: SubscriberStateStore | None = None
    dead_letters: OpenDeadLetters | None = None
    replays: ReplayBoard | None = None
    publisher: Publisher | None = None
    search: Search | None = None
    endpoints: Endpoints | None = None
    subscribers: Sequence[Subscriber] = ()
    of_file: Collection[str] = ()
    stored: SubscriberStore | None = None
    alerts: Sequence[Alert] = ()
    reports: Reports | None = None
    started_at: float = field(default_factory=time.time)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @property
    def is_embedded(self) -> bool:
        """Whether the journal is the log: no Kafka."""
        return self.settings.kafka is None

    @property
    def kafka(self) -> KafkaLog | None:
        """The log, where it is Kafka's."""
        return self.log if isinstance(self.log, KafkaLog) else None

    def follow(self, log: EventLog, instance: str) -> Sequence[ReplayBoard | OpenDeadLetters]:
        """Return what follows topics of the log, to be started: replays; where events are delivered, dead letters.

        Args:
            log: has the topics.
            instance: name of this process in its records.
        """
        clock = SystemClock()
        self.replays = ReplayBoard(log, clock=clock, instance=instance, is_alone=self.is_embedded)
        if self.role == "serve":
            return [self.replays]
        self.dead_letters = OpenDeadLetters(log, lambda: [one.name for one in self.subscribers], clock=clock)
        return [self.replays, self.dead_letters]

    def scanning(self, what: str) -> asyncio.Lock:
        """Return the lock that a scan holds: each reads much, so only one of a kind runs at a time."""
        return self._locks[what]

    def subscriber(self, name: str) -> Subscriber:
        """Return the subscriber of this name.

        Raises:
            UnknownSubscriber: there is none.
        """
        for one in self.subscribers:
            if one.name == name:
                return one
        raise UnknownSubscriber(f"there is no subscriber {name!r}")

    def needed_log(self) -> EventLog:
        """Return the log.

        Raises:
            NotHere: this process has none.
        """
        return _needed(self.log, "this process reads no log")

    def needed_replays(self) -> ReplayBoard:
        """Return the record of replays.

        Raises:
            NotHere: this process has none.
        """
        return _needed(self.replays, "this process reads no log")

    def needed_search(self) -> Search:
        """Return the index.

        Raises:
            NotHere: this process takes no callbacks, so it has no journal to search.
        """
        return _needed(self.search, "this process has no journal; ask the admin port of 'gateway serve'")

    def source(self, name: str) -> Literal["file", "api"]:
        """Return where a subscriber comes from: the configuration file, or the interface, at run time."""
        return "file" if name in self.of_file else "api"

    def needed_stored(self) -> SubscriberStore:
        """Return the stored subscribers, where they can be changed.

        Raises:
            NotHere: this process delivers nothing.
            NotNow: Kafka is unavailable, or the stored subscribers are not known yet.
        """
        self.needed_fanout()
        assert self.stored is not None
        for state in self.kafka.states.values() if self.kafka is not None else ():
            problem = state.problems.get(CONNECTION, NOT_YET)
            if problem != NOT_YET:  # the reader of a subscriber that was just added, too, is not connected yet
                raise NotNow(f"nothing was changed, as Kafka is unavailable: {problem}")
        self.stored.check_known()
        return self.stored

    def needed_fanout(self) -> FanOut:
        """Return the fan-out.

        Raises:
            NotHere: this process delivers nothing.
        """
        return _needed(self.fanout, "this process delivers nothing; ask the admin port of 'gateway fanout'")


def _needed(part: _T | None, sentence: str) -> _T:
    if part is None:
        raise NotHere(sentence)
    return part
