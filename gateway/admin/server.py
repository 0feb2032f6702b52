"""The admin port: ``/healthz``, ``/readyz``, ``/metrics``.

Health answers need no token: probes have none, and they tell no secret. Everything else does, once a token is set.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gateway.admin.health import Checks, report
from gateway.config.settings import Admin
from gateway.errors import Broken

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
#: Nothing here is for frames, other origins or caches.
_HEADERS: Final = {
    "Server": "gateway",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
}


class AdminServer:
    """Serves the admin port.

    Args:
        settings: section ``admin``.
        checks: what ``/readyz`` asks.
        registry: what ``/metrics`` shows.
    """

    def __init__(self, settings: Admin, checks: Checks, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._checks = checks
        self._registry = registry
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
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        except OSError as exc:
            raise Broken(
                f"admin.host and admin.port: cannot listen on "
                f"{self._settings.host}:{self._settings.port}: {exc.strerror}"
            ) from exc

    async def stop(self) -> None:
        """Close. May be called twice, or before :meth:`start`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        token = self._settings.token.get_secret_value()
        if token and request.path not in _OPEN_PATHS and not _has_token(request, token):
            response: web.StreamResponse = web.Response(
                status=401, text="the admin token is needed\n", headers={"WWW-Authenticate": "Bearer"}
            )
        else:
            response = await handler(request)
        response.headers.update(_HEADERS)
        return response

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        is_ready, found = report(self._checks)
        return web.Response(
            status=200 if is_ready else 503,
            body=orjson.dumps({"ready": is_ready, "checks": found}, option=orjson.OPT_APPEND_NEWLINE),
            content_type="application/json",
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _has_token(request: web.Request, token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "surrogateescape"), token.encode()
    )
