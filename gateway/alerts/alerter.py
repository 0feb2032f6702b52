"""Looks, decides, sends: one task that looks, and one for each receiver that sends.

Several processes and machines. On each machine the process with the admin port runs this; every one decides, so that
each knows what lasts. What is about one machine (journal, topics, callbacks) each machine sends; what is about the
whole deployment (subscribers, dead letters) only the leader does: the machine whose fan-out reads the first partition.
When the leader changes, the new one does not repeat what was reported; what changes in the seconds in between may be
missed, or reported twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from gateway.alerts import conditions, rules, senders
from gateway.alerts.conditions import OF_DEPLOYMENT, AlertFacts
from gateway.alerts.rules import Key, Notice, Outbox, Tracked
from gateway.config.admin_settings import RULES, Alert
from gateway.errors import GatewayError
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Looks are this far apart: well below what any receiver notices, and nothing is asked for them.
LOOK_S: Final = 5.0
_FIRST_RETRY_S: Final = 5.0
_LAST_RETRY_S: Final = 300.0

Send = Callable[[Alert, Sequence[Notice]], Awaitable[None]]

_log = structlog.get_logger("gateway.alerts")


class AlertReceiver:
    """One receiver: its state machine, and what waits to be sent to it."""

    def __init__(self, alert: Alert, send: Send = senders.send) -> None:
        self._alert = alert
        self._send = send
        self._tracked: dict[Key, Tracked] = {}
        self._outbox = Outbox(alert.interval)
        self._has_work = asyncio.Event()
        self._messages = METRICS.counter("gateway_alert_messages")
        self._firing = METRICS.gauge("gateway_alerts_firing")

    def look(self, facts: AlertFacts) -> None:
        """Decide what to report. Never blocks."""
        alert = self._alert
        seen = conditions.problems(facts, alert.thresholds)
        self._tracked, notices = rules.step(
            self._tracked,
            {key: text for key, text in seen.items() if key.rule in alert.rules},
            lambda key: conditions.is_unknown(facts, key),
            for_s=lambda rule: conditions.lasts_s(rule, alert.thresholds),
            repeat_s=alert.repeat,
            gone_s=alert.resolve_after,
            now=facts.now,
        )
        told = [notice for notice in notices if facts.is_leader or notice.key.rule not in OF_DEPLOYMENT]
        self._outbox.reported_elsewhere([notice for notice in notices if notice not in told])
        for notice in told:
            say = _log.warning if notice.state == "firing" else _log.info
            say(f"alert.{notice.state}", receiver=alert.name, rule=notice.key.rule, subject=notice.key.subject)
        for rule in alert.rules:
            count = sum(key.rule == rule and one.told_at is not None for key, one in self._tracked.items())
            self._firing.labels(alert.name, rule).set(count)
        self._outbox.add(told)
        if len(self._outbox):
            self._has_work.set()

    async def run(self) -> None:
        """Send what waits, one message at a time, until cancelled."""
        retry_s = 0.0
        while True:
            await self._has_work.wait()
            message = self._outbox.due(time.time())
            if not message:
                if not len(self._outbox):
                    self._has_work.clear()
                await asyncio.sleep(1.0)
                continue
            if await self._sent(message, is_first=not retry_s):
                retry_s = 0.0
            else:
                retry_s = min(_LAST_RETRY_S, 2 * retry_s or _FIRST_RETRY_S)
                await asyncio.sleep(retry_s)

    async def _sent(self, message: Sequence[Notice], *, is_first: bool) -> bool:
        """Send one message; return whether it was accepted. A failure is logged once, until one is accepted."""
        name = self._alert.name
        try:
            await self._send(self._alert, message)
        except Exception as exc:  # the top of a task
            self._messages.labels(name, "failed").inc()
            if is_first:
                said = str(exc) if isinstance(exc, GatewayError) else redaction.fault(exc)
                _log.warning(
                    "alert.not_sent", receiver=name, error=said, advice="it is tried again; gateway alerts test NAME"
                )
            return False
        self._messages.labels(name, "sent").inc()
        self._outbox.sent(message, time.time())
        if not is_first:
            _log.info("alert.sent_again", receiver=name)
        return True


class Alerter:
    """All receivers.

    Args:
        alerts: of the configuration; none: nothing runs.
        look: returns what is known of the gateway now.
    """

    def __init__(self, alerts: Sequence[Alert], look: Callable[[], AlertFacts]) -> None:
        self._receivers = [AlertReceiver(alert) for alert in alerts]
        self._look = look
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        if self._receivers:
            self._tasks = [
                asyncio.create_task(self._run(), name="alerts-look"),
                *(asyncio.create_task(one.run(), name="alerts-send") for one in self._receivers),
            ]

    async def stop(self) -> None:
        """End; what waits is not sent. May be called twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                facts = self._look()
                for one in self._receivers:
                    one.look(facts)
            except Exception as exc:  # the top of a task: without it there would be no alerts at all
                _log.exception("alert.look_failed", error=redaction.fault(exc))


def sample(now: float) -> Notice:
    """Return what ``gateway alerts test`` sends."""
    return Notice(Key(RULES[0], "example"), "test", "This is a test of gateway alerts. Nothing is wrong.", now)
