"""The other processes' end of the link."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from gateway.errors import JournalUnavailable, NotNow
from gateway.link.frames import (
    NUMBER,
    VERSION,
    FrameKind,
    FrameProtocol,
    commit_in,
    frame,
    positions_out,
    refused_in,
    snapshot_in,
    trimmed_in,
)
from gateway.log import ALL_NEW, Appended, Entry
from gateway.log.journal import batch_format
from gateway.log.journal.following import Follower, Positions, Snapshot, WriterState
from gateway.sockets import connected

_ANSWERS: Final = frozenset({FrameKind.APPENDED, FrameKind.DONE, FrameKind.REFUSED})

_log = structlog.get_logger("gateway.link")


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """Numbers of a client.

    Args:
        start_s: for the first connection.
        resend_s: what waits is kept so long while there is no log process.
        answer_s: a log process that is connected and does not answer for so long hangs.
        again_s: between two attempts to connect.
        heartbeat_s: between two looks whether it answers.
        silent_s: no answer for so long is a problem, reported by :attr:`LogClient.problem`.
        most_bytes: of records that wait, and of those given up that the log process has not read. Past it a disk that
            hangs is answered 503 instead of filling the memory.
    """

    start_s: float = 20.0
    resend_s: float = 2.0
    answer_s: float = 10.0
    again_s: float = 0.05
    heartbeat_s: float = 1.0
    silent_s: float = 3.0
    most_bytes: int = 64 * 1024 * 1024


@dataclass(slots=True)
class _Request:
    """One that waits for its answer.

    Args:
        data: its frame.
        future: of its caller.
        since: by the loop's clock.
    """

    data: bytes
    future: asyncio.Future[Any]
    since: float = field(default=0.0)


class LogClient:
    """The log process, as another process of the machine reaches it.

    Implements :class:`gateway.log.journal.following.Writer`, and what ingest asks of a log.

    Args:
        path: of the log process's socket.
        name: of this process, for log lines.
    """

    def __init__(self, path: Path, name: str, policy: LinkPolicy | None = None) -> None:
        self._path = path
        self._name = name
        self._policy = policy or LinkPolicy()
        self._follower: Follower | None = None
        self._transport: asyncio.Transport | None = None
        self._requests: dict[int, _Request] = {}
        self._number = 0
        self._bytes = 0
        self._is_behind = False
        self._has_given_up = False
        self._resending: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._welcome: asyncio.Future[Snapshot] | None = None
        self._connector: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._is_closed = False
        self.known_ids = 0

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, follower: Follower | None = None) -> None:
        """See :meth:`gateway.log.journal.following.Writer.start`; without a follower only the link is made.

        Raises:
            JournalUnavailable: no log process answered within ``start_s`` seconds.
        """
        self._loop = asyncio.get_running_loop()
        self._follower = follower
        self._connector = asyncio.create_task(self._connect(), name="link")
        try:
            async with asyncio.timeout(self._policy.start_s):
                await asyncio.shield(self._connector)
        except TimeoutError:
            await self.stop()
            raise JournalUnavailable(f"{self._path}: the log process does not answer") from None
        self._heart = asyncio.create_task(self._beat(), name="link-heartbeat")

    async def stop(self) -> None:
        """See :meth:`gateway.log.journal.following.Writer.stop`: wait for answers, then close."""
        if self._is_closed:
            return
        waiting = [request.future for request in self._requests.values()]
        if waiting and self._transport is not None:
            await asyncio.wait(waiting, timeout=self._policy.resend_s)
        self._is_closed = True
        if self._resending is not None:
            self._resending.cancel()
        for task in (self._connector, self._heart):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
        self._fail(self._requests, JournalUnavailable(self.problem))

    @property
    def problem(self) -> str:
        """See :attr:`gateway.log.journal.following.Writer.problem`."""
        if self._is_closed:
            return "the journal is closed: the gateway is stopping"
        if self._transport is None:
            return "the log process is not running; the supervisor restarts it"
        silent_s = self._silent_s()
        if silent_s > self._policy.silent_s:
            return f"the log process has not answered for {silent_s:.0f} s: it hangs, or its disk does"
        return ""

    # -- requests -----------------------------------------------------------------------------------------------

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Store vendor events; see :class:`gateway.ingest.accept.IngestLog`.

        Raises:
            ValueError: an id is not 32 hex digits, or a text is not Unicode.
            JournalUnavailable: see :meth:`append`.
        """
        return self.append(b"".join(map(batch_format.encode, entries)))

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """See :meth:`gateway.log.journal.following.Writer.append`."""
        if self._is_behind or self._bytes > self._policy.most_bytes:
            raise JournalUnavailable("the disk does not keep up: too much waits for it")
        return self._ask(FrameKind.APPEND, records)

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """See :meth:`gateway.log.journal.following.Writer.note`."""
        return self._ask(FrameKind.NOTE, positions_out(positions))

    async def sync(self) -> None:
        """See :meth:`gateway.log.journal.following.Writer.sync`."""
        await self._ask(FrameKind.SYNC, b"")

    def _ask(self, kind: FrameKind, content: bytes) -> asyncio.Future[Any]:
        if self._is_closed or self._is_given_up:
            raise JournalUnavailable(self.problem)
        return self._send(kind, content)

    def _send(self, kind: FrameKind, content: bytes) -> asyncio.Future[Any]:
        now = self._loop.time()
        if not self._requests:
            self._heard_at = now  # it owed no answer until now
        self._number = (self._number + 1) & 0xFFFFFFFF
        data = frame(kind, NUMBER.pack(self._number), content)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._requests[self._number] = _Request(data, future, now)
        self._bytes += len(data)
        if self._transport is not None:
            self._transport.write(data)
        return future

    @property
    def _is_given_up(self) -> bool:
        """Whether no answer can be expected soon: requests fail at once instead of waiting."""
        if self._transport is None:
            return self._has_given_up
        return self._silent_s() > self._policy.answer_s

    def _silent_s(self) -> float:
        """Return how long the log process owes an answer and has sent nothing, without pauses of this process."""
        return self._loop.time() - self._heard_at if self._requests else 0.0

    def _settle(self, number: int) -> asyncio.Future[Any] | None:
        request = self._requests.pop(number, None)
        if request is None:
            return None  # it was given up before
        self._bytes -= len(request.data)
        return None if request.future.done() else request.future

    def _fail(self, requests: dict[int, _Request], error: NotNow) -> None:
        for number in list(requests):
            future = self._settle(number)
            if future is not None:
                _refuse(future, error)

    # -- the connection -----------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Connect, wait for the welcome, and send waiting requests again; retry until a log process answers."""
        while True:
            self._welcome = self._loop.create_future()
            try:
                connection = connected(self._path)
                transport, _ = await self._loop.create_unix_connection(partial(_Connection, self), sock=connection)
                transport.set_write_buffer_limits(high=self._policy.most_bytes)
                hello = {"version": VERSION, "name": self._name, "follows": self._follower is not None}
                transport.write(frame(FrameKind.HELLO, orjson.dumps(hello)))
                snapshot = await self._welcome
            except (OSError, JournalUnavailable):
                await asyncio.sleep(self._policy.again_s)
                continue
            self._welcome = None
            self._transport = transport
            self._has_given_up = False
            if self._resending is not None:
                self._resending.cancel()
            self._heard_at = self._loop.time()
            self.known_ids = snapshot.known_ids
            for number, request in list(self._requests.items()):
                if request.future.done():  # it has no waiter any more, or was cancelled
                    self._settle(number)
                else:
                    transport.write(request.data)
            return

    def welcomed(self, snapshot: Snapshot) -> None:
        """Apply a snapshot: the first answer of the log process, or a later one; what it pushes follows at once."""
        if self._follower is not None:
            self._follower.welcomed(snapshot)
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_result(snapshot)

    def lost(self) -> None:
        """Connect again: the connection is broken."""
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(JournalUnavailable("the log process closed the connection"))
            return
        if self._transport is None or self._is_closed:
            return
        self._transport = None
        self._is_behind = False
        # Not by the attempts to connect: an unaccepted connection is made, and waits in the socket's queue.
        self._resending = self._loop.call_later(self._policy.resend_s, self._give_up)
        _log.warning("link.broken", waiting=len(self._requests))
        self._connector = asyncio.create_task(self._connect(), name="link")

    def filled(self, is_behind: bool) -> None:
        """Note whether the log process reads so slowly that unsent data fills the connection."""
        self._is_behind = is_behind

    def _give_up(self) -> None:
        """Fail the waiting requests, and new ones until there is a connection: the log process is down for too long."""
        self._has_given_up = True
        self._fail(self._requests, JournalUnavailable(self.problem))

    async def _beat(self) -> None:
        """Look whether the log process answers, and give up what waits too long.

        Also where no request is sent any more: after a pause of this process (``SIGSTOP``, a frozen container) longer
        than ``answer_s`` nothing else would find out that the log process answers.
        """
        asked: asyncio.Future[Any] | None = None
        while True:
            await asyncio.sleep(self._policy.heartbeat_s)
            now = self._loop.time()
            if self._transport is not None and (asked is None or asked.done()):
                asked = self._send(FrameKind.SYNC, b"")
            late = {
                number: request
                for number, request in self._requests.items()
                if request.future is not asked and now - request.since > self._policy.answer_s
            }
            if late:
                self._fail(late, JournalUnavailable(self.problem or "the log process does not answer"))

    # -- what comes in ------------------------------------------------------------------------------------------

    def received(self, kind: int, content: bytes) -> None:
        """Process one frame of the log process."""
        self._heard_at = self._loop.time()
        if kind in _ANSWERS:
            self._answered(kind, content)
        elif kind == FrameKind.WELCOME:
            self.welcomed(snapshot_in(content))
        elif self._follower is None:
            raise ValueError(f"a frame of kind {kind}")
        elif kind == FrameKind.STORED:
            self._follower.stored(commit_in(content))
        elif kind == FrameKind.TRIMMED:
            self._follower.trimmed(trimmed_in(content))
        elif kind == FrameKind.STATE:
            self._follower.state_changed(WriterState(*orjson.loads(content)))
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _answered(self, kind: int, content: bytes) -> None:
        (number,) = NUMBER.unpack_from(content)
        future = self._settle(number)
        if future is None:
            return
        if kind == FrameKind.REFUSED:
            _refuse(future, refused_in(content[4:]))
        elif kind == FrameKind.DONE:
            future.set_result(None)
        else:
            repeated = struct.unpack_from(f">{len(content) // 4 - 1}I", content, 4)
            future.set_result(Appended(frozenset(repeated)) if repeated else ALL_NEW)


def _refuse(future: asyncio.Future[Any], error: NotNow) -> None:
    future.set_exception(error)
    future.exception()  # one whose caller has gone is not worth a warning of asyncio


class _Connection(FrameProtocol):
    """One connection of a client."""

    def __init__(self, client: LogClient) -> None:
        super().__init__("the log process")
        self._client = client

    def received(self, kind: int, content: bytes) -> None:
        self._client.received(kind, content)

    def pause_writing(self) -> None:
        self._client.filled(True)

    def resume_writing(self) -> None:
        self._client.filled(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost()
