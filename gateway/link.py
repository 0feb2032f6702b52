"""The link: how the processes of one machine reach the log process, over a Unix socket.

    ingest ─── append ──▶ log ─── stored, trimmed, state ──▶ deliver
                           ◀─── append, note, sync ─────────

A frame is a head of five bytes, big-endian, and its content:

    u32 length of the content · u8 kind · content

Requests (``APPEND``, ``NOTE``, ``SYNC``) begin with a number (u32) that their answer repeats; many may be under way at
a time. A client that sends ``HELLO`` with ``follows`` gets a snapshot (``WELCOME``), then each commit. One that
does not read is sent no records above a bound, only where they are: it reads them from the file.

When the connection breaks, :class:`LogClient` connects again and repeats what was not answered. That is safe for vendor
events: the log process knows their ids, also a new one. Records of internal topics may be stored twice then, which
delivers them twice. What is not answered within ``resend_s`` of the break, or ``answer_s`` of being sent, fails with
:class:`JournalUnavailable`: the platform gets 503 and sends again.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from gateway import unix_socket
from gateway.errors import GatewayError, JournalFull, JournalUnavailable, NotNow
from gateway.log import ALL_NEW, Appended, Entry
from gateway.log.journal import segment
from gateway.log.journal.following import Commit, Follower, Positions, Snapshot, WriterState
from gateway.log.journal.retention import Trimmed
from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.writer import JournalWriter

#: Processes of one version are forked from one program; another version is a mistake that must show.
VERSION: Final = 1
#: No frame is longer; a length beyond it is not a frame's.
_MOST_BYTES: Final = 512 * 1024 * 1024
#: Bytes that may wait in the log process for a follower that does not read. Some thousand events; the rest is read from
#: the file, which costs little more.
_MOST_PUSHED: Final = 4 * 1024 * 1024

_HEAD: Final = struct.Struct(">IB")
_NUMBER: Final = struct.Struct(">I")
_STORED: Final = struct.Struct(">HQId")

_log = structlog.get_logger("gateway.link")


class Kind(IntEnum):
    """What a frame says."""

    HELLO = 1
    WELCOME = 2
    APPEND = 3
    APPENDED = 4
    NOTE = 5
    SYNC = 6
    DONE = 7
    REFUSED = 8
    STORED = 9
    STORED_ELSEWHERE = 10
    TRIMMED = 11
    STATE = 12


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = _HEAD.size

    def cut(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the frames that are whole with these bytes: kind and content.

        Raises:
            ValueError: what comes is not a frame.
        """
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return []
        data = b"".join(self._pieces) if len(self._pieces) > 1 else data
        frames: list[tuple[int, bytes]] = []
        at, size = 0, len(data)
        self._needed = _HEAD.size
        while size - at >= _HEAD.size:
            length, kind = _HEAD.unpack_from(data, at)
            if length > _MOST_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = at + _HEAD.size + length
            if end > size:
                self._needed = end - at
                break
            frames.append((kind, data[at + _HEAD.size : end]))
            at = end
        self._pieces = [data[at:]] if at < size else []
        self._held = size - at
        return frames


def frame(kind: Kind, *content: bytes) -> bytes:
    """Return the bytes of one frame."""
    return b"".join((_HEAD.pack(sum(map(len, content)), kind), *content))


# -- contents of frames --------------------------------------------------------------------------------------------


def _positions_out(positions: Positions) -> bytes:
    return orjson.dumps([(group, stream, offset) for (group, stream), offset in positions.items()])


def _positions_in(found: Sequence[Sequence[Any]]) -> Positions:
    return {(group, stream): offset for group, stream, offset in found}


def _snapshot_out(snapshot: Snapshot) -> bytes:
    return orjson.dumps(
        {
            "version": VERSION,
            "bounds": snapshot.bounds,
            "positions": [(group, stream, offset) for (group, stream), offset in snapshot.positions.items()],
            "state": snapshot.state,
            "database": snapshot.database,
            "known_ids": snapshot.known_ids,
        }
    )


def _snapshot_in(content: bytes) -> Snapshot:
    found = orjson.loads(content)
    if found["version"] != VERSION:
        raise ValueError(f"the log process speaks version {found['version']} of the link, this process {VERSION}")
    return Snapshot(
        {name: (floor, head) for name, (floor, head) in found["bounds"].items()},
        _positions_in(found["positions"]),
        WriterState(*found["state"]),
        (found["database"][0], found["database"][1]),
        found["known_ids"],
    )


def _commit_out(commit: Commit, *, is_whole: bool) -> bytes:
    stream, base, length, appended_at, records = commit
    name = stream.encode()
    head = _STORED.pack(len(name), base, length, appended_at)
    if is_whole and records is not None:
        return frame(Kind.STORED, head, name, records)
    return frame(Kind.STORED_ELSEWHERE, head, name)


def _commit_in(content: bytes, *, is_whole: bool) -> Commit:
    size, base, length, appended_at = _STORED.unpack_from(content)
    at = _STORED.size + size
    return Commit(content[_STORED.size : at].decode(), base, length, appended_at, content[at:] if is_whole else None)


def _trimmed_out(gone: Trimmed) -> bytes:
    segments = [(one.base, one.count, one.appended_at, one.topics) for one in gone.segments]
    return orjson.dumps((gone.stream, gone.first, gone.below, segments))


def _trimmed_in(content: bytes) -> Trimmed:
    stream, first, below, segments = orjson.loads(content)
    return Trimmed(stream, first, below, [SegmentInfo(*one) for one in segments])


def _refused_out(error: GatewayError) -> bytes:
    return orjson.dumps((isinstance(error, JournalFull), str(error)))


def _refused_in(content: bytes) -> NotNow:
    is_full, reason = orjson.loads(content)
    return JournalFull(reason) if is_full else JournalUnavailable(reason)


# -- the log process -----------------------------------------------------------------------------------------------


class LogServer:
    """Serves a journal's writer to the other processes.

    Args:
        writer: started.
        listening: a Unix socket that listens; it stays open, as a new log process goes on with it.
    """

    def __init__(self, writer: JournalWriter, listening: socket.socket) -> None:
        self._writer = writer
        self._listening = listening
        self._peers: set[_Peer] = set()
        self._gone: asyncio.Event = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Peer(self._writer, self._peers, self._gone), sock=self._listening
        )

    async def stop(self, wait_s: float) -> None:
        """Wait until the others have gone, at most ``wait_s`` seconds; then close. May be called before the start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._peers:
                    self._gone.clear()
                    await self._gone.wait()
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.abort()


class _Peer(asyncio.Protocol):
    """One process at the other end. As a follower it is given what the writer does."""

    def __init__(self, writer: JournalWriter, peers: set[_Peer], gone: asyncio.Event) -> None:
        self._writer = writer
        self._peers = peers
        self._gone = gone
        self._frames = Frames()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._is_paused = False
        self._unseen: dict[str, Commit] = {}
        self._name = "?"

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_MOST_PUSHED)
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writer.unfollow(self)
        self._peers.discard(self)
        self._gone.set()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        unseen, self._unseen = self._unseen, {}
        for commit in unseen.values():
            self._write(_commit_out(commit, is_whole=False))

    def data_received(self, data: bytes) -> None:
        try:
            for kind, content in self._frames.cut(data):
                self._received(kind, content)
        except (ValueError, struct.error, KeyError, TypeError) as exc:
            _log.error("link.not_understood", peer=self._name, error=str(exc))
            self.abort()

    # -- requests -----------------------------------------------------------------------------------------------

    def _received(self, kind: int, content: bytes) -> None:
        if kind == Kind.APPEND:
            self._append(content)
        elif kind == Kind.NOTE:
            number = content[:4]
            self._answer_when_done(number, partial(self._writer.note, _positions_in(orjson.loads(content[4:]))))
        elif kind == Kind.SYNC:
            self._write(frame(Kind.DONE, content[:4]))
        elif kind == Kind.HELLO:
            self._hello(orjson.loads(content))
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _hello(self, said: dict[str, Any]) -> None:
        self._name = str(said["name"])
        if said["version"] != VERSION:
            raise ValueError(f"it speaks version {said['version']} of the link, this process {VERSION}")
        if said["follows"]:
            self._writer.follow(self)
        else:
            self._write(frame(Kind.WELCOME, _snapshot_out(self._writer.snapshot())))

    def _append(self, content: bytes) -> None:
        self._answer_when_done(content[:4], partial(self._writer.append, content[4:]))

    def _answer_when_done(self, number: bytes, ask: Callable[[], asyncio.Future[Any]]) -> None:
        try:
            future = ask()
        except NotNow as exc:
            self._write(frame(Kind.REFUSED, number, _refused_out(exc)))
        else:
            future.add_done_callback(partial(self._answer, number))

    def _answer(self, number: bytes, future: asyncio.Future[Any]) -> None:
        error = future.exception()
        if isinstance(error, GatewayError):
            self._write(frame(Kind.REFUSED, number, _refused_out(error)))
            return
        appended = future.result()
        if appended is None:
            self._write(frame(Kind.DONE, number))
        else:
            repeated = appended.repeated
            self._write(frame(Kind.APPENDED, number, struct.pack(f">{len(repeated)}I", *repeated)))

    # -- as a follower ------------------------------------------------------------------------------------------

    def welcomed(self, snapshot: Snapshot) -> None:
        self._write(frame(Kind.WELCOME, _snapshot_out(snapshot)))

    def stored(self, commit: Commit) -> None:
        if self._is_paused:
            self._unseen[commit.stream] = commit  # the newest tells where the stream ends
        else:
            self._write(_commit_out(commit, is_whole=True))

    def trimmed(self, gone: Trimmed) -> None:
        self._write(frame(Kind.TRIMMED, _trimmed_out(gone)))

    def state_changed(self, state: WriterState) -> None:
        self._write(frame(Kind.STATE, orjson.dumps(state)))

    # -- out ----------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """With what else this turn of the loop brings."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(b"".join(out))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


# -- the other processes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """Numbers of a client.

    Args:
        start_s: for the first connection.
        resend_s: what waits is kept so long while there is no log process.
        answer_s: a log process that is connected and does not answer for so long hangs.
        again_s: between two attempts to connect.
        heartbeat_s: between two looks whether it answers.
        silent_s: no answer for so long is a problem, told by :attr:`LogClient.problem`.
        most_bytes: of records that wait. Past it a disk that hangs is answered 503 instead of filling the memory.
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
        self._broken_since = 0.0
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
        self._broken_since = self._loop.time()
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
            return "the log process is away; it is started again when it has died"
        if self._loop.time() - self._heard_at > self._policy.silent_s:
            silent_s = self._loop.time() - self._heard_at
            return f"the log process has not answered for {silent_s:.0f} s: it hangs, or its disk does"
        return ""

    # -- requests -----------------------------------------------------------------------------------------------

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Store vendor events; see :class:`gateway.ingest.gathering.Log`.

        Raises:
            ValueError: an id is not 32 hex digits, or a text is not Unicode.
            JournalUnavailable: see :meth:`append`.
        """
        return self.append(b"".join(map(segment.encode, entries)))

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """See :meth:`gateway.log.journal.following.Writer.append`."""
        if self._bytes > self._policy.most_bytes:
            raise JournalUnavailable("the disk does not keep up: too much waits for it")
        return self._ask(Kind.APPEND, records)

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """See :meth:`gateway.log.journal.following.Writer.note`."""
        return self._ask(Kind.NOTE, _positions_out(positions))

    async def sync(self) -> None:
        """See :meth:`gateway.log.journal.following.Writer.sync`."""
        await self._ask(Kind.SYNC, b"")

    def _ask(self, kind: Kind, content: bytes) -> asyncio.Future[Any]:
        now = self._loop.time()
        if self._is_closed or self._is_given_up(now):
            raise JournalUnavailable(self.problem)
        self._number = (self._number + 1) & 0xFFFFFFFF
        data = frame(kind, _NUMBER.pack(self._number), content)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._requests[self._number] = _Request(data, future, now)
        self._bytes += len(data)
        if self._transport is not None:
            self._transport.write(data)
        return future

    def _is_given_up(self, now: float) -> bool:
        """There is no hope for an answer soon: fail at once instead of letting everybody wait."""
        if self._transport is None:
            return now - self._broken_since > self._policy.resend_s
        return now - self._heard_at > self._policy.answer_s

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
                future.set_exception(error)
                future.exception()  # one whose caller has gone is not worth a warning of asyncio

    # -- the connection -----------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Until a log process has answered: connect, be welcomed, and send again what waits."""
        while True:
            self._welcome = self._loop.create_future()
            try:
                connection = unix_socket.connected(self._path)
                transport, _ = await self._loop.create_unix_connection(partial(_Connection, self), sock=connection)
                hello = {"version": VERSION, "name": self._name, "follows": self._follower is not None}
                transport.write(frame(Kind.HELLO, orjson.dumps(hello)))
                snapshot = await self._welcome
            except (OSError, JournalUnavailable):
                self._give_up_if_due()
                await asyncio.sleep(self._policy.again_s)
                continue
            self._welcome = None
            self._transport = transport
            self._heard_at = self._loop.time()
            self.known_ids = snapshot.known_ids
            for request in self._requests.values():
                transport.write(request.data)
            return

    def welcomed(self, snapshot: Snapshot) -> None:
        """The log process has answered; what it pushes follows at once, so the follower is called here."""
        if self._welcome is not None and not self._welcome.done():
            if self._follower is not None:
                self._follower.welcomed(snapshot)
            self._welcome.set_result(snapshot)

    def lost(self) -> None:
        """The connection is broken: connect again."""
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(JournalUnavailable("the log process went away"))
            return
        if self._transport is None or self._is_closed:
            return
        self._transport = None
        self._broken_since = self._loop.time()
        _log.warning("link.broken", waiting=len(self._requests))
        self._connector = asyncio.create_task(self._connect(), name="link")

    def _give_up_if_due(self) -> None:
        if self._is_given_up(self._loop.time()):
            self._fail(self._requests, JournalUnavailable(self.problem))

    async def _beat(self) -> None:
        """Look whether the log process answers, and give up what waits too long."""
        asked: asyncio.Future[Any] | None = None
        while True:
            await asyncio.sleep(self._policy.heartbeat_s)
            now = self._loop.time()
            if self._transport is not None and (asked is None or asked.done()):
                with suppress(JournalUnavailable):
                    asked = self._ask(Kind.SYNC, b"")
            late = {
                number: request
                for number, request in self._requests.items()
                if request.future is not asked and now - request.since > self._policy.answer_s
            }
            if late:
                self._fail(late, JournalUnavailable(self.problem or "the log process does not answer"))

    # -- what comes in ------------------------------------------------------------------------------------------

    def received(self, kind: int, content: bytes) -> None:
        """Take one frame of the log process."""
        self._heard_at = self._loop.time()
        if kind == Kind.APPENDED:
            (number,) = _NUMBER.unpack_from(content)
            future = self._settle(number)
            if future is not None:
                repeated = struct.unpack_from(f">{len(content) // 4 - 1}I", content, 4)
                future.set_result(Appended(frozenset(repeated)) if repeated else ALL_NEW)
        elif kind == Kind.DONE:
            (number,) = _NUMBER.unpack_from(content)
            future = self._settle(number)
            if future is not None:
                future.set_result(None)
        elif kind == Kind.REFUSED:
            (number,) = _NUMBER.unpack_from(content)
            future = self._settle(number)
            if future is not None:
                future.set_exception(_refused_in(content[4:]))
                future.exception()
        elif kind == Kind.WELCOME:
            self.welcomed(_snapshot_in(content))
        else:
            self._followed(kind, content)

    def _followed(self, kind: int, content: bytes) -> None:
        if self._follower is None:
            raise ValueError(f"a frame of kind {kind}")
        if kind in (Kind.STORED, Kind.STORED_ELSEWHERE):
            self._follower.stored(_commit_in(content, is_whole=kind == Kind.STORED))
        elif kind == Kind.TRIMMED:
            self._follower.trimmed(_trimmed_in(content))
        elif kind == Kind.STATE:
            self._follower.state_changed(WriterState(*orjson.loads(content)))
        else:
            raise ValueError(f"a frame of kind {kind}")


class _Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, client: LogClient) -> None:
        self._client = client
        self._frames = Frames()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for kind, content in self._frames.cut(data):
                self._client.received(kind, content)
        except (ValueError, struct.error, KeyError, TypeError) as exc:
            _log.error("link.not_understood", error=str(exc))
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost()
