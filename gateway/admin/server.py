"""The admin port: ``/healthz``, ``/readyz``, ``/metrics``, the console at ``/``, its interface under ``/api/``.

The routes of the interface are listed in :mod:`gateway.admin.openapi`; ``gateway schema --openapi-admin`` prints them.
Times are Unix seconds. Errors are ``{"error": "a sentence"}``. Who may ask what is said in :mod:`gateway.admin.auth`.

The console's files are read from the package once, identified by content, and served without authentication, as they
hold no secret. A browser keeps them, and asks by ``ETag`` whether they are still the same.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateway import machine
from gateway.admin.alert_facts import AlertLook
from gateway.admin.audit import Audit
from gateway.admin.auth import ACTOR, add_headers, change_of, check
from gateway.admin.dead_letters import DeadLetters
from gateway.admin.doctor import Doctor
from gateway.admin.events import Events, LiveTail
from gateway.admin.monitor import Monitor
from gateway.admin.outcomes import EventOutcomes
from gateway.admin.overview import Overview
from gateway.admin.parts import Parts, report
from gateway.admin.rejections import Rejections
from gateway.admin.replays import Replays
from gateway.admin.responses import MAX_BODY_BYTES, Handler, OpenStreams, json_response, respond
from gateway.admin.story import Storyteller
from gateway.admin.subscriber_changes import Control, SubscriberChanges
from gateway.alerts.alerter import Alerter
from gateway.config.sections import Admin
from gateway.connections import ConnectionLimit, LimitedServer
from gateway.errors import Broken
from gateway.sockets import BACKLOG
from gateway.telemetry.reports import Family, Merged, Report, Reports, families

#: A probe, a page or a command sends its request at once.
_FIRST_BYTE_S: Final = 15.0
_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}

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
        self._alerter = Alerter(lambda: parts.alerts, self._alert_look)
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


class _Runner(web.AppRunner):
    """Runs an application on a server whose connections are bounded."""

    limit: ConnectionLimit | None = None

    async def _make_server(self) -> web.Server:  # type: ignore[type-arg,unused-ignore]
        made = await super()._make_server()
        self.limit = ConnectionLimit("admin", machine.admin_connections(), _FIRST_BYTE_S)
        return LimitedServer(
            self.limit,
            made.request_handler,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **made._kwargs,
        )

    async def _cleanup_server(self) -> None:
        if self.limit is not None:
            self.limit.close()
        await super()._cleanup_server()


async def listen(app: web.Application, settings: Admin, listener: socket.socket | None = None) -> web.AppRunner:
    """Serve an application; what is returned is to be cleaned up.

    Args:
        listener: listens already; None: the configuration's host and port are opened.

    Raises:
        Broken: the address cannot be had.
    """
    runner = _Runner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    host, port = settings.host, settings.port
    site = web.TCPSite(runner, host, port) if listener is None else web.SockSite(runner, listener, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as exc:
        await runner.cleanup()
        where = f"admin.host and admin.port: cannot listen on {host}:{port}"
        raise Broken(f"{where}: {exc.strerror or exc}") from exc
    return runner


@dataclass(frozen=True, slots=True)
class File:
    """A file of the console."""

    content_type: str
    content: bytes
    compressed: bytes
    etag: str


def files() -> dict[str, File]:
    """Return all files of the console by name, such as ``console.js``."""
    found: dict[str, File] = {}
    for item in resources.files("gateway.admin").joinpath("static").iterdir():
        suffix = item.name.rpartition(".")[2]
        if item.is_file() and suffix in _TYPES:
            content = item.read_bytes()
            etag = hashlib.blake2b(content, digest_size=12).hexdigest()
            found[item.name] = File(_TYPES[suffix], content, gzip.compress(content, 9, mtime=0), etag)
    return found


class Page:
    """Routes of this file."""

    def __init__(self) -> None:
        self._files = files()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/", self._index)
        router.add_get("/static/{name}", self._static)

    async def _index(self, request: web.Request) -> web.Response:
        return _answer(request, self._files["index.html"])

    async def _static(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        return _answer(request, file)


def _answer(request: web.Request, file: File) -> web.Response:
    headers = {"ETag": f'"{file.etag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if f'"{file.etag}"' in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        content = file.compressed
    return web.Response(body=content, content_type=file.content_type, charset="utf-8", headers=headers)
