"""``/api/overview``: everything that the first look at the console shows, as one document."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Final

from aiohttp import web

from gateway import __version__
from gateway.admin.monitor import Monitor
from gateway.admin.parts import UNKNOWN, Parts, own_report, report
from gateway.admin.responses import Given, json_response
from gateway.admin.subscriber_states import Lag, SubscriberState
from gateway.callbacks import CALLBACKS
from gateway.config import webhook_url
from gateway.config.settings import Subscriber
from gateway.log.journal import EVENTS
from gateway.log.kafka.errors import first_word

#: The page comes back every two seconds: what the log has not answered by then, it has with the next look.
_PAGE_PATIENCE_S: Final = 0.3


class Overview:
    """Routes of this file."""

    def __init__(self, parts: Parts, monitor: Monitor) -> None:
        self._parts = parts
        self._monitor = monitor

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/overview", self._overview)
        router.add_get("/api/subscribers", self._subscribers)

    async def _overview(self, request: web.Request) -> web.Response:
        since = Given(request.query).number("since") or 0.0
        await self._monitor.look_at_subscribers(patience_s=_PAGE_PATIENCE_S)
        is_ready, checks = report(self._parts.checks, self._monitor.others)
        return json_response(
            {
                "now": time.time(),
                "version": __version__,
                "role": self._parts.role,
                "processes": self._processes(),
                "mode": "embedded" if self._parts.is_embedded else "kafka",
                "started_at": self._parts.started_at,
                "ready": is_ready,
                "checks": checks,
                "intake": self._intake(),
                "topics": self._topics(),
                "journal": self._journal(),
                "kafka": self._kafka(),
                "search": self._search(),
                "subscribers": self.subscribers(),
                "points": [
                    {"at": point.at, "values": point.values} for point in self._monitor.rates.points if point.at > since
                ],
            }
        )

    async def _subscribers(self, _: web.Request) -> web.Response:
        await self._monitor.look_at_subscribers()
        store = self._parts.stored
        problems = {} if store is None else store.problems()
        return json_response(
            {
                "subscribers": self.subscribers(),
                "not_usable": [{"name": name, "problem": problem} for name, problem in problems.items()],
                "topics": list(self._parts.topics),
            }
        )

    def _processes(self) -> list[dict[str, Any]]:
        """Return each process of this gateway; ``pid`` and ``started_at`` are None if it does not answer."""
        reports = self._parts.reports
        if reports is None:
            return []
        restarts = reports.restarts()
        own = own_report(reports.own, self._parts.started_at, self._parts.checks)
        return [
            {
                "name": name,
                "pid": one.pid if one is not None else None,
                "started_at": one.started_at if one is not None else None,
                "restarts": restarts.get(name),
                "is_ready": one.is_ready if one is not None else None,
                "problems": [text for text in one.checks.values() if text] if one is not None else [UNKNOWN],
            }
            for name, one in {reports.own: own, **self._monitor.others}.items()
        ]

    def _intake(self) -> dict[str, Any] | None:
        if self._parts.endpoints is None:
            return None
        rates = self._monitor.rates
        seconds = "gateway_callback_answer_seconds"
        return {
            "rate": rates.rate("gateway_callbacks"),
            "p50": rates.quantile(seconds, 0.5),
            "p99": rates.quantile(seconds, 0.99),
            "refused_rate": rates.rate("gateway_http_refused"),
            "callbacks": [
                {
                    "name": name,
                    "rate": rates.rate("gateway_callbacks", name),
                    "p50": rates.quantile(seconds, 0.5, name),
                    "p99": rates.quantile(seconds, 0.99, name),
                    "outcomes": {
                        outcome: int(count)
                        for outcome in (
                            "accepted",
                            "repeated",
                            "rejected",
                            "unauthenticated",
                            "forbidden",
                            "unavailable",
                        )
                        if (count := rates.total("gateway_callbacks", name, outcome))
                    },
                    "is_ours": name not in CALLBACKS,
                }
                for name in rates.names("gateway_callbacks")
            ],
            "configured": sorted({endpoint.callback.name for endpoint in self._parts.endpoints}),
        }

    def _topics(self) -> list[dict[str, Any]]:
        rates = self._monitor.rates
        names = set(rates.names("gateway_topic_events")) | set(rates.names("gateway_kafka_written_events"))
        published = self._monitor.published
        stuck = {name for name, topic in published.items() if topic.problem is not None}
        own = (set(self._parts.topics) & names) | stuck
        return [
            {
                "name": name,
                "rate": rates.rate("gateway_topic_events", name),
                "stored": int(rates.total("gateway_topic_events", name)),
                "published_rate": rates.rate("gateway_kafka_written_events", name),
                "published": int(rates.total("gateway_kafka_written_events", name)),
                "lag": published[name].lag if name in published else None,
                "problem": str(published[name].problem) if name in stuck else "",
            }
            for name in sorted(own)
        ]

    def _journal(self) -> dict[str, Any] | None:
        journal = self._parts.journal
        if journal is None:
            return None
        return {
            "records": journal.head(EVENTS) - journal.floor(EVENTS),
            "used_bytes": journal.used_bytes,
            "max_bytes": int(self._parts.settings.journal.max_bytes),
            "retention_s": self._parts.settings.journal.retention,
            "oldest_at": self._monitor.oldest_at,
            "failure": journal.last_failure,
            "commit_p99": self._monitor.rates.quantile("gateway_journal_commit_seconds", 0.99),
        }

    def _kafka(self) -> dict[str, Any] | None:
        if self._parts.is_embedded:
            return None
        states = {}
        if self._parts.publisher is not None:
            states["publisher"] = self._parts.publisher.state
        if self._parts.kafka is not None:
            states |= {name or "writer": state for name, state in self._parts.kafka.states.items()}
        clients = [
            {
                "name": name,
                "is_ready": state.is_ready,
                "state": state.word or "ready",
                "reason": state.reason,
                "since": state.since,
            }
            for name, state in sorted(states.items())
        ]
        worst = first_word(state.word for state in states.values() if state.word)
        return {
            "is_ready": all(state.is_ready for state in states.values()),
            "problem": next((client for client in clients if client["state"] == worst), None),
            "clients": clients,
            "lag": self._monitor.publisher_lag if self._parts.publisher is not None else None,
        }

    def _search(self) -> dict[str, Any] | None:
        return None if self._parts.search is None else {"lag": self._parts.search.indexer.lag}

    def subscribers(self) -> list[dict[str, Any]]:
        """Return every configured subscriber: state and lag of all processes, figures of this machine's."""
        states = self._monitor.states()
        return [self._subscriber(one, states[one.name]) for one in self._parts.subscribers]

    def _subscriber(self, one: Subscriber, state: SubscriberState) -> dict[str, Any]:
        rates = self._monitor.rates
        seconds = "gateway_delivery_attempt_seconds"
        error = self._monitor.errors.get(one.name)
        status = self._monitor.statuses.get(one.name)
        lag = Lag(None) if one.kind == "stream" else self._monitor.lags.of(one.name)
        return {
            "name": one.name,
            "kind": one.kind,
            "source": self._parts.source(one.name),
            "topics": list(one.topics),
            "target": target(one),
            "concurrency": one.concurrency,
            "is_here": status is not None or (one.kind == "stream" and self._parts.log is not None),
            "state": state.state,
            "reason": state.reason,
            "since": state.since,
            "lag": lag.records,
            "lag_unknown": None
            if lag.records is not None or not lag.reason
            else {"reason": lag.reason, "since": lag.last_at, "last": lag.last},
            "outstanding": status.outstanding if status is not None else None,
            "in_flight": state.in_flight,
            "rate": rates.rate("gateway_deliveries", one.name, "delivered"),
            "success_share": self._monitor.success_shares.get(one.name),
            "p50": rates.quantile(seconds, 0.5, one.name),
            "p99": rates.quantile(seconds, 0.99, one.name),
            "delivered": int(rates.total("gateway_deliveries", one.name, "delivered")),
            "delivered_at": self._monitor.delivered.get(one.name),
            "dead_letters": self._monitor.dead_letters(one.name),
            "last_error": None if error is None else asdict(error),
        }


def target(one: Subscriber) -> str:
    """Return where its events go, without possible secrets: many addresses have one in their path or query."""
    if one.kind == "stream":
        return f"/api/streams/{one.name}"
    if one.kind == "file" or one.url is None:
        return one.path or ""
    return webhook_url.parse(one.url).origin
