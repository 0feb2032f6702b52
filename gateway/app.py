"""The only wiring: every part gets what it needs here, starts in order and stops in reverse.

    ingest ── log ─┬─ search
                   ├─ publisher ── Kafka
                   └─ fan-out ── subscribers          (without Kafka; with it fan-out reads Kafka's log)

===========  =====================================================================================
``log``      the journal's writer, and the socket by which the others reach it
``deliver``  journal, search, publisher, Kafka's log, fan-out, admin: all that reads the log
``ingest``   takes callbacks; holds no file
===========  =====================================================================================

Each is a process of its own (:mod:`gateway.processes`); tests have all of it in one. ``serve`` has no fan-out;
``fanout`` is ``deliver`` alone, on Kafka's log. The log process ends last: it waits for the others.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal

import structlog

from gateway import __version__, publisher
from gateway.admin.parts import Check, Parts, own_report
from gateway.admin.server import AdminServer
from gateway.clock import SystemClock, within
from gateway.config.settings import Settings
from gateway.errors import Broken
from gateway.exchange import Exchange, check_connections, claim_positions, keep_times
from gateway.fanout import attempts, subscriber_store
from gateway.fanout.subscriber_state import Beginnings, SubscriberStateStore
from gateway.fanout.subscriptions import FanOut, own_topics
from gateway.ingest.accept import Acceptor, IngestLog
from gateway.ingest.endpoints import endpoints
from gateway.ingest.server import IngestServer
from gateway.link import LogClient, LogServer, remove_other_sockets
from gateway.log import EventLog
from gateway.log.journal import Journal, JournalWriter, Retention
from gateway.log.kafka import KafkaLog, KafkaOptions
from gateway.log.kafka.options import instance_id
from gateway.publisher import Publisher
from gateway.search import Search
from gateway.telemetry.metrics import METRICS
from gateway.telemetry.reports import Report, Reports, ReportServer
from gateway.telemetry.tracing import Spans

#: The parts together stay below what a process has for its stop, see :mod:`gateway.processes`.
_INGEST_STOP_S: Final = 8.0
_FANOUT_STOP_S: Final = 8.0
_PUBLISHER_STOP_S: Final = 2.0
_LAST_WORDS_S: Final = 2.0
#: For what Kafka keeps of subscribers' states, once it answers.
_KAFKA_LOAD_S: Final = 10.0

#: For the journal's folder: after SIGKILL of a supervisor its log process stays until the others have stopped.
_LOCK_WAIT_S: Final = 10.0
#: The log process waits so long for the others to end before it.
_LOG_STOP_S: Final = 20.0

#: What the gateway does; the commands of the same names.
Role = Literal["run", "serve", "fanout"]
#: Kinds of process.
Part = Literal["log", "ingest", "deliver"]

_log = structlog.get_logger("gateway.app")


@dataclass(frozen=True, slots=True)
class Shared:
    """State that the processes of one machine share.

    Args:
        log: name of the log process's socket.
        log_listening: the same, listening; for the log process.
        ingest: listens on the port of callbacks.
        admin: listens on the admin port; for the one process that has it.
        reports: where each process serves its report, by name; see :mod:`gateway.telemetry.reports`.
        restarts: how many times each process was started again.
    """

    log: Path | None = None
    log_listening: socket.socket | None = None
    ingest: socket.socket | None = None
    admin: socket.socket | None = None
    reports: Mapping[str, Path] = field(default_factory=dict)
    restarts: Callable[[], Mapping[str, int]] = dict


class App:
    """One process of the gateway, or all of it in one process.

    Args:
        settings: the whole configuration.
        config_path: watched for changes of subscribers; None watches nothing.
        role: which parts the gateway has.
        part: the one that this process is; None is all of them, with no sockets between them.
        name: of this process, such as ``ingest-0``.
        shared: with the other processes of this machine; needed with a ``part``.
    """

    def __init__(
        self,
        settings: Settings,
        config_path: Path | None = None,
        *,
        role: Role = "run",
        part: Part | None = None,
        name: str = "gateway",
        shared: Shared | None = None,
    ) -> None:
        self.settings = settings
        self.role = role
        self._config_path = config_path
        self._part = part
        self._name = name
        self._shared = shared or Shared()
        #: Set on SIGHUP: look at the configuration file at once.
        self.reload = asyncio.Event()
        #: Set when this process cannot continue but a new one in its place can; ``failure`` is the reason.
        self.failed = asyncio.Event()
        self.failure = ""
        self._stack = AsyncExitStack()
        self._checks: dict[str, Callable[[], Check]] = {}
        self._beginnings: Beginnings | None = None
        # Of this life of this process: containers of one machine may share its name, and all have the same process id.
        own = f"{socket.gethostname()}-{name}-{secrets.token_hex(4)}"
        self._instance = own if settings.kafka is not None else "0"
        self._parts = Parts(
            settings,
            role,
            self._checks,
            METRICS.registry,
            topics=settings.event_topics,
            subscribers=settings.subscribers,
            of_file={subscriber.name for subscriber in settings.subscribers},
            alerts=settings.alerts,
        )

    async def start(self) -> dict[str, object]:
        """Start all components and return what to report; on an error, stop those that were started.

        Raises:
            GatewayError: what cannot be had, and what to do.
        """
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> dict[str, object]:
        self._spans = Spans.from_environment(os.environ)
        if self._spans is not None:
            self._stack.push_async_callback(asyncio.to_thread, self._spans.close)
        if self._part is None:
            told = await self._start_deliver()
            if self.role != "fanout":
                told |= await self._start_ingest(self.journal)
                told["known_ids"] = self.journal.known_ids
            _log.info("gateway.started", version=__version__, role=self.role, **told)
        elif self._part == "log":
            told = await self._start_log()
        elif self._part == "ingest":
            told = await self._start_ingest(await self._reach_log())
        else:
            told = await self._start_deliver()
        if self._part is not None and self._shared.admin is None:
            serving = ReportServer(self._shared.reports[self._name], self._report)
            await self._begin(serving.start(), serving.stop)
        return told

    def _report(self, with_metrics: bool) -> Report:
        statuses = self._parts.fanout.statuses() if self._parts.fanout is not None else ()
        return own_report(
            self._name, self._parts.started_at, self._checks, statuses=statuses, with_metrics=with_metrics
        )

    async def _start_log(self) -> dict[str, object]:
        """Start the log process: only the journal's writer, and the socket by which the others reach it."""
        settings = self.settings
        assert self._shared.log_listening is not None
        writer = JournalWriter(Path(settings.journal.dir), _retention(settings), known_ids=settings.ingest.dedup_window)
        await self._begin(writer.start(lock_wait_s=_LOCK_WAIT_S), lambda: _stop(writer))
        self._checks["journal"] = lambda: Check("journal", writer.problem or writer.state.failure)
        await asyncio.to_thread(remove_other_sockets, self._shared.log)
        server = LogServer(writer, self._shared.log_listening)
        await self._begin(server.start(), lambda: server.stop(_LOG_STOP_S))
        return {"journal": settings.journal.dir, "known_ids": writer.known_ids}

    async def _reach_log(self) -> LogClient:
        assert self._shared.log is not None
        client = LogClient(self._shared.log, self._name)
        await self._begin(client.start(), client.stop)
        self._checks["log"] = lambda: Check("log", client.problem)
        return client

    async def _start_deliver(self) -> dict[str, object]:
        """Start everything behind the log: search, publisher, fan-out, admin."""
        settings = self.settings
        kafka = _kafka_options(settings, self._name)
        told: dict[str, object] = {}
        if self.role != "fanout":
            self.journal = await self._open_journal()
            search = await self._start_search(self.journal)
            if kafka is not None:
                await self._start_publisher(kafka, search)
        log = self._parts.log = await self._open_kafka(kafka) if kafka is not None else self.journal
        for one in self._parts.follow(log, self._instance):
            await self._begin(one.start(), one.stop)
        if self.role == "serve":
            await self._start_beginnings(log)
        if self.role != "serve":
            await self._start_fanout(log, load_wait_s=0.2 if kafka is None else _KAFKA_LOAD_S)
            told["subscribers"] = [subscriber.name for subscriber in settings.subscribers]
        exchange = Exchange(self._parts, log, self._beginnings, rewrites=self._has_admin)
        self._parts.stored = exchange.store
        self._stack.push_async_callback(exchange.store.stop)
        exchange.store.start()
        if self.role != "fanout":
            self._parts.endpoints = endpoints(settings.ingest, settings.topics.schema_base_url)
        if self._has_admin:
            told["admin"] = await self._start_admin()
        if self._config_path is not None:
            following = exchange.follow(self._config_path, os.environ, self.reload)
            watching = asyncio.create_task(following, name="config-watch")
            self._stack.push_async_callback(_ended, watching)
        return told

    @property
    def _has_admin(self) -> bool:
        """Whether this process serves the admin port; one of each machine does."""
        return self._part is None or self._shared.admin is not None

    async def _start_admin(self) -> str:
        others = {name: path for name, path in self._shared.reports.items() if name != self._name}
        if self._part is not None:
            self._parts.reports = Reports(self._name, others, self._shared.restarts)
        self.admin = AdminServer(self._parts, self._shared.admin)
        await self._begin(self.admin.start(), self.admin.stop)
        return f"http://{self.settings.admin.host}:{self.admin.port}"

    async def _open_journal(self) -> Journal:
        folder, log_socket = Path(self.settings.journal.dir), self._shared.log
        journal = Journal(
            folder,
            _retention(self.settings),
            writer=None if log_socket is None else LogClient(log_socket, self._name),
            known_ids=self.settings.ingest.dedup_window,
            on_replaced=self._fail,
        )
        await self._begin(journal.start(), journal.stop)
        self._checks["journal"] = lambda: Check(
            "journal", journal.last_failure if journal.is_open else "closed: the gateway is stopping"
        )
        self._parts.journal = journal
        return journal

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self.failed.set()

    async def _start_search(self, journal: Journal) -> Search:
        search = self._parts.search = Search(
            journal, Path(self.settings.journal.dir), with_attempts=self.settings.kafka is None
        )
        await self._begin(search.start(), search.stop)
        return search

    async def _start_publisher(self, kafka: KafkaOptions, search: Search) -> None:
        publishing = self._parts.publisher = Publisher(
            self.journal, kafka, create=self.settings.event_topics, on_published=search.indexer.published
        )
        await self._begin(publishing.start(), lambda: publishing.stop(drain_s=_PUBLISHER_STOP_S))
        self._checks["kafka"] = lambda: Check("kafka", publishing.state.reason, is_needed=False)

    async def _open_kafka(self, kafka: KafkaOptions) -> KafkaLog:
        creates, subscribers = self.settings.event_topics, self.settings.subscribers
        read = {topic for one in subscribers for topic in one.topics}.intersection(creates)
        # Where subscribers are to be added at run time, the first one must be found within a second, too.
        added = [subscriber_store.TOPIC] if self.settings.admin.secrets_key else []
        at_start = [*own_topics(subscribers), *added, *read] if self.role != "serve" else ()
        log = KafkaLog(kafka, creates=creates, at_start=at_start)
        await self._begin(log.start(), log.stop)
        self._checks["kafka.readers"] = lambda: Check("kafka.readers", log.problem, is_needed=False)
        return log

    async def _start_fanout(self, log: EventLog, *, load_wait_s: float) -> None:
        if isinstance(log, Journal):
            await claim_positions(log, self.settings.subscribers)
        self.fanout = FanOut(
            log,
            self.settings.subscribers,
            keeps_times=not isinstance(log, Journal),
            notes=self._parts.journal,
            instance=self._instance,
            load_wait_s=load_wait_s,
            spans=self._spans,
            replays=self._parts.replays,
        )
        await keep_times(self._parts)
        self._parts.fanout, self._parts.state_store = self.fanout, self.fanout.state_store
        check_connections(self.settings.subscribers)
        self._stack.push_async_callback(lambda: self.fanout.stop(_FANOUT_STOP_S))

    async def _start_beginnings(self, log: EventLog) -> None:
        """Fix where new subscribers begin here too: ``fanout`` may be started later, or on another machine."""
        clock = SystemClock()
        board = SubscriberStateStore(
            log,
            clock=clock,
            instance=self._instance,
            load_wait_s=_KAFKA_LOAD_S,
            on_loaded=lambda: None,
            on_change=lambda _: None,
        )
        self._parts.state_store = board
        self._beginnings = Beginnings(board, clock, self.journal)
        self._beginnings.apply(self.settings.subscribers)
        await keep_times(self._parts)
        self._stack.push_async_callback(lambda: within(_LAST_WORDS_S, board.stop()))
        board.start()

    async def _start_ingest(self, log: IngestLog) -> dict[str, object]:
        settings = self.settings.ingest
        paths = endpoints(settings, self.settings.topics.schema_base_url)
        clock = partial(datetime.now, UTC)  # built in: it is called for each callback
        acceptor = Acceptor(log, clock=clock, max_waiting=settings.max_waiting, spans=self._spans)
        self.ingest = IngestServer(settings, paths, acceptor, clock=clock)
        await self._begin(self.ingest.start(self._shared.ingest), lambda: self.ingest.stop(_INGEST_STOP_S))
        if paths.open_paths and self._name in ("gateway", "ingest-0"):
            _log.warning(
                "callbacks.open",
                paths=sorted(paths.open_paths),
                advice="anyone who knows the address can write events; set auth, or allow_ips",
            )
        return {"ingest": f"http://{settings.host}:{self.ingest.port}", "journal": self.settings.journal.dir}

    async def stop(self) -> None:
        """Stop everything in reverse. May be called twice, or when :meth:`start` failed half-way."""
        await self._stack.aclose()

    async def _begin(self, starting: Awaitable[object], stop: Callable[[], Awaitable[object]]) -> None:
        """Start one part and remember how to stop it, also when its start fails half-way."""
        self._stack.push_async_callback(stop)
        await starting


def _retention(settings: Settings) -> Retention:
    kept = Retention(
        int(settings.journal.max_bytes),
        settings.journal.retention,
        ages={attempts.TOPIC: settings.admin.attempts_retention},
    )
    if settings.kafka is None:
        return kept
    # The topics keep what was published; here only what the window of known ids is rebuilt from.
    return replace(kept, protected=publisher.GROUP, publish_grace_records=settings.ingest.dedup_window)


def _kafka_options(settings: Settings, process: str) -> KafkaOptions | None:
    """Return how the process of this name reaches Kafka; None without Kafka."""
    kafka = settings.kafka
    if kafka is None:
        return None
    name = instance_id(kafka.instance_id, socket.gethostname(), settings.admin.port, process)
    return KafkaOptions.of(kafka, settings.topics, instance_id=name)


async def _stop(writer: JournalWriter) -> None:
    """Stop a writer.

    Raises:
        Broken: the next start would not find what was stored.
    """
    moved = writer.moved
    await writer.stop()
    if moved:
        raise Broken(moved)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
