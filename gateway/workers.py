"""``--workers``: the wiring of the process that looks after the others.

    supervisor ── starts, restarts, stops ──▶ worker 0, worker 1, …
    admin port ── asks, on a socket each ───▶

The sockets stand in a folder of this process's own that nobody else can enter; it goes with the process. The admin
port is there before the first worker and after the last, so that probes and Prometheus see what happens to them.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import structlog

from gateway import __version__, descriptors
from gateway.admin.front import Front
from gateway.config.settings import Settings
from gateway.errors import GatewayError
from gateway.supervisor import Supervisor, reserve_port
from gateway.telemetry import logs

_log = structlog.get_logger("gateway.supervisor")


def run(role: Literal["serve", "fanout"], config_path: Path, settings: Settings, workers: int) -> int:
    """Run so many workers until SIGTERM or SIGINT; the exit code.

    Args:
        config_path: what each worker reads itself.
        settings: the same, as this process read it.
    """
    logs.configure(settings.log.level, settings.log.format)
    descriptors.raise_limit()
    ingest = settings.ingest
    holding = reserve_port(ingest.host, ingest.port) if role == "serve" else nullcontext()
    with holding as held, TemporaryDirectory(prefix="gateway-") as folder:
        environment = {"GATEWAY__INGEST__PORT": str(held.getsockname()[1])} if held is not None else {}
        sockets = [Path(folder) / f"{number}.sock" for number in range(workers)]

        def command(number: int) -> list[str]:
            base = [sys.executable, "-m", "gateway", role, "-c", str(config_path), "--workers", str(workers)]
            return [*base, "--worker", str(number), "--admin-socket", str(sockets[number])]

        supervisor = Supervisor(command, workers, environment=lambda _: environment)
        try:
            return asyncio.run(_run(supervisor, Front(settings.admin, sockets), role, settings.admin.host, workers))
        except GatewayError as exc:
            _log.error("gateway.failed", error=str(exc))
            return exc.exit_code


async def _run(supervisor: Supervisor, front: Front, role: str, host: str, workers: int) -> int:
    try:
        await front.start()
        _log.info(
            "supervisor.started", version=__version__, role=role, workers=workers, admin=f"http://{host}:{front.port}"
        )
        return await supervisor.run()
    finally:
        await front.stop()
