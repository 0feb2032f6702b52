"""The fast path: process plain callbacks from their bytes, without aiohttp's request and response objects.

Most of the cost of an HTTP request in Python is generality, while a vendor's callback is always the same plain POST
with a length and a small body. The fast path passes its bytes to the same pure functions as the ordinary path
(:meth:`Acceptor.take`), without a task, and its answer is one prepared byte string. aiohttp processes all other
requests, doubtful ones included.

Invariants

1. A connection begins here and stays as long as all its requests are plain (:mod:`gateway.ingest.plain_http`). At the
   first doubt the connection is handed over: aiohttp's handler gets the transport and every unprocessed byte, from the
   beginning of a request, in the received pieces, and keeps the connection until it closes. The connection never
   returns, because only aiohttp's parser knows whether it is between two requests. So no byte is read by both.
2. A request is processed when its head and its complete body have arrived and no byte follows. A request that arrives
   in pieces is held for a moment (``_PATIENCE_S``) and then passed to aiohttp, whose time-outs apply.
3. One request at a time: pipelined requests are held, unread, until the previous answer was written. The socket is not
   read beyond ``_MOST_HELD`` bytes or ``_MOST_PIECES``.
4. A success answer is written when the log reports that the events are durable, never earlier. If the sender has
   disconnected, the outcome is counted all the same, as on the ordinary path.
5. Errors of the gateway are not handled here: the request is handed over, and the ordinary path meets, reports and
   answers the error. Processing a request twice is safe, because event ids are derived from its content.

Rejected: a subclass of aiohttp's handler that processes some requests itself. It would have to know that the parser is
between two requests, for which the parser has no attribute, and it would pay for parser, task and timer of each
connection (30 µs if a sender opens one for each callback).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum
from typing import Final, cast

from gateway.callbacks.answers import Answer
from gateway.callbacks.credentials import Network, caller
from gateway.callbacks.payload import CallbackRequest
from gateway.connections import ConnectionLimit
from gateway.errors import NotNow
from gateway.ingest.accept import Acceptor, Pending
from gateway.ingest.bodies import SMALL_BYTES
from gateway.ingest.endpoints import Endpoints
from gateway.ingest.plain_http import MOST_HEAD_BYTES, PlainHead, PlainHeads, ResponseWriter
from gateway.log import Appended

#: Time between two segments of a request: microseconds in a data centre, a tenth of a second across the world.
_PATIENCE_S: Final = 0.25
#: Checks that find a connection idle before it is closed: at most an eighth of the time late, without a timer each.
_LOOKS: Final = 8
#: Bytes held for a connection, about; a complete request fits. A hostile sender can use this memory.
_MOST_HELD: Final = SMALL_BYTES + MOST_HEAD_BYTES
#: Pieces held. Each causes another search of all pieces: a quadratic cost. 16 KiB arrive in 12 Ethernet frames.
_MOST_PIECES: Final = 64


class _Found(Enum):
    """Classification of bytes from the beginning of a request."""

    TAKEN = 1
    IN_PART = 2
    OTHER = 3


#: The request that waits for the log: head, request, answer, start time, and its bytes, in case it has to be handed
#: over. (A plain tuple, as one is created for each request.)
_Answering = tuple[PlainHead, CallbackRequest, Pending, float, bytes]


class FastConnection(asyncio.Protocol):
    """One connection, as long as its requests are plain. The module has the invariants.

    Args:
        shared: the objects that all connections of a server share.
    """

    __slots__ = (
        "_answering",
        "_held",
        "_is_half_closed",
        "_is_reading_paused",
        "_is_writing_paused",
        "_key",
        "_patience",
        "_peer",
        "_shared",
        "_transport",
        "last_look",
    )

    def __init__(self, shared: FastConnections) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._key: asyncio.Transport | None = None  # the same, until the connection is closed or handed over
        self._held: list[bytes] = []
        self._answering: _Answering | None = None
        self._is_half_closed = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._patience: asyncio.TimerHandle | None = None
        self._peer: str | None = None
        self.last_look = shared.looks

    # -- bytes in -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the accepted socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._key = self._transport
        self._shared.connections.add(self)
        self._shared.limit.add(self._transport, self)

    @property
    def has_request(self) -> bool:
        """Whether a request waits for the log."""
        return self._answering is not None

    @property
    def is_silent(self) -> bool:
        """Whether no byte is held. A connection with a processed request counts as used by its last request."""
        return not self._held

    def data_received(self, data: bytes) -> None:
        """Process bytes from the socket, split anywhere."""
        if self._held or self._answering is not None or not self._is_ready or self._try(data) is not _Found.TAKEN:
            self._held.append(data)
            self._go_on()

    def _go_on(self) -> None:
        """Process held requests in order, until one has to wait, is incomplete, or is not plain."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        while self._held and self._answering is None and self._is_ready:
            count, found = 0, _Found.IN_PART
            data = b""
            while found is _Found.IN_PART and count < len(self._held):
                data += self._held[count]
                count += 1
                found = self._try(data)
            if found is _Found.TAKEN:
                del self._held[:count]
            elif found is _Found.OTHER or count >= _MOST_PIECES:
                self._hand_over()
            else:
                self._patience = self._shared.loop.call_later(self._shared.patience_s, self.lose_patience)
                return
        self._pause_or_resume_reading()

    def _try(self, data: bytes) -> _Found:
        """Process ``data`` if it is exactly one request."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            may_become = len(data) <= MOST_HEAD_BYTES and data.startswith(b"POST /"[: len(data)])
            return _Found.IN_PART if may_become else _Found.OTHER
        head = self._shared.heads.read(data[:end])
        if head is None:
            return _Found.OTHER
        end += 4
        missing = end + head.length - len(data)
        if missing:
            return _Found.IN_PART if missing > 0 else _Found.OTHER
        request = CallbackRequest(
            "POST", head.path, head.query, head.headers, data[end:], self._shared.clock(), self._caller(head)
        )
        return self._take(head, request, data)

    def _take(self, head: PlainHead, request: CallbackRequest, data: bytes) -> _Found:
        started = time.perf_counter()
        try:
            taken = self._shared.acceptor.take(head.endpoint, request)
        except Exception:  # the ordinary path meets the same error and reports it
            return _Found.OTHER
        self.last_look = self._shared.looks
        if self._key is not None:
            self._shared.limit.used(self._key)
        if isinstance(taken, Answer):
            self._answer(head, taken, started)
        else:
            self._answering = (head, request, taken, started, data)
            taken.turn.when_done(self._settle)
        return _Found.TAKEN

    def _caller(self, head: PlainHead) -> str:
        """Return the caller's address. It differs between requests only behind a trusted proxy."""
        if self._peer is None:
            assert self._transport is not None
            peername = self._transport.get_extra_info("peername")
            self._peer = caller(peername[0] if peername else "", "", ())
        if self._shared.trusted and (forwarded_for := head.headers.get("x-forwarded-for")):
            return caller(self._peer, forwarded_for, self._shared.trusted)
        return self._peer

    # -- bytes out ----------------------------------------------------------------------------------------------

    def _settle(self, appended: Appended, error: BaseException | None) -> None:
        try:
            self._answer_waiting(appended, error)
        except Exception:
            self.abort()
            raise

    def _answer_waiting(self, appended: Appended, error: BaseException | None) -> None:
        """Answer the waiting request after the log has stored or refused its events."""
        assert self._answering is not None
        head, request, pending, started, data = self._answering
        self._answering = None
        if error is None:
            self._shared.acceptor.settled(head.endpoint, pending, appended)
            self._answer(head, pending.answer, started)
        elif isinstance(error, NotNow):
            self._answer(head, self._shared.acceptor.not_stored(head.endpoint, request, error), started)
        elif self._transport is not None:
            self._held.insert(0, data)
            self._hand_over()
        if self._held:
            self._go_on()

    def _answer(self, head: PlainHead, answer: Answer, started: float) -> None:
        self._shared.acceptor.metrics.took(head.endpoint.callback.name, time.perf_counter() - started)
        if self._transport is not None:
            is_last = head.is_last or self._shared.is_leaving
            self._transport.write(self._shared.response_writer.answer(answer, is_last=is_last))
            if is_last or self._is_half_closed:
                self._close()

    # -- waiting ------------------------------------------------------------------------------------------------

    @property
    def _is_ready(self) -> bool:
        """Whether a request may be processed: the peer reads its answers, and the server is not stopping."""
        return self._transport is not None and not self._is_writing_paused and not self._shared.is_stopping

    def _pause_or_resume_reading(self) -> None:
        """Pause reading while too many bytes are held behind a waiting request; resume it afterwards."""
        is_too_much = len(self._held) >= _MOST_PIECES or (
            len(self._held) > 0 and sum(map(len, self._held)) > _MOST_HELD
        )
        if self._transport is not None and is_too_much != self._is_reading_paused:
            self._is_reading_paused = is_too_much
            if is_too_much:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def lose_patience(self) -> None:
        """Pass an incomplete request to aiohttp, whose time-outs and answers apply."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            self._hand_over()

    def pause_writing(self) -> None:
        """Stop processing requests of a peer that does not read its answers."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """Continue after the peer has read its answers."""
        self._is_writing_paused = False
        if self._held:
            self._go_on()

    # -- the end ------------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Hand the connection over to aiohttp, with all bytes from the beginning of a request."""
        if self._shared.is_stopping:
            self._close()
            return
        transport, self._transport, self._key = self._transport, None, None
        assert transport is not None
        pieces, self._held = self._held, []
        self._shared.forget(self)
        handler = self._shared.ordinary()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if self._is_writing_paused:
            handler.pause_writing()
        if self._is_reading_paused:
            transport.resume_reading()
        for piece in pieces:
            handler.data_received(piece)

    def close_if_idle(self) -> None:
        """Close the connection unless an answer is outstanding. Abort it if the peer does not read its answers."""
        if self._answering is None:
            if self._is_writing_paused:
                self.abort()
            else:
                self._close()

    def abort(self) -> None:
        """Close at once; written bytes that were not sent are lost."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        transport, self._transport = self._transport, None
        self._held.clear()
        self._shared.forget(self)
        if transport is not None:
            transport.close()

    def eof_received(self) -> bool:
        """Handle the end of the peer's data: answer the waiting request, then close the connection."""
        self._is_half_closed = self._answering is not None
        return self._is_half_closed

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the connection after either side has closed it."""
        if self._key is not None:
            self._shared.limit.remove(self._key)
        self._transport = self._key = None
        self._held.clear()
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._shared.forget(self)


class FastConnections:
    """The connections of one server, and what they share. Stops in three steps: leave, pre_shutdown, shutdown.

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
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self.heads = PlainHeads(endpoints, min(max_body, SMALL_BYTES))
        self.acceptor = acceptor
        self.clock = clock
        self.ordinary = ordinary
        self.trusted = trusted
        self.limit = limit
        self.patience_s = patience_s
        self.response_writer = ResponseWriter()
        self.connections: set[FastConnection] = set()
        self.is_leaving = False
        self.is_stopping = False
        self.looks = 0
        self.loop = asyncio.get_running_loop()
        self._emptied: asyncio.Future[None] | None = None
        self._look_every_s = keepalive_s / _LOOKS
        self._next_look = self.loop.call_later(self._look_every_s, self._look)

    def forget(self, connection: FastConnection) -> None:
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
