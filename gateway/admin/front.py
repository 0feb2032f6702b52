"""The admin port of several workers: one address for probes, Prometheus, people and commands.

The supervisor serves it. Each worker has the admin interface of its own (:mod:`gateway.admin.server`) on a Unix socket
in a private folder, and is asked there.

==========================  ===============================================================================
``/healthz``                the supervisor lives
``/readyz``                 checks of all workers, ``worker-1.journal`` and so on
``/metrics``                of all workers, told apart by the label ``worker``, and the supervisor's own
``/workers/<number>/…``     what that worker serves at ``/…``: its console and its interface
``/api/events/<id>``        asked of one worker after the other until one knows the event
``/api/search``             asked of all of them (:mod:`gateway.admin.searching`)
anything else               the first worker that is there; a pause asked of it holds in all
==========================  ===============================================================================

Ready means: what listens can store, and somebody listens. A worker between two lives takes no connections, as the
kernel deals them to those that listen, so it does not make the machine unready: one that keeps dying must not take the
others, who go on storing, away from a load balancer. One that answers that it cannot store, or does not answer, does.

Who may ask is decided by the rules of :mod:`gateway.admin.guarding`: here for what is answered here, by the worker for
what is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.admin.answers import MAX_BODY_BYTES, NotFound, answered
from gateway.admin.guarding import add_headers, check
from gateway.admin.listening import listen
from gateway.admin.merging import Merged
from gateway.admin.searching import search
from gateway.admin.worker import Worker, WorkerAway, passed
from gateway.config.settings import Admin
from gateway.errors import NotNow
from gateway.telemetry.metrics import METRICS

#: Less than the time-outs of probes (Kubernetes: ours have 3 s) and of scrapes (10 s).
_PROBE_S: Final = 2.0
_SCRAPE_S: Final = 5.0
#: What this process counts itself.
_OWN: Final = ("gateway_worker_restarts", "gateway_worker_up")

_log = structlog.get_logger("gateway.admin")


class Front:
    """Serves the admin port for workers.

    Args:
        settings: host, port and token; the same that the workers have.
        sockets: where each worker's admin interface listens, by number.
    """

    def __init__(self, settings: Admin, sockets: Sequence[Path]) -> None:
        self._settings = settings
        self._workers = [Worker(number, socket) for number, socket in enumerate(sockets)]
        self._up = METRICS.gauge("gateway_worker_up")
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also where 0 was configured."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Listen. The workers need not be there yet.

        Raises:
            Broken: the address cannot be had.
        """
        for worker in self._workers:
            await worker.start()
        self._runner = await listen(self._application(), self._settings)

    async def stop(self) -> None:
        """Close. May be called twice, or before :meth:`start`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        for worker in self._workers:
            await worker.stop()

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_answered], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/events/{id}", self._story)
        app.router.add_get("/api/search", self._search)
        app.router.add_get(r"/workers/{number:\d+}", self._to_folder)
        app.router.add_route("*", r"/workers/{number:\d+}/{path:.*}", self._one)
        app.router.add_route("*", "/{path:.*}", self._first)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        check(request, self._settings)
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        check(request, self._settings)
        told = await asyncio.gather(*(self._ready(worker) for worker in self._workers))
        is_ready = any(ready for ready, _ in told) and not any(ready is False for ready, _ in told)
        checks = {name: text for _, found in told for name, text in found.items()}
        return web.Response(
            status=200 if is_ready else 503,
            body=orjson.dumps({"ready": is_ready, "checks": checks}, option=orjson.OPT_APPEND_NEWLINE),
            content_type="application/json",
        )

    async def _ready(self, worker: Worker) -> tuple[bool | None, dict[str, str]]:
        """Whether a worker is ready, None where it is away; and what it says."""
        name = f"worker-{worker.number}"
        try:
            status, text = await worker.text("/readyz", "", _PROBE_S)
            found: dict[str, Any] = orjson.loads(text)
            return status == 200, {f"{name}.{check}": str(said) for check, said in found["checks"].items()}
        except WorkerAway as exc:
            return None, {name: str(exc)}
        except TimeoutError:
            return False, {name: f"it listens and gives no answer in {_PROBE_S:g} s: it hangs, or is overloaded"}
        except (ValueError, KeyError, TypeError):
            return False, {name: "it gives an answer that is none"}

    async def _metrics(self, request: web.Request) -> web.Response:
        check(request, self._settings)
        found = await asyncio.gather(*(self._exported(worker) for worker in self._workers))
        texts = {worker.number: text for worker, text in zip(self._workers, found, strict=True) if text is not None}
        merged = Merged(METRICS.exported(*_OWN), texts)
        return web.Response(body=merged.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _exported(self, worker: Worker) -> str | None:
        """What a worker exports; None where it does not, which is counted."""
        text = None
        try:
            status, said = await worker.text("/metrics", self._settings.token.get_secret_value(), _SCRAPE_S)
            text = said if status == 200 else None
        except (WorkerAway, TimeoutError) as exc:
            _log.warning("worker.not_scraped", worker=worker.number, reason=str(exc) or f"no answer in {_SCRAPE_S:g} s")
        self._up.labels(str(worker.number)).set(0 if text is None else 1)
        return text

    async def _search(self, request: web.Request) -> web.StreamResponse:
        return await search(self._workers, request)

    async def _to_folder(self, request: web.Request) -> web.Response:
        """Addresses in the page are relative, so the slash matters."""
        return web.Response(status=308, headers={"Location": f"/workers/{request.match_info['number']}/"})

    async def _one(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"])
        if number >= len(self._workers):
            raise NotFound(f"there is no worker {number}; there are {len(self._workers)}, from 0")
        path = request.rel_url.raw_path_qs.removeprefix(f"/workers/{request.match_info['number']}")
        return await passed(request, await self._workers[number].ask(request, path))

    async def _first(self, request: web.Request) -> web.StreamResponse:
        for worker in self._workers:
            try:
                got = await worker.ask(request, request.rel_url.raw_path_qs)
            except WorkerAway:
                continue
            return await passed(request, got)
        raise NotNow("no worker answers; see the log lines worker.died and what they said before")

    async def _story(self, request: web.Request) -> web.StreamResponse:
        """Each worker knows the events of its own journal only."""
        unknown: aiohttp.ClientResponse | None = None
        away: WorkerAway | None = None
        for worker in self._workers:
            try:
                got = await worker.ask(request, request.rel_url.raw_path_qs)
            except WorkerAway as exc:
                away = exc
                continue
            if got.status != NotFound.status_hint:
                return await passed(request, got)
            if unknown is not None:
                unknown.release()
            unknown = got
        if unknown is None or away is not None:
            raise away or NotNow("there is no worker")
        return await passed(request, unknown)


@web.middleware
async def _answered(request: web.Request, handler: Any) -> web.StreamResponse:
    return await answered(request, handler)
