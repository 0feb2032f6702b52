"""The fast connections of one server: what they share, the idle ones, and the end of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from gateway.connections import ConnectionLimit
from gateway.ingest.endpoints import Endpoints
from gateway.ingest.fast_path import PATIENCE_S, FastConnection
from gateway.ingest.intake import Intake
from gateway.ingest.large_bodies import SMALL_BYTES
from gateway.ingest.peer import Network
from gateway.ingest.plain_post import PlainHeads
from gateway.ingest.written import Written
from gateway.log import ALL_NEW, Appended

_log = structlog.get_logger("gateway.ingest")
#: An idle connection is closed when this many looks found it idle: an eighth of the time late, and no timer for each.
_LOOKS: Final = 8


class FastConnections:
    """Makes connections, and knows them. Stops in three steps: ``leave``, ``pre_shutdown``, ``shutdown``.

    Args:
        endpoints: the paths.
        intake: decides.
        clock: now, timezone-aware UTC.
        ordinary: makes aiohttp's handler for a connection that is not plain.
        trusted: networks of our own proxies.
        max_body: bytes; a larger body is aiohttp's, which refuses it, as is one past ``SMALL_BYTES``.
        keepalive_s: an idle connection is closed after this time.
        limit: the bound on connections, shared with those that are aiohttp's.
        patience_s: a request that came in part is aiohttp's after this time.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        intake: Intake,
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
        self.intake = intake
        self.clock = clock
        self.ordinary = ordinary
        self.trusted = trusted
        self.limit = limit
        self.patience_s = patience_s
        self.written = Written()
        self.connections: set[FastConnection] = set()
        self.is_leaving = False
        self.is_stopping = False
        self.looks = 0
        self.loop = asyncio.get_running_loop()
        self._settling: tuple[asyncio.Future[Appended], list[FastConnection]] | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._look_every_s = keepalive_s / _LOOKS
        self._next_look = self.loop.call_later(self._look_every_s, self._look)

    def __call__(self) -> FastConnection:
        """A connection for a socket that was accepted."""
        return FastConnection(self)

    def forget(self, connection: FastConnection) -> None:
        """The connection is closed, or is aiohttp's now."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def settle_when_done(self, durable: asyncio.Future[Appended], connection: FastConnection) -> None:
        """Have the connection answer; one callback of the loop for all that share the future."""
        if self._settling is None or self._settling[0] is not durable:
            self._settling = (durable, [])
            durable.add_done_callback(partial(self._settle, self._settling[1]))
        self._settling[1].append(connection)

    def _settle(self, connections: list[FastConnection], durable: asyncio.Future[Appended]) -> None:
        self._settling = None
        error = durable.exception()
        appended = ALL_NEW if error is not None else durable.result()
        for connection in connections:
            try:
                connection.settle(appended, error)
            except Exception:  # one connection's trouble must not keep the others from their answers
                _log.exception("an answer could not be written")
                connection.abort()

    def leave(self) -> None:
        """Go on, but each answer from now on says that its connection closes: the sender turns elsewhere by itself."""
        self.is_leaving = True

    def pre_shutdown(self) -> None:
        """Read no more requests; close what is idle now, and the rest behind its answer."""
        self.is_leaving = self.is_stopping = True
        self._next_look.cancel()
        for connection in list(self.connections):
            connection.close_if_idle()

    async def shutdown(self, timeout_s: float) -> None:
        """Wait for the answers that are due, then close what is left."""
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
