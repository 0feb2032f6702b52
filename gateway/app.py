"""The only wiring: every part gets what it needs here, starts in order and stops in reverse.

    journal ── known ids ── fan-out ── ingest ── admin

What takes callbacks starts when everything behind it stands, and stops first. The journal is open longest: what was
answered with success is in it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from gateway import __version__
from gateway.admin.health import Check
from gateway.admin.server import AdminServer
from gateway.config.settings import Settings
from gateway.config.watch import watch
from gateway.errors import Broken, ConfigError, GatewayError
from gateway.fanout.fanout import FanOut
from gateway.fanout.reader import group_name
from gateway.ingest.endpoints import endpoints
from gateway.ingest.intake import Intake
from gateway.ingest.known import KnownIds
from gateway.ingest.server import IngestServer
from gateway.log.journal import Journal, Retention
from gateway.telemetry import logs
from gateway.telemetry.metrics import METRICS

#: Kubernetes kills after 30 s; the parts together stay below this, and this below that.
STOP_S: Final = 25.0
_INGEST_STOP_S: Final = 8.0
_FANOUT_STOP_S: Final = 12.0

_log = structlog.get_logger("gateway.app")


class App:
    """One process of the gateway: all roles on the embedded log.

    Args:
        settings: the whole configuration.
        config_path: watched for changes of subscribers; None watches nothing.
    """

    def __init__(self, settings: Settings, config_path: Path | None = None) -> None:
        self.settings = settings
        self._config_path = config_path
        self._stack = AsyncExitStack()
        self.journal: Journal
        self.ingest: IngestServer
        self.fanout: FanOut
        self.admin: AdminServer

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
        self.journal = Journal(Path(settings.journal.dir), _retention(settings))
        await self._begin(self.journal.start(), self.journal.stop)

        known = KnownIds(settings.ingest.dedup_window)
        known.update(await self.journal.newest_ids(settings.ingest.dedup_window))

        await self._claim_positions()
        self.fanout = FanOut(self.journal, settings.subscribers)
        self._stack.push_async_callback(lambda: self.fanout.stop(_FANOUT_STOP_S))
        self.fanout.start()
        if self._config_path is not None:
            watching = asyncio.create_task(self._follow(self._config_path), name="config-watch")
            self._stack.push_async_callback(_ended, watching)

        paths = endpoints(settings.ingest)
        intake = Intake(self.journal, known, clock=_utc_now, max_waiting=settings.ingest.max_waiting)
        self.ingest = IngestServer(settings.ingest, paths, intake, clock=_utc_now)
        await self._begin(self.ingest.start(), lambda: self.ingest.stop(_INGEST_STOP_S))

        self.admin = AdminServer(settings.admin, {"journal": self._journal_check}, METRICS.registry)
        await self._begin(self.admin.start(), self.admin.stop)

        if paths.open_paths:
            _log.warning(
                "callbacks.open",
                paths=sorted(paths.open_paths),
                advice="whoever knows the address can write events; set auth, or allow_ips",
            )
        _log.info(
            "gateway.started",
            version=__version__,
            ingest=f"http://{settings.ingest.host}:{self.ingest.port}",
            admin=f"http://{settings.admin.host}:{self.admin.port}",
            journal=settings.journal.dir,
            known_ids=len(known),
            subscribers=[subscriber.name for subscriber in settings.subscribers],
        )

    async def _claim_positions(self) -> None:
        """Fix where new subscribers begin before the first callback is taken: "from now on" must not drift to later."""
        for subscriber in self.settings.subscribers:
            if subscriber.kind != "stream":
                group = group_name(subscriber.name)
                reader = await self.journal.reader(group, subscriber.topics, start=subscriber.start)
                await reader.close()

    async def stop(self) -> None:
        """Stop everything in reverse. May be called twice, or when :meth:`start` failed half-way."""
        await self._stack.aclose()

    async def _begin(self, starting: Awaitable[object], stop: Callable[[], Awaitable[object]]) -> None:
        """Start one part and remember how to stop it, also when its start fails half-way."""
        self._stack.push_async_callback(stop)
        await starting

    async def _follow(self, path: Path) -> None:
        """New subscribers without a restart. A bad file is refused by the watcher, and the old one stays in force."""
        async for settings in watch(path, os.environ, self.settings):
            try:
                await self.fanout.apply(settings.subscribers)
            except ConfigError as exc:
                _log.error("config.refused", problems=exc.problems, advice="what was in force stays in force")
            else:
                _log.info("config.applied", subscribers=[subscriber.name for subscriber in settings.subscribers])

    def _journal_check(self) -> Check:
        if not self.journal.is_open:
            return Check("journal", "the journal is closed: the gateway is stopping")
        return Check("journal", self.journal.last_failure)


def run(settings: Settings, config_path: Path | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code. A second signal changes nothing: the stop is bounded anyway."""
    logs.configure(settings.log.level, settings.log.format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(_run(App(settings, config_path)))
        except GatewayError as exc:
            _log.error("gateway.failed", error=str(exc))
            return exc.exit_code


async def _run(app: App) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
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


def _retention(settings: Settings) -> Retention:
    return Retention(int(settings.journal.max_bytes), settings.journal.retention)


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (it is not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
