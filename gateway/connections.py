"""Bound the connections of a port, and choose the one to close when one more comes.

The order in which they are closed:

1. of those that have not brought a whole request yet, the one that came first;
2. otherwise the one whose last request is longest ago;
3. but none with a request under way: when all have one, it is the newcomer.

So a flood of connections that send nothing closes itself, and a sender that uses its connection keeps it. A connection
that never sends a byte is closed after a time, also when there is room.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from itertools import islice
from typing import Any, Final, Protocol, cast

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from gateway.telemetry.metrics import METRICS

_CLOSED: Final = METRICS.counter("gateway_connections_closed")
#: Connections looked at for one without a request under way. Each look is a microsecond, for each that is accepted.
_LOOKS: Final = 64
#: Connections that send nothing are closed at most this share of their time late.
_SWEEPS: Final = 4
_LOG_EVERY_S: Final = 60.0

_log = structlog.get_logger("gateway.connections")


class Holder(Protocol):
    """The state of a connection, as its protocol reports it."""

    @property
    def has_request(self) -> bool:
        """Whether a whole request is in progress, so that closing would leave it unanswered."""

    @property
    def is_silent(self) -> bool:
        """Whether no byte has been received."""


class ConnectionLimit:
    """The connections of one port. To be used on one event loop.

    Args:
        port: ``ingest`` or ``admin``, for metric and log.
        most: connections at once.
        first_byte_s: seconds after which a connection that sent nothing is closed.
    """

    def __init__(self, port: str, most: int, first_byte_s: float) -> None:
        self._port = port
        self._most = most
        self._first_byte_s = first_byte_s
        self._new: dict[asyncio.Transport, tuple[float, Holder]] = {}  # in the order in which they came
        self._used: OrderedDict[asyncio.Transport, Holder] = OrderedDict()  # in the order of their last requests
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self._logged = -_LOG_EVERY_S

    def __len__(self) -> int:
        return len(self._new) + len(self._used)

    def add(self, transport: asyncio.Transport, holder: Holder) -> None:
        """Count a connection, or note its new holder. Makes room; where there is none, closes the newcomer."""
        if transport in self._used:
            self._used[transport] = holder
        elif transport in self._new:
            self._new[transport] = (self._new[transport][0], holder)
        elif len(self) >= self._most and not self._make_room():
            transport.abort()
        else:
            self._new[transport] = (self._loop.time(), holder)
            if self._sweeping is None:
                self._sweeping = self._loop.call_later(self._first_byte_s / _SWEEPS, self._sweep)

    def used(self, transport: asyncio.Transport) -> None:
        """Note that a whole request came by this connection."""
        if transport in self._used:
            self._used.move_to_end(transport)
        elif transport in self._new:
            self._used[transport] = self._new.pop(transport)[1]

    def remove(self, transport: asyncio.Transport) -> None:
        """Forget a connection that is closed. May be called twice."""
        if self._used.pop(transport, None) is None:
            self._new.pop(transport, None)

    def close(self) -> None:
        """End the timer; connections are their server's. May be called twice."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _make_room(self) -> bool:
        """Close the connection that is due and return True; return False when each has a request under way."""
        _CLOSED.labels(self._port, "full").inc()
        self._report()
        found = next((one for one, (_, holder) in islice(self._new.items(), _LOOKS) if not holder.has_request), None)
        if found is None:
            found = next((one for one, holder in islice(self._used.items(), _LOOKS) if not holder.has_request), None)
        if found is None:
            return False
        self.remove(found)
        found.abort()
        return True

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            _log.warning(
                "connections.full",
                port=self._port,
                connections=self._most,
                advice="the longest idle ones are closed; find who opens so many, or raise the limit of open files",
            )

    def _sweep(self) -> None:
        """Close those that have sent nothing for too long."""
        due = self._loop.time() - self._first_byte_s
        late: list[asyncio.Transport] = []
        for transport, (since, holder) in self._new.items():
            if since > due:
                break
            if holder.is_silent:
                late.append(transport)
        for transport in late:
            _CLOSED.labels(self._port, "silent").inc()
            self.remove(transport)
            transport.abort()
        self._sweeping = self._loop.call_later(self._first_byte_s / _SWEEPS, self._sweep) if self._new else None


class LimitedHandler(RequestHandler):  # type: ignore[misc,type-arg,unused-ignore]  # aiohttp's class is generic for it only
    """aiohttp's handler of one connection, as a :class:`Holder`."""

    __slots__ = ()

    @property
    def has_request(self) -> bool:
        """Whether a request is being answered, or waits for that. A client that does not read answers has none."""
        return not self._paused and (self._current_request is not None or bool(self._messages))

    @property
    def is_silent(self) -> bool:
        """Whether no request has been received."""
        return self._request_count == 0

    def data_received(self, data: bytes) -> None:
        """Process bytes from the socket."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before and isinstance(self._manager, LimitedServer):
            self._manager.limit.used(cast("asyncio.Transport", self.transport))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an error of the gateway; skip errors of the sender, such as a disconnect or an unreadable body."""
        if isinstance(kw.get("exc_info"), (ConnectionError, web.RequestPayloadError)):
            return
        super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that the parser refused (400) or that the gateway failed on (500); log only the latter."""
        if status >= 500:
            self.log_exception("a request could not be handled", exc_info=exc)
        response = web.Response(status=status, text="error", headers={"Server": "gateway"})
        response.force_close()
        return response


class LimitedServer(web.Server):  # type: ignore[misc,type-arg,unused-ignore]
    """aiohttp's server with a bound on its connections.

    Args:
        limit: may be shared with other kinds of connections of the same port.
    """

    def __init__(self, limit: ConnectionLimit, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit = limit

    def __call__(self) -> LimitedHandler:
        """Make a handler for a connection that was accepted."""
        return LimitedHandler(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:  # type: ignore[type-arg,unused-ignore]
        """Count it; asked by its handler."""
        super().connection_made(handler, transport)
        self.limit.add(transport, cast("LimitedHandler", handler))

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:  # type: ignore[type-arg,unused-ignore]
        """Forget it; asked by its handler."""
        transport = self._connections.get(handler)
        super().connection_lost(handler, exc)
        if transport is not None:
            self.limit.remove(transport)
