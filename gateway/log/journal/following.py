"""The interface between the writer of a journal and its followers, in one process or over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.log import Appended
from gateway.log.journal.batch_format import Commit
from gateway.log.journal.retention import Trimmed

#: Offsets by (group, stream): everything below is done.
Positions = Mapping[tuple[str, str], int]


class WriterState(NamedTuple):
    """The state of the writer.

    Args:
        failure: why a commit would fail now, or why the newest one failed; empty if it succeeded.
        used_bytes: used bytes of the file, as last measured.
    """

    failure: str = ""
    used_bytes: int = 0


class Snapshot(NamedTuple):
    """The state of the journal at one moment.

    Args:
        bounds: floor and head of each stream.
        positions: all durable positions.
        state: state of the writer.
        database: device and inode of the file that the writer has open.
        known_ids: number of ids in the window of known ids.
    """

    bounds: Mapping[str, tuple[int, int]]
    positions: Positions
    state: WriterState
    database: tuple[int, int]
    known_ids: int


class Follower(Protocol):
    """Receives the changes that the writer makes, in their order. Must be quick and raise nothing."""

    def welcomed(self, snapshot: Snapshot) -> None:
        """Replace the known state: following begins, the writer is a new one, or the follower was too slow."""

    def stored(self, commit: Commit) -> None:
        """Note records that have become durable."""

    def trimmed(self, gone: Trimmed) -> None:
        """Note records that retention removed."""

    def state_changed(self, state: WriterState) -> None:
        """Note a new state of the writer."""


class Writer(Protocol):
    """The writer of a journal, as a process that reads it uses it."""

    @property
    def problem(self) -> str:
        """The reason why the writer cannot be reached; empty if it can."""

    async def start(self, follower: Follower) -> None:
        """Connect to the writer; :meth:`Follower.welcomed` was called when this returns.

        Raises:
            GatewayError: see :mod:`gateway.errors`.
        """

    async def stop(self) -> None:
        """Store waiting records and positions, then close. May be called twice, or before :meth:`start`."""

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """Store encoded records, all or none; the future is done when they are durable, or failed with :class:`NotNow`.

        Raises:
            JournalUnavailable: they cannot be queued.
        """

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """Store positions and everything queued before them; the future is as that of :meth:`append`."""

    async def sync(self) -> None:
        """Return when the follower knows all changes that the writer had made before this call.

        Raises:
            JournalUnavailable: the writer cannot be reached.
        """
