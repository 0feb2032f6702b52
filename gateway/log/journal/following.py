"""What the writer of a journal and those who follow it say to each other, in one process or over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.log import Appended
from gateway.log.journal.retention import Trimmed

#: Offsets by (group, stream): everything below is done.
Positions = Mapping[tuple[str, str], int]


class WriterState(NamedTuple):
    """How the writer is.

    Args:
        failure: why a commit would fail now, or why the newest one did; empty when it did not.
        used_bytes: of the file, as last measured.
    """

    failure: str = ""
    used_bytes: int = 0


class Snapshot(NamedTuple):
    """The journal as its writer has it.

    Args:
        bounds: floor and head of each stream.
        positions: all durable ones.
        state: how the writer is.
        database: device and inode of the file that the writer has open.
        known_ids: ids in the window of known ones.
    """

    bounds: Mapping[str, tuple[int, int]]
    positions: Positions
    state: WriterState
    database: tuple[int, int]
    known_ids: int


class Commit(NamedTuple):
    """Records of one stream that have become durable together.

    Args:
        stream: its name.
        base: offset of the first record.
        length: how many they are.
        appended_at: Unix seconds.
        records: their bytes, see :mod:`.batch_format`.
    """

    stream: str
    base: int
    length: int
    appended_at: float
    records: bytes


class Follower(Protocol):
    """Is told what the writer does, in its order. Must be quick and raise nothing."""

    def welcomed(self, snapshot: Snapshot) -> None:
        """Take over the journal as it is now: when following begins, when the writer is another one, or too fast."""
        ...

    def stored(self, commit: Commit) -> None:
        """Take notice of records that have become durable."""
        ...

    def trimmed(self, gone: Trimmed) -> None:
        """Take notice of records that retention took."""
        ...

    def state_changed(self, state: WriterState) -> None:
        """Take notice of how the writer is now."""
        ...


class Writer(Protocol):
    """The writer of a journal, as a reader's process reaches it."""

    @property
    def problem(self) -> str:
        """Why the writer cannot be reached; empty when it can."""
        ...

    async def start(self, follower: Follower) -> None:
        """Reach the writer; the follower was welcomed when this returns.

        Raises:
            GatewayError: see :mod:`gateway.errors`.
        """
        ...

    async def stop(self) -> None:
        """Store what waits, then close. May be called twice, or before :meth:`start`."""
        ...

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """Store encoded records, all or none; done when they are durable, or failed with :class:`NotNow`.

        Raises:
            JournalUnavailable: they cannot even wait.
        """
        ...

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """Store positions, and whatever was given before them; done when they are durable, or failed likewise."""
        ...

    async def sync(self) -> None:
        """Return when the follower knows of everything that the writer had done before this call.

        Raises:
            JournalUnavailable: the writer cannot be asked.
        """
        ...
