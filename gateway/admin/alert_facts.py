"""Facts for the alert rules, taken from the measurements of the console."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import orjson
import structlog

from gateway.admin.monitor import Monitor
from gateway.admin.parts import Parts
from gateway.alerts.rules import AlertFacts, JournalFacts, Rhythms, SubscriberFacts
from gateway.log.journal import EVENTS

#: Of what is learned about callbacks, when the process dies.
_SAVE_S: Final = 300.0
#: In the folder of the journal.
_FILE: Final = "callback-rhythms.json"

_log = structlog.get_logger("gateway.alerts")


class AlertLook:
    """Gathers facts, and keeps what was learned about callbacks over a restart."""

    def __init__(self, parts: Parts, monitor: Monitor) -> None:
        self._parts = parts
        self._monitor = monitor
        self._path = Path(parts.settings.journal.dir) / _FILE if parts.journal is not None else None
        self._rhythms = Rhythms(_read(self._path), time.time())
        self._saved_at = time.monotonic()

    def __call__(self) -> AlertFacts:
        """Return the present facts, without a request to another process."""
        now, parts, monitor = time.time(), self._parts, self._monitor
        self._rhythms.see(self._calls(), now)
        if time.monotonic() - self._saved_at > _SAVE_S:
            self.save()
        return AlertFacts(
            now,
            {
                name: SubscriberFacts(one.state, one.reason, monitor.dead_letters(name))
                for name, one in monitor.states().items()
            },
            self._journal(),
            None
            if parts.publisher is None
            else {name: str(one.problem) for name, one in monitor.published.items() if one.problem is not None},
            self._rhythms.by_name,
            monitor.is_leader(),
        )

    def save(self) -> None:
        """Write what was learned; a failure is logged, as it costs a day of learning and nothing else."""
        self._saved_at = time.monotonic()
        if self._path is None or not self._parts.alerts:
            return
        try:
            new = self._path.with_suffix(".new")
            new.write_bytes(orjson.dumps(self._rhythms.document(), option=orjson.OPT_NON_STR_KEYS))
            new.replace(self._path)
        except OSError as exc:
            _log.info("alert.rhythms_not_kept", error=str(exc))

    def _calls(self) -> dict[str, float]:
        rates = self._monitor.rates
        outcomes = ("accepted", "repeated", "rejected")
        return {
            name: sum(rates.total("gateway_callbacks", name, outcome) for outcome in outcomes)
            for name in rates.names("gateway_callbacks")
        }

    def _journal(self) -> JournalFacts | None:
        journal, monitor = self._parts.journal, self._monitor
        if journal is None:
            return None
        settings = self._parts.settings.journal
        held, records = "", max(1, journal.head(EVENTS) - journal.floor(EVENTS))
        if self._parts.publisher is not None:
            if monitor.publisher_lag:
                held = (
                    f"Kafka has not acknowledged {monitor.publisher_lag:,} of its events; those never expire, and "
                    "callbacks are answered 503 when it is full."
                )
        else:
            lags = {one.name: monitor.lags.of(one.name).records or 0 for one in self._parts.subscribers}
            name = max(lags, key=lags.__getitem__, default="")
            if name and lags[name] / records >= _HELD_SHARE:
                held = (
                    f"Subscriber {name} has not received {lags[name] / records:.0%} of it, "
                    "and the oldest events are deleted next."
                )
        return JournalFacts(journal.used_bytes, int(settings.max_bytes), held)


#: A subscriber that is this far behind loses events when the oldest ones go.
_HELD_SHARE: Final = 0.5


def _read(path: Path | None) -> object:
    try:
        return orjson.loads(path.read_bytes()) if path is not None else None
    except (OSError, orjson.JSONDecodeError):
        return None
