"""Opening the admin port, or the socket that stands for it behind several workers."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from gateway.config.settings import Admin
from gateway.errors import Broken


async def listen(app: web.Application, settings: Admin, socket: Path | None = None) -> web.AppRunner:
    """Serve an application; what is returned is to be cleaned up.

    Args:
        socket: a Unix socket to listen on instead of the configuration's host and port.

    Raises:
        Broken: the address cannot be had.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    host, port = settings.host, settings.port
    site = web.UnixSite(runner, socket) if socket else web.TCPSite(runner, host, port)
    where = (
        f"TMPDIR: cannot listen on {socket}" if socket else f"admin.host and admin.port: cannot listen on {host}:{port}"
    )
    try:
        await site.start()
    except OSError as exc:
        await runner.cleanup()
        raise Broken(f"{where}: {exc.strerror or exc}") from exc
    return runner
