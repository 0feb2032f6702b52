"""The log process's end of the link."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import orjson
import structlog

from gateway.errors import GatewayError, JournalUnavailable, NotNow
from gateway.link.frames import (
    VERSION,
    FrameKind,
    FrameProtocol,
    commit_out,
    frame,
    positions_in,
    refused_out,
    snapshot_out,
    trimmed_out,
)
from gateway.log.journal.batch_format import Commit
from gateway.log.journal.following import Snapshot, WriterState
from gateway.log.journal.retention import Trimmed
from gateway.log.journal.writer import JournalWriter

#: Bytes that may wait in the log process for a follower that does not read. Some thousand events; the others are read
#: from the file, which costs little more.
_MOST_PUSHED: Final = 4 * 1024 * 1024

_log = structlog.get_logger("gateway.link")


class LogServer:
    """Serves a journal's writer to the other processes.

    Args:
        writer: started.
        listening: a Unix socket that listens; it stays open, as a new log process continues to use it.
    """

    def __init__(self, writer: JournalWriter, listening: socket.socket) -> None:
        self._writer = writer
        self._listening = listening
        self._peers: set[_Peer] = set()
        self._gone: asyncio.Event = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if sys.version_info >= (3, 13):
            # Otherwise the socket loses its name when this server is closed, and the next one could not be reached.
            # uvloop, too, does so from this version on (0.22, which is the least that we take).
            options["cleanup_socket"] = False
        self._server = await loop.create_unix_server(
            lambda: _Peer(self._writer, self._peers, self._gone), sock=self._listening, **options
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


class _Peer(FrameProtocol):
    """One process at the other end. As a follower it is given what the writer does."""

    def __init__(self, writer: JournalWriter, peers: set[_Peer], gone: asyncio.Event) -> None:
        super().__init__("?")
        self._writer = writer
        self._peers = peers
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._is_paused = False
        self._has_missed = False

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        cast("asyncio.Transport", transport).set_write_buffer_limits(high=_MOST_PUSHED)
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._writer.unfollow(self)
        self._peers.discard(self)
        self._gone.set()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._catch_up()

    # -- requests -----------------------------------------------------------------------------------------------

    def received(self, kind: int, content: bytes) -> None:
        if kind == FrameKind.APPEND:
            self._answer_when_done(content[:4], partial(self._writer.append, content[4:]))
        elif kind == FrameKind.NOTE:
            number = content[:4]
            self._answer_when_done(number, partial(self._writer.note, positions_in(orjson.loads(content[4:]))))
        elif kind == FrameKind.SYNC:
            self._catch_up()  # the answer says that the other end knows all that was done before it
            self._write(frame(FrameKind.DONE, content[:4]))
        elif kind == FrameKind.HELLO:
            self._hello(orjson.loads(content))
        else:
            raise ValueError(f"a frame of kind {kind}")

    def _hello(self, said: dict[str, Any]) -> None:
        self.peer = str(said["name"])
        if said["version"] != VERSION:
            raise ValueError(f"it speaks version {said['version']} of the link, this process {VERSION}")
        if said["follows"]:
            self._writer.follow(self)
        else:
            self._write(frame(FrameKind.WELCOME, snapshot_out(self._writer.snapshot())))

    def _answer_when_done(self, number: bytes, ask: Callable[[], asyncio.Future[Any]]) -> None:
        try:
            future = ask()
        except NotNow as exc:
            self._write(frame(FrameKind.REFUSED, number, refused_out(exc)))
        except ValueError as exc:
            # Of this request alone: the end of the connection would send it again, with all others.
            _log.error("link.refused", peer=self.peer, error=str(exc))
            self._write(frame(FrameKind.REFUSED, number, refused_out(JournalUnavailable(str(exc)))))
        else:
            future.add_done_callback(partial(self._answer, number))

    def _answer(self, number: bytes, future: asyncio.Future[Any]) -> None:
        error = future.exception()
        if isinstance(error, GatewayError):
            self._write(frame(FrameKind.REFUSED, number, refused_out(error)))
            return
        appended = future.result()
        if appended is None:
            self._write(frame(FrameKind.DONE, number))
        else:
            repeated = appended.repeated
            self._write(frame(FrameKind.APPENDED, number, struct.pack(f">{len(repeated)}I", *repeated)))

    # -- as a follower ------------------------------------------------------------------------------------------

    def welcomed(self, snapshot: Snapshot) -> None:
        self._write(frame(FrameKind.WELCOME, snapshot_out(snapshot)))

    def stored(self, commit: Commit) -> None:
        self._push(lambda: frame(FrameKind.STORED, commit_out(commit)))

    def trimmed(self, gone: Trimmed) -> None:
        self._push(lambda: frame(FrameKind.TRIMMED, trimmed_out(gone)))

    def state_changed(self, state: WriterState) -> None:
        self._push(lambda: frame(FrameKind.STATE, orjson.dumps(tuple(state))))

    def _push(self, frame_of: Callable[[], bytes]) -> None:
        """Send what the writer did, or, while the other end does not read, a snapshot instead when it reads again."""
        if self._is_paused:
            self._has_missed = True
        else:
            self._write(frame_of())

    def _catch_up(self) -> None:
        """Send a snapshot in place of what was not sent while the other end did not read."""
        if self._has_missed:
            self.welcomed(self._writer.snapshot())  # may fail, as it reads the file: then it is still to be sent
            self._has_missed = False

    # -- out ----------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """Send data together with other data of this turn of the event loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self.transport is not None:
            self.transport.write(b"".join(out))


def remove_other_sockets(link: Path | None) -> None:
    """Remove the sockets that log processes of earlier gateways left: the folder is ours, by its lock."""
    for path in link.parent.glob("log-*.link") if link is not None else ():
        if path != link:
            path.unlink(missing_ok=True)
