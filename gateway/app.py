"""The only wiring: every part gets what it needs here, starts in order and stops in reverse.

    journal ── search ── publisher ── Kafka's log ── fan-out ── ingest ── admin

========  ===========================================================================
``run``     all of it; without Kafka the journal is the log that fan-out reads
``serve``   journal, search, publisher, ingest, admin (and Kafka's log, for what admin looks up there)
``fanout``  Kafka's log, fan-out, admin
========  ===========================================================================

What takes callbacks starts when everything behind it stands, and stops first. The journal is open longest: what was
answered with success is in it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import structlog

from gateway import __version__, descriptors, publisher
from gateway.admin.health import Check
from gateway.admin.parts import Parts
from gateway.admin.server import AdminServer
from gateway.config.settings import FAMILIES, Settings, Subscriber
from gateway.config.watch import watch
from gateway.errors import Broken, ConfigError, GatewayError, NotNow
from gateway.eventloop import loop_factory
from gateway.fanout.beginnings import Beginnings
from gateway.fanout.clock import SystemClock
from gateway.fanout.fanout import FanOut
from gateway.fanout.reader import group_name
from gateway.fanout.state import StateBoard
from gateway.ingest.endpoints import endpoints
from gateway.ingest.intake import Intake
from gateway.ingest.known import KnownIds
from gateway.ingest.server import IngestServer
from gateway.log import EventLog
from gateway.log.journal import Journal, Retention, newest_ids
from gateway.log.kafka import KafkaLog, KafkaOptions
from gateway.log.kafka.options import within
from gateway.orphans import Orphanage
from gateway.publisher import Publisher
from gateway.search import Search
from gateway.telemetry import logs
from gateway.telemetry.metrics import METRICS
from gateway.telemetry.tracing import Spans

#: Kubernetes kills after 30 s; the parts together stay below this, and this below that.
STOP_S: Final = 25.0
_INGEST_STOP_S: Final = 8.0
_FANOUT_STOP_S: Final = 8.0
_PUBLISHER_STOP_S: Final = 2.0
_LAST_WORDS_S: Final = 2.0
#: For what Kafka keeps of subscribers' states, once it answers.
_KAFKA_LOAD_S: Final = 10.0

#: What a process does; the commands of the same names.
Role = Literal["run", "serve", "fanout"]

_log = structlog.get_logger("gateway.app")


class App:
    """One process of the gateway.

    Args:
        settings: the whole configuration.
        config_path: watched for changes of subscribers; None watches nothing.
        role: which parts run here.
        worker: number of this process among ``ingest.workers`` that share the port; None when it is the only one.
        admin_socket: where a worker's admin interface listens, instead of the configuration's port.
    """

    def __init__(
        self,
        settings: Settings,
        config_path: Path | None = None,
        *,
        role: Role = "run",
        worker: int | None = None,
        admin_socket: Path | None = None,
    ) -> None:
        self.settings = settings
        self.role = role
        self._config_path = config_path
        self._worker = worker
        self._admin_socket = admin_socket
        #: Set on SIGHUP: look at the configuration file at once.
        self.reload = asyncio.Event()
        self._stack = AsyncExitStack()
        self._checks: dict[str, Callable[[], Check]] = {}
        self._beginnings: Beginnings | None = None
        # Of this life of this process: containers of one machine may share its name, and all have the same process id.
        own = f"{socket.gethostname()}-{worker or 0}-{secrets.token_hex(4)}"
        self._instance = own if settings.kafka is not None else "0"
        self._parts = Parts(
            settings,
            role,
            self._checks,
            METRICS.registry,
            worker=worker,
            topics=event_topics(settings),
            subscribers=settings.subscribers,
        )

    async def start(self) -> None:
        """Start everything; on an error what was started is stopped again before it is raised.

        Raises:
            GatewayError: what cannot be had, and what to do.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self.settings
        kafka = KafkaOptions.of(settings.kafka, settings.topics) if settings.kafka is not None else None
        if self.role != "run" and kafka is None:
            raise ConfigError([f"kafka: 'gateway {self.role}' needs topics; without Kafka use 'gateway run'"])
        self._spans = Spans.from_environment(os.environ)
        if self._spans is not None:
            self._stack.push_async_callback(asyncio.to_thread, self._spans.close)
        told: dict[str, object] = {}
        if self.role != "fanout":
            self.journal = await self._open_journal()
            search = await self._start_search(self.journal)
            if kafka is not None:
                await self._start_publisher(kafka, search)
        log = self._parts.log = await self._open_kafka(kafka) if kafka is not None else self.journal
        if self.role == "serve" and not self._worker:
            await self._start_beginnings(log)
        if self.role != "serve":
            await self._start_fanout(log, load_wait_s=0.2 if kafka is None else _KAFKA_LOAD_S)
            told["subscribers"] = [subscriber.name for subscriber in settings.subscribers]
        if self.role != "fanout":
            told |= await self._start_ingest()
        self.admin = AdminServer(self._parts, self._admin_socket)
        await self._begin(self.admin.start(), self.admin.stop)
        if self._config_path is not None:
            watching = asyncio.create_task(self._follow(self._config_path), name="config-watch")
            self._stack.push_async_callback(_ended, watching)
        if self._admin_socket is None:
            told["admin"] = f"http://{settings.admin.host}:{self.admin.port}"
        _log.info("gateway.started", version=__version__, role=self.role, **told)

    async def _open_journal(self) -> Journal:
        journal = Journal(_folders(self.settings)[self._worker or 0], _retention(self.settings))
        await self._begin(journal.start(), journal.stop)
        self._checks["journal"] = lambda: Check(
            "journal", journal.last_failure if journal.is_open else "closed: the gateway is stopping"
        )
        self._parts.journal = journal
        return journal

    async def _start_search(self, journal: Journal) -> Search:
        folder = _folders(self.settings)[self._worker or 0]
        search = self._parts.search = Search(journal, folder, with_attempts=self.settings.kafka is None)
        await self._begin(search.start(), search.stop)
        return search

    async def _start_publisher(self, kafka: KafkaOptions, search: Search) -> None:
        publishing = self._parts.publisher = Publisher(
            self.journal, kafka, create=event_topics(self.settings), on_published=search.indexer.published
        )
        await self._begin(publishing.start(), lambda: publishing.stop(drain_s=_PUBLISHER_STOP_S))
        self._checks["kafka"] = lambda: Check("kafka", publishing.state.reason, is_needed=False)
        if not self._worker:
            # What workers that are no more have left behind; the first of a machine looks for all.
            folders = _folders(self.settings)
            owned = folders[:1] if self._worker is None else folders  # alone, nobody else is there for the others
            orphanage = Orphanage(Path(self.settings.journal.dir), owned, kafka, _retention(self.settings))
            await self._begin(orphanage.start(), orphanage.stop)

    async def _open_kafka(self, kafka: KafkaOptions) -> KafkaLog:
        log = KafkaLog(kafka, creates=event_topics(self.settings))
        await self._begin(log.start(), log.stop)
        self._checks["kafka.readers"] = lambda: Check("kafka.readers", log.problem, is_needed=False)
        return log

    async def _start_fanout(self, log: EventLog, *, load_wait_s: float) -> None:
        if isinstance(log, Journal):
            await self._claim_positions(log, self.settings.subscribers)
        self.fanout = FanOut(
            log,
            self.settings.subscribers,
            keeps_times=not isinstance(log, Journal),
            notes=self._parts.journal,
            instance=self._instance,
            load_wait_s=load_wait_s,
            spans=self._spans,
        )
        await self._keep_times()
        self._parts.fanout = self.fanout
        descriptors.check_deliveries(_connections(self.settings.subscribers))
        self._stack.push_async_callback(lambda: self.fanout.stop(_FANOUT_STOP_S))
        self.fanout.start()

    async def _start_beginnings(self, log: EventLog) -> None:
        """Where new subscribers begin is fixed here too: ``fanout`` may be started later, or on another machine."""
        clock = SystemClock()
        board = StateBoard(
            log,
            clock=clock,
            instance=self._instance,
            load_wait_s=_KAFKA_LOAD_S,
            on_loaded=lambda: None,
            on_change=lambda _: None,
        )
        self._beginnings = Beginnings(board, clock, self.journal)
        self._beginnings.apply(self.settings.subscribers)
        await self._keep_times()
        self._stack.push_async_callback(lambda: within(_LAST_WORDS_S, board.stop()))
        board.start()

    async def _keep_times(self) -> None:
        """Make durable where subscribers begin, as far as this process can, before they are reported as applied."""
        if self._parts.journal is not None:
            with suppress(NotNow):
                await self._parts.journal.flush()

    async def _start_ingest(self) -> dict[str, object]:
        settings = self.settings.ingest
        known = KnownIds(settings.dedup_window)
        known.update(await newest_ids(self.journal, settings.dedup_window))
        paths = endpoints(settings, self.settings.topics.schema_base_url)
        self._parts.endpoints, self._parts.known = paths, known
        intake = Intake(self.journal, known, clock=_utc_now, max_waiting=settings.max_waiting, spans=self._spans)
        self.ingest = IngestServer(settings, paths, intake, clock=_utc_now)
        starting = self.ingest.start(reuse_port=self._worker is not None)
        await self._begin(starting, lambda: self.ingest.stop(_INGEST_STOP_S))
        if paths.open_paths:
            _log.warning(
                "callbacks.open",
                paths=sorted(paths.open_paths),
                advice="whoever knows the address can write events; set auth, or allow_ips",
            )
        return {
            "ingest": f"http://{settings.host}:{self.ingest.port}",
            "journal": self.settings.journal.dir,
            "known_ids": len(known),
        }

    async def _claim_positions(self, journal: Journal, subscribers: Sequence[Subscriber]) -> None:
        """Fix where new subscribers begin before they are told of: "from now on" must not drift to later."""
        known = {group for group, _ in journal.cursors()}
        for subscriber in subscribers:
            group = group_name(subscriber.name)
            if subscriber.kind != "stream" and group not in known:
                reader = await journal.reader(group, subscriber.topics, start=subscriber.start)
                await reader.close()

    async def stop(self) -> None:
        """Stop everything in reverse. May be called twice, or when :meth:`start` failed half-way."""
        await self._stack.aclose()

    async def _begin(self, starting: Awaitable[object], stop: Callable[[], Awaitable[object]]) -> None:
        """Start one part and remember how to stop it, also when its start fails half-way."""
        self._stack.push_async_callback(stop)
        await starting

    async def _follow(self, path: Path) -> None:
        """New subscribers without a restart. A bad file is refused by the watcher, and the old one stays in force.

        In ``serve`` there is nothing to deliver: its console shows the new ones.
        """
        async for settings in watch(path, os.environ, self.settings, asked=self.reload):
            try:
                if self._parts.fanout is not None:
                    await self._parts.fanout.apply(settings.subscribers)
            except ConfigError as exc:
                _log.error("config.refused", problems=exc.problems, advice="what was in force stays in force")
            else:
                self._parts.subscribers = settings.subscribers
                descriptors.check_deliveries(_connections(settings.subscribers))
                if self._beginnings is not None:
                    self._beginnings.apply(settings.subscribers)
                await self._keep_times()
                if self._parts.fanout is not None and isinstance(self._parts.log, Journal):
                    with suppress(NotNow):  # their readers do it as soon as the disk lets them
                        await self._claim_positions(self._parts.log, settings.subscribers)
                _log.info("config.applied", subscribers=[subscriber.name for subscriber in settings.subscribers])


def run(
    settings: Settings,
    config_path: Path | None = None,
    *,
    role: Role = "run",
    worker: int | None = None,
    admin_socket: Path | None = None,
) -> int:
    """Run until SIGTERM or SIGINT; the exit code. A second signal changes nothing: the stop is bounded anyway."""
    logs.configure(settings.log.level, settings.log.format)
    descriptors.raise_limit()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(_run(App(settings, config_path, role=role, worker=worker, admin_socket=admin_socket)))
        except GatewayError as exc:
            _log.error("gateway.failed", error=str(exc))
            return exc.exit_code


async def _run(app: App) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # In every role and from the first moment to the last: by default the signal would kill us.
    loop.add_signal_handler(signal.SIGHUP, app.reload.set)
    await app.start()
    # What lives as long as the process need not be walked by every collection.
    gc.collect()
    gc.freeze()
    await stopping.wait()
    started = time.monotonic()
    _log.info("gateway.stopping")
    try:
        async with asyncio.timeout(STOP_S):
            await app.stop()
    except TimeoutError as exc:
        raise Broken(
            f"the stop took longer than {STOP_S:g} s; what was answered with success is in the journal"
        ) from exc
    _log.info("gateway.stopped", took_s=round(time.monotonic() - started, 3))
    return 0


def _folders(settings: Settings) -> list[Path]:
    """The journal of each worker: the folder itself for one, a folder below it for each of several."""
    base, workers = Path(settings.journal.dir), settings.ingest.workers
    return [base] if workers == 1 else [base / f"worker-{number}" for number in range(workers)]


def _retention(settings: Settings) -> Retention:
    retention = Retention(int(settings.journal.max_bytes), settings.journal.retention)
    if settings.kafka is None:
        return retention
    # The topics keep what was published; here only what the window of known ids is rebuilt from.
    return replace(retention, protected=publisher.GROUP, publish_grace_records=settings.ingest.dedup_window)


def _connections(subscribers: Sequence[Subscriber]) -> int:
    return sum(one.concurrency for one in subscribers if one.kind == "webhook")


def event_topics(settings: Settings) -> list[str]:
    """Topics that events of this configuration can go to."""
    own = [row.topic or name for name, rows in settings.ingest.callbacks.items() for row in rows if row.decoder]
    return list(dict.fromkeys([*FAMILIES, *own]))


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
