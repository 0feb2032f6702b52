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
from contextlib import suppress
from typing import Final

import structlog

from gateway.alerts import rules, senders
from gateway.alerts.rules import OF_DEPLOYMENT, AlertFacts, Key, Notice, Outbox, Tracked
from gateway.config.sections import RULES, Alert
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
    """One receiver: its state machine, and what waits to be sent to it.

    Args:
        alert: its settings; they may be exchanged, and what it knows of problems stays.
        send: sends one message.
    """

    def __init__(self, alert: Alert, send: Send = senders.send) -> None:
        self.alert = alert
        self._send = send
        self._tracked: dict[Key, Tracked] = {}
        self._outbox = Outbox()
        self._has_work = asyncio.Event()
        self._messages = METRICS.counter("gateway_alert_messages")
        self._firing = METRICS.gauge("gateway_alerts_firing")

    def look(self, facts: AlertFacts) -> None:
        """Decide what to report. Never blocks."""
        alert = self.alert
        seen = rules.problems(facts, alert.thresholds)
        self._tracked, notices = rules.step(
            self._tracked,
            {key: text for key, text in seen.items() if key.rule in alert.rules},
            lambda key: rules.is_unknown(facts, key),
            for_s=lambda rule: rules.lasts_s(rule, alert.thresholds),
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

    def end(self) -> None:
        """Report no number of problems any more for the rules of the present settings."""
        for rule in self.alert.rules:
            with suppress(KeyError):  # nothing was looked at yet
                self._firing.remove(self.alert.name, rule)

    async def run(self) -> None:
        """Send what waits, one message at a time, until cancelled."""
        retry_s = 0.0
        while True:
            await self._has_work.wait()
            message = self._outbox.due(time.time(), self.alert.interval)
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
        name = self.alert.name
        try:
            await self._send(self.alert, message)
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
    """All receivers, those of the configuration that is in force.

    Args:
        alerts: returns the settings of each receiver now; names are unique.
        look: returns what is known of the gateway now.
    """

    def __init__(self, alerts: Callable[[], Sequence[Alert]], look: Callable[[], AlertFacts]) -> None:
        self._alerts = alerts
        self._look = look
        self._receivers: dict[str, AlertReceiver] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._looking = asyncio.create_task(self._run(), name="alerts-look")

    async def stop(self) -> None:
        """End; what waits is not sent. May be called twice, or before the start."""
        looking, self._looking = self._looking, None
        tasks = [*self._sending.values(), *([looking] if looking is not None else [])]
        self._sending.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._exchange()
                if self._receivers:
                    facts = self._look()
                    for one in self._receivers.values():
                        one.look(facts)
            except Exception as exc:  # the top of a task: without it there would be no alerts at all
                _log.exception("alert.look_failed", error=redaction.fault(exc))

    def _exchange(self) -> None:
        """Follow the configuration: begin with new receivers, end those that are gone, and exchange settings."""
        wanted = {alert.name: alert for alert in self._alerts()}
        for name in self._receivers.keys() - wanted.keys():
            self._receivers.pop(name).end()
            self._sending.pop(name).cancel()
        for name, alert in wanted.items():
            if name not in self._receivers:
                one = self._receivers[name] = AlertReceiver(alert)
                self._sending[name] = asyncio.create_task(one.run(), name="alerts-send")
            elif self._receivers[name].alert != alert:
                self._receivers[name].end()
                self._receivers[name].alert = alert


def sample(now: float) -> Notice:
    """Return what ``gateway alerts test`` sends."""
    return Notice(Key(RULES[0], "example"), "test", "This is a test of gateway alerts. Nothing is wrong.", now)
