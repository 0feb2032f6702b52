"""Frames of the link, and what is in them."""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, cast

import orjson
import structlog

from gateway.errors import GatewayError, JournalFull, JournalUnavailable, NotNow
from gateway.log.journal.batch_format import Commit
from gateway.log.journal.following import Positions, Snapshot, WriterState
from gateway.log.journal.retention import Trimmed
from gateway.log.journal.rows import SegmentInfo

#: Processes of one version are forked from one program; another version is a mistake that must show.
VERSION: Final = 1
#: No frame is longer; a length beyond it is not a frame's.
_MOST_BYTES: Final = 512 * 1024 * 1024

_HEAD: Final = struct.Struct(">IB")
NUMBER: Final = struct.Struct(">I")
_STORED: Final = struct.Struct(">HQId")

_log = structlog.get_logger("gateway.link")


class FrameKind(IntEnum):
    """Kind of a frame."""

    HELLO = 1
    WELCOME = 2
    APPEND = 3
    APPENDED = 4
    NOTE = 5
    SYNC = 6
    DONE = 7
    REFUSED = 8
    STORED = 9
    TRIMMED = 10
    STATE = 11


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


class FrameProtocol(asyncio.Protocol, ABC):
    """One connection: its frames go to :meth:`received`; bytes that are no frames end it.

    Args:
        peer: what is at the other end, for log lines.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self._frames = Frames()

    @abstractmethod
    def received(self, kind: int, content: bytes) -> None:
        """Process one frame; any of the errors below means that it is none of this version."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        try:
            for kind, content in self._frames.cut(data):
                self.received(kind, content)
        except (ValueError, struct.error, KeyError, TypeError) as exc:
            _log.error("link.not_understood", peer=self.peer, error=str(exc))
            self.abort()

    def abort(self) -> None:
        """End the connection at once, if there is one."""
        if self.transport is not None:
            self.transport.abort()


def frame(kind: FrameKind, *content: bytes) -> bytes:
    """Return the bytes of one frame."""
    return b"".join((_HEAD.pack(sum(map(len, content)), kind), *content))


# -- contents of frames --------------------------------------------------------------------------------------------


def positions_out(positions: Positions) -> bytes:
    """Return the bytes of positions."""
    return orjson.dumps([(group, stream, offset) for (group, stream), offset in positions.items()])


def positions_in(found: Sequence[Sequence[Any]]) -> Positions:
    """Return positions from their parsed form."""
    return {(group, stream): offset for group, stream, offset in found}


def snapshot_out(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot."""
    return orjson.dumps(
        {
            "version": VERSION,
            "bounds": snapshot.bounds,
            "positions": [(group, stream, offset) for (group, stream), offset in snapshot.positions.items()],
            "state": tuple(snapshot.state),
            "database": snapshot.database,
            "known_ids": snapshot.known_ids,
        }
    )


def snapshot_in(content: bytes) -> Snapshot:
    """Return a snapshot.

    Raises:
        ValueError: the log process speaks another version of the link.
    """
    found = orjson.loads(content)
    if found["version"] != VERSION:
        raise ValueError(f"the log process speaks version {found['version']} of the link, this process {VERSION}")
    return Snapshot(
        {name: (floor, head) for name, (floor, head) in found["bounds"].items()},
        positions_in(found["positions"]),
        WriterState(*found["state"]),
        (found["database"][0], found["database"][1]),
        found["known_ids"],
    )


def commit_out(commit: Commit) -> bytes:
    """Return the bytes of a commit."""
    stream, base, length, appended_at, records = commit
    name = stream.encode()
    return b"".join((_STORED.pack(len(name), base, length, appended_at), name, records))


def commit_in(content: bytes) -> Commit:
    """Return a commit."""
    size, base, length, appended_at = _STORED.unpack_from(content)
    at = _STORED.size + size
    return Commit(content[_STORED.size : at].decode(), base, length, appended_at, content[at:])


def trimmed_out(gone: Trimmed) -> bytes:
    """Return the bytes of what retention took."""
    segments = [(one.base, one.count, one.appended_at, one.topics) for one in gone.segments]
    return orjson.dumps((gone.stream, gone.first, gone.below, segments))


def trimmed_in(content: bytes) -> Trimmed:
    """Return what retention took."""
    stream, first, below, segments = orjson.loads(content)
    return Trimmed(stream, first, below, [SegmentInfo(*one) for one in segments])


def refused_out(error: GatewayError) -> bytes:
    """Return the bytes of a refusal."""
    return orjson.dumps((isinstance(error, JournalFull), str(error)))


def refused_in(content: bytes) -> NotNow:
    """Return a refusal as the error that it was."""
    is_full, reason = orjson.loads(content)
    return JournalFull(reason) if is_full else JournalUnavailable(reason)
