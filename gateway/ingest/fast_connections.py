"""The fast connections of one server: their shared objects, the closing of idle ones, and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from gateway.connections import ConnectionLimit
from gateway.ingest.accept import Acceptor
from gateway.ingest.client_ip import Network
from gateway.ingest.endpoints import Endpoints
from gateway.ingest.large_bodies import SMALL_BYTES
from gateway.ingest.plain_post import PlainHeads
from gateway.ingest.response_writer import ResponseWriter

#: Time between two segments of a request: microseconds in a data centre, a tenth of a second across the world.
PATIENCE_S: Final = 0.25
#: Checks that find a connection idle before it is closed: at most an eighth of the time late, without a timer each.
_LOOKS: Final = 8


class Owned(Protocol):
    """Operations of the owner on a connection, see :class:`gateway.ingest.fast_path.FastConnection`."""

    last_look: int

    def close_if_idle(self) -> None:
        """Close it now, or after the answer that it waits for."""

    def abort(self) -> None:
        """Close it without an answer."""


class FastConnections:
    """Owns connections. Stops in three steps: ``leave``, ``pre_shutdown``, ``shutdown``.

    Args:
        endpoints: the known paths.
        acceptor: processes callbacks.
        clock: returns the current time, timezone-aware UTC.
        ordinary: creates aiohttp's handler for a connection that is not plain.
        trusted: networks of the operator's proxies.
        max_body: largest body, bytes. A larger one, or one above ``SMALL_BYTES``, is passed to aiohttp.
        keepalive_s: time after which an idle connection is closed, seconds.
        limit: limit of connections, shared with aiohttp's connections.
        patience_s: time after which an incomplete request is passed to aiohttp, seconds.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        acceptor: Acceptor,
        *,
        clock: Callable[[], datetime],
        ordinary: Callable[[], asyncio.Protocol],
        trusted: Sequence[Network],
        max_body: int,
        keepalive_s: float,
        limit: ConnectionLimit,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.heads = PlainHeads(endpoints, min(max_body, SMALL_BYTES))
        self.acceptor = acceptor
        self.clock = clock
        self.ordinary = ordinary
        self.trusted = trusted
        self.limit = limit
        self.patience_s = patience_s
        self.response_writer = ResponseWriter()
        self.connections: set[Owned] = set()
        self.is_leaving = False
        self.is_stopping = False
        self.looks = 0
        self.loop = asyncio.get_running_loop()
        self._emptied: asyncio.Future[None] | None = None
        self._look_every_s = keepalive_s / _LOOKS
        self._next_look = self.loop.call_later(self._look_every_s, self._look)

    def forget(self, connection: Owned) -> None:
        """Remove a connection that is closed, or that aiohttp owns now."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def leave(self) -> None:
        """Announce the end in each further answer (``Connection: close``), so that senders connect elsewhere."""
        self.is_leaving = True

    def pre_shutdown(self) -> None:
        """Stop reading requests; close idle connections now, and the other connections after their answers."""
        self.is_leaving = self.is_stopping = True
        self._next_look.cancel()
        for connection in list(self.connections):
            connection.close_if_idle()

    async def shutdown(self, timeout_s: float) -> None:
        """Wait up to ``timeout_s`` seconds for the outstanding answers, then close the remaining connections."""
        if self.connections:
            self._emptied = self.loop.create_future()
            await asyncio.wait([self._emptied], timeout=timeout_s)
        for connection in list(self.connections):
            connection.abort()

    def _look(self) -> None:
        self.looks += 1
        self._next_look = self.loop.call_later(self._look_every_s, self._look)
        for connection in list(self.connections):
            if self.looks - connection.last_look > _LOOKS:
                connection.close_if_idle()
