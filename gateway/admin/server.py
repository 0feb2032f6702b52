"""The admin port: ``/healthz``, ``/readyz``, ``/metrics``, the console at ``/``, its interface under ``/api/``.

==================================  =========================================================================
``GET /api/overview``               rates, latency, journal, Kafka, subscribers; ``?since=`` for new points only
``GET /api/history``                the charts of the last ``range``: ``hour``, ``day`` or ``week``; ``?series=``
``GET /api/search``                 ``?q=`` any id or phone; ``callback topic type key_prefix subscriber outcome since
                                    until before after limit``; without conditions the newest events
``GET /api/events``                 live, as server-sent events; ``?topic= &type= &callback= &key_prefix=``
``GET /api/events/<id>``            the story of one event
``GET /api/subscribers``            how each is doing
``POST /api/subscribers/<name>/…``  ``pause`` or ``resume``
``GET /api/dead-letters``           ``?subscriber= &reason= &since= &limit=``; ``/<subscriber>/<id>`` shows one
``POST /api/replay``                ``subscriber`` and ``since until ids types from_dlq reasons all``; ``dry_run rate``
``GET /api/replays``                replays of this process; ``/<number>`` one
``GET /api/rejected``               callbacks that were not understood; ``?callback= &since= &limit=``
``POST /api/rejected/replay``       decodes them again: ``callback since until ids as unauthenticated dry_run``
``GET /api/doctor/events``          what the platform changed, by callback; ``?since= &callback=``
``GET /api/streams/<subscriber>``   the events of a subscriber of kind ``stream``; ``Last-Event-ID`` resumes
==================================  =========================================================================

Times are Unix seconds. Errors are ``{"error": "a sentence"}``. Who may ask is said in :mod:`gateway.admin.guarding`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateway.admin.answers import MAX_BODY_BYTES, Handler, answered
from gateway.admin.control import Control
from gateway.admin.doctor import Doctor
from gateway.admin.events import Events
from gateway.admin.guarding import add_headers, check
from gateway.admin.health import report
from gateway.admin.letters import Letters
from gateway.admin.listening import listen
from gateway.admin.livetail import LiveTail
from gateway.admin.outcomes import Outcomes
from gateway.admin.overview import Overview
from gateway.admin.page import Page
from gateway.admin.parts import Parts
from gateway.admin.rejections import Rejections
from gateway.admin.replays import Replays
from gateway.admin.story import Storyteller
from gateway.admin.streaming import Streams
from gateway.admin.watching import Watching
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
        self._watching = Watching(parts)
        self._tail = LiveTail(parts)
        self._streams = Streams()
        self._replays = Replays(parts)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also where 0 was configured."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen.

        Raises:
            Broken: the address cannot be had.
        """
        await self._watching.start()
        self._runner = await listen(self._application(), self._settings, self._listener)

    async def stop(self) -> None:
        """Close. May be called twice, or before :meth:`start`."""
        runner, self._runner = self._runner, None
        self._streams.close()
        if runner is not None:
            await runner.cleanup()
        await self._tail.stop()
        await self._replays.stop()
        await self._watching.stop()

    def _application(self) -> web.Application:
        parts, watching = self._parts, self._watching
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        overview = Overview(parts, watching)
        for routes in (
            overview,
            watching.history,
            Events(parts, self._tail, self._streams, Storyteller(parts, watching), Outcomes(parts, watching)),
            Letters(parts),
            self._replays,
            Rejections(parts),
            Doctor(parts),
            Control(parts, watching, overview, self._streams),
            Page(),
        ):
            routes.add_to(app.router)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        async def guarded(asked: web.Request) -> web.StreamResponse:
            check(asked, self._settings, self._parts.subscribers)
            return await handler(asked)

        return await answered(request, guarded)

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
    """The two metrics about processes: who answered, and how many times each was started again."""
    up = {reports.own: 1.0, **{name: 0.0 if one is None else 1.0 for name, one in others.items()}}
    found = (
        ("gateway_process_up", "gauge", "", up),
        ("gateway_process_restarts", "counter", "_total", reports.restarts()),
    )
    return [
        Family(name, "", kind, [(f"{name}{suffix}", {"process": process}, value) for process, value in values.items()])
        for name, kind, suffix, values in found
    ]
