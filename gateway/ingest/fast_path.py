"""The fast path: plain callbacks taken by their bytes, without aiohttp's request and response machinery.

Most of what an HTTP request costs in Python is generality, and a vendor's callback is always the same plain POST with
a length and a small body. Here it goes from the socket's bytes to the same pure functions as on the ordinary way
(:meth:`Intake.take`), without a task, and its answer is one prepared byte string. Everything else, every doubt
included, is aiohttp's.

Invariants

1. A connection begins here and stays as long as everything on it was plain (:mod:`gateway.ingest.plain_post`). At the
   first doubt the connection itself is handed over: aiohttp's handler gets the transport and every byte that was not
   taken, from the first byte of a request on, and keeps it until it closes. There is no way back, as nobody outside
   aiohttp's parser can know whether it stands between two requests; so no byte is ever read by both.
2. A request is taken when its head and its whole body are here. What comes in pieces is held for a moment
   (``_PATIENCE_S``), then it is aiohttp's, whose time-outs apply.
3. One request at a time: what a sender pipelines is held, unread, until the answer before it was written; the socket
   is not read past ``_MOST_HELD``.
4. Success is written when the log says that the events are durable, never before; also when nobody is there any more
   to read it, the outcome is counted as on the ordinary way.
5. An error of ours is not handled here: the request is handed over, and the ordinary way meets it, tells of it and
   answers. Taking a request twice is safe, since event ids are made of its content.
6. Stopping closes idle connections, waits for answers that are due, and reads nothing more.

Rejected: a subclass of aiohttp's handler that takes some requests and lets others through. It has to know that the
parser stands between two requests, and pays for parser, task and timer of each connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, cast

import structlog

from gateway.callbacks.answers import Answer
from gateway.callbacks.request import CallbackRequest
from gateway.errors import NotNow
from gateway.ingest.endpoints import Endpoint, Endpoints
from gateway.ingest.intake import Intake, Pending
from gateway.ingest.peer import Network, caller
from gateway.ingest.plain_post import MOST_HEAD_BYTES, PlainHeads
from gateway.ingest.written import Written

_log = structlog.get_logger("gateway.ingest")
#: Larger bodies are rare, come in many chunks, and cost more in themselves than the ordinary way adds.
_MOST_BODY: Final = 64 * 1024
#: Bytes held of one connection, about; a whole request fits. Ten times more is memory that a hostile sender gets.
_MOST_HELD: Final = _MOST_BODY + MOST_HEAD_BYTES
#: Between two segments of one request lie microseconds in a data centre, a tenth of a second across the world.
_PATIENCE_S: Final = 0.25
#: An idle connection is closed when this many looks found it idle: an eighth of the time late, and no timer for each.
_LOOKS: Final = 8


class _Answering(NamedTuple):
    """The request that waits for the log, with its own bytes in case it must be handed over after all."""

    endpoint: Endpoint
    request: CallbackRequest
    pending: Pending
    started: float
    data: bytes


class FastPath:
    """Makes the connections of one server, and knows them.

    Args:
        endpoints: the paths.
        intake: decides.
        clock: now, timezone-aware UTC.
        ordinary: makes aiohttp's handler of a connection that is not plain.
        trusted: networks of our own proxies.
        max_body: bytes; a larger body is aiohttp's, which refuses it.
        keepalive_s: an idle connection is closed after this time.
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
    ) -> None:
        self.heads = PlainHeads(endpoints, min(max_body, _MOST_BODY))
        self.intake = intake
        self.clock = clock
        self.ordinary = ordinary
        self.trusted = trusted
        self.written = Written()
        self.connections: set[FastConnection] = set()
        self.is_stopping = False
        self.looks = 0
        self.loop = asyncio.get_running_loop()
        self._look_every_s = keepalive_s / _LOOKS
        self._next_look = self.loop.call_later(self._look_every_s, self._look)
        self._emptied: asyncio.Future[None] | None = None
        self._settling: tuple[asyncio.Future[None], list[FastConnection]] | None = None

    def __call__(self) -> FastConnection:
        """A connection for a socket that was accepted."""
        return FastConnection(self)

    def forget(self, connection: FastConnection) -> None:
        """The connection is closed, or is aiohttp's now."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def settle_when_done(self, durable: asyncio.Future[None], connection: FastConnection) -> None:
        """Have the connection answer; one callback of the loop for all that share the future."""
        if self._settling is None or self._settling[0] is not durable:
            self._settling = (durable, [])
            durable.add_done_callback(partial(self._settle, self._settling[1]))
        self._settling[1].append(connection)

    def _settle(self, connections: list[FastConnection], durable: asyncio.Future[None]) -> None:
        self._settling = None
        error = durable.exception()
        for connection in connections:
            try:
                connection.settle(error)
            except Exception:  # one connection's trouble must not keep the others from their answers
                _log.exception("an answer could not be written")
                connection.abort()

    def pre_shutdown(self) -> None:
        """Read no more requests; close what is idle now, and the rest behind its answer."""
        self.is_stopping = True
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


class FastConnection(asyncio.Protocol):
    """One connection, for as long as it is plain. See the module for what holds."""

    __slots__ = (
        "_answering",
        "_held",
        "_is_last",
        "_is_reading_paused",
        "_is_writing_paused",
        "_path",
        "_patience",
        "_peer",
        "_transport",
        "last_look",
    )

    def __init__(self, path: FastPath) -> None:
        self._path = path
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._answering: _Answering | None = None
        self._is_last = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._patience: asyncio.TimerHandle | None = None
        self._peer: str | None = None
        self.last_look = path.looks

    # -- bytes in -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket was accepted."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._path.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket, split anywhere."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._held:
            data = self._held + data
            self._held = b""
        if self._answering is not None or self._is_writing_paused:
            self._hold(data)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Take requests from the front of ``data`` until one has to wait, or is not plain, or is not whole."""
        while data and not self._is_stopping:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MOST_HEAD_BYTES or not data.startswith(b"POST /"[: len(data)]):
                    self._hand_over(data)
                else:
                    self._wait_for_rest(data)
                return
            head = self._path.heads.read(data[:end])
            if head is None:
                self._hand_over(data)
                return
            end += 4
            behind = end + head.length
            if len(data) < behind:
                self._wait_for_rest(data)
                return
            request = CallbackRequest(
                "POST",
                head.path,
                head.query,
                head.headers,
                data[end:behind],
                self._path.clock(),
                self._caller(head.headers),
            )
            self._is_last = head.is_last
            taken, rest = (data, b"") if len(data) == behind else (data[:behind], data[behind:])
            if not self._take(head.endpoint, request, taken):
                self._hand_over(data)
                return
            data = rest
            if self._answering is not None or self._is_writing_paused:
                if data:
                    self._hold(data)
                return

    def _take(self, endpoint: Endpoint, request: CallbackRequest, data: bytes) -> bool:
        """Decide about one request; False when that failed, which the ordinary way will tell of."""
        started = time.perf_counter()
        try:
            taken = self._path.intake.take(endpoint, request)
        except Exception:  # whatever it is, the ordinary way meets it again and has the place for it
            return False
        self.last_look = self._path.looks
        if isinstance(taken, Answer):
            self._answer(endpoint, taken, started)
        else:
            self._answering = _Answering(endpoint, request, taken, started, data)
            self._path.settle_when_done(taken.durable, self)
        return True

    def _caller(self, headers: dict[str, str]) -> str:
        """The address that counts; it changes only where a proxy of ours speaks for many."""
        if self._peer is None:
            assert self._transport is not None
            peername = self._transport.get_extra_info("peername")
            self._peer = caller(peername[0] if peername else "", "", ())
        forwarded_for = headers.get("x-forwarded-for")
        if forwarded_for and self._path.trusted:
            return caller(self._peer, forwarded_for, self._path.trusted)
        return self._peer

    # -- bytes out ----------------------------------------------------------------------------------------------

    def settle(self, error: BaseException | None) -> None:
        """The log has stored the events, or refused: answer."""
        assert self._answering is not None
        endpoint, request, pending, started, data = self._answering
        self._answering = None
        if error is None:
            self._path.intake.count(endpoint, pending.outcome)
            self._answer(endpoint, pending.answer, started)
        elif isinstance(error, NotNow):
            self._answer(endpoint, self._path.intake.not_stored(endpoint, request, error), started)
        elif self._transport is not None:
            data, self._held = data + self._held, b""
            self._hand_over(data)
        if self._transport is not None and self._held and not self._is_writing_paused:
            self._read_held()

    def _answer(self, endpoint: Endpoint, answer: Answer, started: float) -> None:
        self._path.intake.tally.took(endpoint.callback.name, time.perf_counter() - started)
        transport = self._transport
        if transport is None:
            return
        is_last = self._is_last or self._path.is_stopping
        transport.write(self._path.written.answer(answer, is_last=is_last))
        if is_last:
            self._close()

    # -- waiting ------------------------------------------------------------------------------------------------

    @property
    def _is_stopping(self) -> bool:
        return self._transport is None or self._path.is_stopping

    def _wait_for_rest(self, data: bytes) -> None:
        self._held = data
        self._patience = self._path.loop.call_later(_PATIENCE_S, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        data, self._held = self._held, b""
        self._hand_over(data)

    def _hold(self, data: bytes) -> None:
        """Keep what came behind a request that is not answered yet."""
        self._held = data
        if len(data) > _MOST_HELD and not self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _read_held(self) -> None:
        data, self._held = self._held, b""
        if self._is_reading_paused and self._transport is not None:
            self._is_reading_paused = False
            self._transport.resume_reading()
        self._read(data)

    def pause_writing(self) -> None:
        """The sender does not read its answers: take no more requests from it."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_writing_paused = False
        if self._answering is None and self._held:
            self._read_held()

    # -- the end ------------------------------------------------------------------------------------------------

    def _hand_over(self, data: bytes) -> None:
        """Make the connection aiohttp's, from the first byte of a request on."""
        transport, self._transport = self._transport, None
        assert transport is not None
        self._path.forget(self)
        handler = self._path.ordinary()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if self._is_writing_paused:
            handler.pause_writing()
        handler.data_received(data)

    def close_if_idle(self) -> None:
        """Close, unless an answer is due. Answers that nobody reads are not waited for."""
        if self._answering is None:
            if self._is_writing_paused:
                self.abort()
            else:
                self._close()

    def abort(self) -> None:
        """Close at once; what was written and not sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        transport, self._transport = self._transport, None
        self._path.forget(self)
        if transport is not None:
            transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The other side went away, or we closed."""
        self._transport = None
        self._held = b""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._path.forget(self)
