"""Replace subscribers (configured and stored) and receivers of alerts while the gateway runs.

The file wins: a stored subscriber whose name the file has, too, rests until the file no longer has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from gateway import machine
from gateway.admin.parts import Parts
from gateway.clock import SystemClock
from gateway.config import subscriber_document
from gateway.config.settings import Settings, Subscriber
from gateway.config.watch import watch
from gateway.errors import ConfigError, NotNow, Transient
from gateway.fanout import subscription
from gateway.fanout.reader import group_name
from gateway.fanout.subscriber_records import Sealer
from gateway.fanout.subscriber_state import REFRESH_S, Beginnings
from gateway.fanout.subscriber_store import SubscriberStore
from gateway.log import EventLog
from gateway.log.journal import EVENTS, Journal

#: Well below the year for which the journal keeps stored subscribers; ten times less would only fill it.
_KEPT_REFRESH_S: Final = 30 * 86400.0

_log = structlog.get_logger("gateway.app")


class Exchange:
    """Follows the file and the log for subscribers, and puts what they name in force.

    Args:
        parts: of this process; its ``subscribers`` are exchanged.
        log: holds the stored subscribers.
        beginnings: notes where new ones begin, in a process that does not deliver.
        rewrites: see :class:`~gateway.fanout.subscriber_store.SubscriberStore`.
    """

    def __init__(self, parts: Parts, log: EventLog, beginnings: Beginnings | None, *, rewrites: bool) -> None:
        self._parts = parts
        self._log = log
        self._beginnings = beginnings
        self._of_file: Sequence[Subscriber] = parts.settings.subscribers
        self._lock = asyncio.Lock()
        keys = [key.get_secret_value() for key in parts.settings.admin.secrets_key]
        self.store = SubscriberStore(
            log,
            clock=SystemClock(),
            sealer=Sealer(keys),
            build=self._build,
            on_change=self._on_change,
            rewrites=rewrites,
            refresh_s=_KEPT_REFRESH_S if isinstance(log, Journal) else REFRESH_S,
        )

    def _build(self, tree: Mapping[str, Any]) -> Subscriber:
        return subscriber_document.read(tree, self._parts.settings)

    async def _on_change(self) -> None:
        """Put in force what is stored now. Fan-out starts when this is called first: before, it would not know all."""
        try:
            await self._apply()
        except ConfigError as exc:
            _log.error("config.refused", problems=exc.problems, advice="the previous settings stay in force")
        if self._parts.fanout is not None:
            self._parts.fanout.start()

    async def follow(self, path: Path, environ: Mapping[str, str], asked: asyncio.Event) -> None:
        """Apply new subscribers and receivers of alerts of the file without a restart, until cancelled.

        A file that is wrong or cannot be applied is refused by the watcher, and the old one stays in force. In
        ``serve``, which does not deliver, the console shows the new subscribers.

        Args:
            path: the file.
            environ: as for :func:`gateway.config.loading.load`.
            asked: set on SIGHUP.
        """
        async for settings in watch(path, environ, self._parts.settings, self._check, asked=asked):
            before, self._of_file = self._of_file, settings.subscribers
            try:
                await self._apply()
            except ConfigError as exc:  # a certificate file changed since the check
                self._of_file = before
                _log.error("config.refused", problems=exc.problems, advice="the previous settings stay in force")
            else:
                self._parts.alerts = settings.alerts
                _log.info("config.applied", subscribers=[subscriber.name for subscriber in settings.subscribers])

    def _check(self, settings: Settings) -> None:
        if self._parts.fanout is not None and (problems := subscription.problems(settings.subscribers)):
            raise ConfigError(problems)

    async def _apply(self) -> None:
        async with self._lock:
            of_file = {one.name for one in self._of_file}
            subscribers = [*self._of_file, *(one for one in self.store.subscribers() if one.name not in of_file)]
            parts = self._parts
            if parts.fanout is not None:
                await parts.fanout.apply(subscribers)
            parts.subscribers, parts.of_file = subscribers, of_file
            check_connections(subscribers)
            if self._beginnings is not None:
                self._beginnings.apply(subscribers)
            await keep_times(parts)
            if parts.fanout is not None and isinstance(self._log, Journal):
                with suppress(Transient):  # their readers do it as soon as the disk lets them
                    await claim_positions(self._log, subscribers)


def check_connections(subscribers: Sequence[Subscriber]) -> None:
    """Warn when subscribers may have more connections at once than this process can open for them."""
    machine.check_deliveries(sum(one.concurrency for one in subscribers if one.kind == "webhook"))


async def claim_positions(journal: Journal, subscribers: Sequence[Subscriber]) -> None:
    """Fix where new subscribers begin before they are reported: "from now on" must not drift to later."""
    for one in subscribers:
        if one.kind != "stream":
            await journal.cursors.load(group_name(one.name), one.topics, [EVENTS], start=one.start)


async def keep_times(parts: Parts) -> None:
    """Make durable where subscribers begin, as far as this process can, before they are reported as applied."""
    if parts.journal is not None:
        with suppress(NotNow):
            await parts.journal.flush()
