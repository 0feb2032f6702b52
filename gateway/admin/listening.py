"""Opening the admin port, or taking over the socket that was opened before the processes were."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from aiohttp import web

from gateway import machine
from gateway.config.admin_settings import Admin
from gateway.connections import ConnectionLimit, LimitedServer
from gateway.errors import Broken
from gateway.sockets import BACKLOG

#: A probe, a page or a command sends its request at once.
_FIRST_BYTE_S: Final = 15.0


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
