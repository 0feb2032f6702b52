"""The admin port: ``/healthz``, ``/readyz``, ``/metrics``, the console at ``/``, its interface under ``/api/``.

==================================  =========================================================================
``GET /api/overview``               rates, latency, journal, Kafka, subscribers; ``?since=`` for new points only
``GET /api/history``                the charts of the last ``range``: ``hour``, ``day`` or ``week``; ``?series=``
``GET /api/search``                 ``?q=`` any id or phone; ``callback topic type key_prefix subscriber outcome since
                                    until before after limit``; without conditions the newest events
``GET /api/events``                 live, as server-sent events; ``?topic= &type= &callback= &key_prefix=``
``GET /api/events/<id>``            the story of one event
``GET /api/subscribers``            how each is doing
``POST /api/subscribers/<name>/…``  ``pause`` or ``resume``; others: :mod:`gateway.admin.subscriber_changes`
``GET /api/dead-letters``           ``?subscriber= &state= &reason= &since= &limit=``; ``/<subscriber>/<id>`` shows one
``POST /api/dead-letters/resolve``  ``subscriber note`` and ``ids reasons all since until``
``POST /api/replay``                ``subscriber`` and ``since until ids types from_dlq reasons state failed_only all``;
                                    ``dry_run rate``
``GET /api/replays``                replays of all processes; ``/<number>`` one
``POST /api/replays/<number>/…``    ``cancel`` or ``resume``
``GET /api/rejected``               callbacks that were not understood; ``?callback= &since= &limit=``
``POST /api/rejected/replay``       decodes them again: ``callback since until ids as unauthenticated dry_run``
``GET /api/audit``                  who changed what, newest first; ``?since= &subject= &limit=``
``GET /api/me``                     whose token this is, and its role
``GET /api/doctor/events``          what the platform changed, by callback; ``?since= &callback=``
``GET /api/streams/<subscriber>``   the events of a subscriber of kind ``stream``; ``Last-Event-ID`` resumes
==================================  =========================================================================

Times are Unix seconds. Errors are ``{"error": "a sentence"}``. Who may ask is said in :mod:`gateway.admin.auth`,
what each role may change in :mod:`gateway.admin.roles`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateway.admin.alert_facts import AlertLook
from gateway.admin.audit import Audit
from gateway.admin.auth import add_headers, check
from gateway.admin.control import Control
from gateway.admin.dead_letters import DeadLetters
from gateway.admin.doctor import Doctor
from gateway.admin.events import Events
from gateway.admin.health import report
from gateway.admin.listening import listen
from gateway.admin.livetail import LiveTail
from gateway.admin.monitor import Monitor
from gateway.admin.outcomes import EventOutcomes
from gateway.admin.overview import Overview
from gateway.admin.page import Page
from gateway.admin.parts import Parts
from gateway.admin.rejections import Rejections
from gateway.admin.replays import Replays
from gateway.admin.responses import MAX_BODY_BYTES, Handler, json_response, respond
from gateway.admin.roles import ACTOR, change_of
from gateway.admin.story import Storyteller
from gateway.admin.streaming import OpenStreams
from gateway.admin.subscriber_changes import SubscriberChanges
from gateway.alerts.alerter import Alerter
from gateway.telemetry.reports import Family, Merged, Report, Reports, families

_log = structlog.get_logger("gateway.admin")


class AdminServer:
    """Serves the admin port.

    Args:
        parts: what there is to look at; started before, stopped after.
        listener: a socket that listens already, so that the port outlives this process; None: the configuration's
            host and port are opened.
    """

    def __init__(self, parts: Parts, listener: socket.socket | None = None) -> None:
        self._parts = parts
        self._listener = listener
        self._settings = parts.settings.admin
        self._monitor = Monitor(parts)
        self._alert_look = AlertLook(parts, self._monitor)
        self._alerter = Alerter(parts.settings.alerts, self._alert_look)
        self._tail = LiveTail(parts)
        self._streams = OpenStreams()
        self._replays = Replays(parts)
        self._audit = Audit(parts)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port in use, also where 0 was configured."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen.

        Raises:
            Broken: the address cannot be had.
        """
        await self._monitor.start()
        self._audit.start()
        self._alerter.start()
        self._runner = await listen(self.application(), self._settings, self._listener)

    async def stop(self) -> None:
        """Close. May be called twice, or before :meth:`start`."""
        runner, self._runner = self._runner, None
        self._streams.close()
        if runner is not None:
            await runner.cleanup()
        await self._tail.stop()
        await self._replays.stop()
        await self._alerter.stop()
        self._alert_look.save()
        await self._audit.stop()
        await self._monitor.stop()

    def application(self) -> web.Application:
        """Return a new application with all routes of the admin port."""
        parts, monitor = self._parts, self._monitor
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/me", self._me)
        overview = Overview(parts, monitor)
        for routes in (
            overview,
            monitor.history,
            Events(parts, self._tail, self._streams, Storyteller(parts, monitor), EventOutcomes(parts, monitor)),
            DeadLetters(parts),
            self._replays,
            Rejections(parts),
            Doctor(parts),
            Control(parts, monitor, overview, self._streams),
            SubscriberChanges(parts),
            self._audit,
            Page(),
        ):
            routes.add_to(app.router)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        async def guarded(asked: web.Request) -> web.StreamResponse:
            actor = asked[ACTOR] = check(asked, self._settings, self._parts.subscribers)
            response = await handler(asked)
            change = change_of(asked)
            if change is not None and response.status < 400:
                await self._audit.keep(asked, actor, change)
            return response

        return await respond(request, guarded)

    async def _me(self, request: web.Request) -> web.Response:
        actor = request[ACTOR]
        return json_response({"name": actor.name, "role": actor.role})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reports = self._parts.reports
        is_ready, found = report(self._parts.checks, await reports.ask() if reports is not None else None)
        return web.Response(
            status=200 if is_ready else 503,
            body=orjson.dumps({"ready": is_ready, "checks": found}, option=orjson.OPT_APPEND_NEWLINE),
            content_type="application/json",
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        registry, reports = self._parts.registry, self._parts.reports
        self._monitor.states()
        if reports is not None:
            registry = await self._merged(reports)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _merged(self, reports: Reports) -> CollectorRegistry:
        """Return what all processes count; those that do not answer are missing, and named."""
        others = await reports.ask(with_metrics=True)
        away = [name for name, one in others.items() if one is None]
        if away:
            _log.warning(
                "process.not_scraped", processes=away, advice="see the log line process.died; kill -9 one that hangs"
            )
        counted = {name: one.families for name, one in others.items() if one is not None}
        merged = CollectorRegistry(auto_describe=False)
        own = [*families(reports.own, self._parts.registry), *_about(reports, others)]
        merged.register(Merged({reports.own: own, **counted}))
        return merged


def _about(reports: Reports, others: Mapping[str, Report | None]) -> list[Family]:
    """Return the two metrics about processes: which ones answered, and how many times each was restarted."""
    up = {reports.own: 1.0, **{name: 0.0 if one is None else 1.0 for name, one in others.items()}}
    found = (
        ("gateway_process_up", "gauge", "", up),
        ("gateway_process_restarts", "counter", "_total", reports.restarts()),
    )
    return [
        Family(name, "", kind, [(f"{name}{suffix}", {"process": process}, value) for process, value in values.items()])
        for name, kind, suffix, values in found
    ]
