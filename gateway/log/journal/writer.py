"""The one writer of a journal: its file, its window of known ids, retention, and the folder's lock.

It is the log process, or a part of the process that has the readers (see :mod:`.following`). Everything, commits
included, runs on its event loop; only checkpoints have a thread.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from gateway.errors import Broken, JournalInUse, JournalUnavailable
from gateway.log import Appended
from gateway.log.journal import wal
from gateway.log.journal.batch_format import EVENTS
from gateway.log.journal.files import FolderLock
from gateway.log.journal.following import Commit, Follower, Positions, Snapshot, WriterState
from gateway.log.journal.group_commit import GroupCommit
from gateway.log.journal.open_files import JournalMoved, OpenFiles
from gateway.log.journal.recent_ids import KnownIds, newest_ids
from gateway.log.journal.retention import Enforcer, Retention, Trimmed
from gateway.log.journal.storage import FILE_NAME, Store, old_layout
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

_HOUSEKEEPING_S: Final = 10
#: Between two attempts to lock a folder that another process has; the kernel does not report its release.
_LOCK_LOOK_S: Final = 0.1

_log = structlog.get_logger("gateway.journal")


class JournalWriter:
    """Writes a journal. Implements :class:`gateway.log.journal.following.Writer` for followers in this process.

    Args:
        folder: created if it is missing; for one process at a time.
        retention: limits.
        known_ids: repeats of so many newest vendor events are recognised; 0 stores every repeat.
        clock: Unix seconds.
    """

    def __init__(
        self, folder: Path, retention: Retention, *, known_ids: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._retention = retention
        self._clock = clock
        self._lock = FolderLock(folder)
        self._known = KnownIds(known_ids)
        self._followers: list[Follower] = []
        self._opened: Store | None = None
        self._files: OpenFiles | None = None
        self._state = WriterState()
        self._housekeeper: asyncio.Task[None] | None = None
        self.is_open = False
        self._events = METRICS.counter("gateway_journal_events")

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, follower: Follower | None = None, *, lock_wait_s: float = 0.0) -> None:
        """Lock the folder and open the file. Does nothing if it is open.

        Args:
            follower: receives a snapshot before this returns.
            lock_wait_s: how long to wait for another process that has the lock, in seconds.

        Raises:
            Broken, JournalInUse, JournalDamaged, JournalUnavailable: see :mod:`gateway.errors`.
        """
        if self.is_open:
            return
        if old := old_layout(self._folder):
            raise Broken("; ".join(old))
        await self._take_lock(lock_wait_s)
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        self.is_open = True
        self._housekeeper = asyncio.create_task(self._housekeep(), name="journal-housekeeping")
        if follower is not None:
            self.follow(follower)

    async def _take_lock(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        is_said = False
        while True:
            try:
                self._lock.acquire()
            except JournalInUse as exc:
                if time.monotonic() >= deadline:
                    raise
                if not is_said:
                    is_said = True
                    _log.warning("journal.locked", reason=str(exc), waits_s=wait_s)
                await asyncio.sleep(_LOCK_LOOK_S)
            else:
                return

    def _open(self) -> None:
        wal.report_dropped(self._folder / FILE_NAME)
        self._opened = Store(self._folder, is_writer=True)
        self._files = OpenFiles(self.store.path, self._lock.path, self._lock.fd, fold=self.store.checkpoint)
        found = os.stat(self.store.path)
        self._identity = (found.st_dev, found.st_ino)
        self._enforcer = Enforcer(self.store, self._retention, EVENTS, self._trimmed)
        self._enforcer.passed(self.store.cursors())
        if self._known.size:
            self._known.update(newest_ids(self.store, self._known.size))
        self._state = WriterState("", self._enforcer.used_bytes)
        self._commits = GroupCommit(
            self.store,
            self._enforcer,
            self._files,
            self._known,
            clock=self._clock,
            on_stored=self._stored,
            on_settled=self._settled,
        )
        self._checkpoints = wal.Checkpoints(self._folder, self.store, self._files)

    async def stop(self) -> None:
        """Store waiting records and positions, then close. May be called twice, or before :meth:`start`."""
        if not self.is_open:
            return
        self.is_open = False
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        self._commits.commit()
        await self._checkpoints.close()
        self._release()

    def _release(self) -> None:
        """Close the file, then the other descriptors, and release the folder."""
        try:
            store, self._opened = self._opened, None
            if store is not None:
                is_damaged = self._files is not None and self._files.is_damaged
                (store.abandon if is_damaged else store.close)()
        finally:
            if self._files is not None:
                self._files.close()
                self._files = None
            self._lock.release()

    @property
    def store(self) -> Store:
        """The writing connection, while it is open."""
        assert self._opened is not None
        return self._opened

    # -- what is asked of it ------------------------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """See :attr:`gateway.log.journal.following.Writer.problem`."""
        return "" if self.is_open else "the journal is closed: the gateway is stopping"

    @property
    def moved(self) -> str:
        """Why the next start would not find what is stored, and what to do; empty if it would find it."""
        return self._files.problem if self._files is not None else ""

    @property
    def known_ids(self) -> int:
        """Number of ids in the window of known ids."""
        return len(self._known)

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """See :meth:`gateway.log.journal.following.Writer.append`."""
        self._check_open()
        return self._commits.append(records)

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """See :meth:`gateway.log.journal.following.Writer.note`."""
        self._check_open()
        return self._commits.note(positions)

    async def sync(self) -> None:
        """See :meth:`gateway.log.journal.following.Writer.sync`: followers are called at once."""
        self._check_open()

    def follow(self, follower: Follower) -> None:
        """Pass a snapshot to a follower, and all changes afterwards."""
        follower.welcomed(self.snapshot())
        self._followers.append(follower)

    def snapshot(self) -> Snapshot:
        """Return the journal as it is now.

        Raises:
            JournalUnavailable: it is closed.
        """
        self._check_open()
        bounds = {stream.name: (stream.floor, stream.head) for stream in self.store.streams.values()}
        return Snapshot(bounds, self.store.cursors(), self.state, self._identity, len(self._known))

    def unfollow(self, follower: Follower) -> None:
        """Pass no more changes to a follower."""
        if follower in self._followers:
            self._followers.remove(follower)

    @property
    def state(self) -> WriterState:
        """The present state."""
        failure = (self._files.problem or self._commits.last_failure) if self.is_open and self._files else ""
        return WriterState(failure, self._enforcer.used_bytes)

    def _check_open(self) -> None:
        if not self.is_open:
            raise JournalUnavailable(self.problem)

    # -- what it does -------------------------------------------------------------------------------------------

    def _stored(self, commit: Commit) -> None:
        self._events.labels(commit.stream).inc(commit.length)
        for follower in self._followers:
            follower.stored(commit)

    def _settled(self, size: int) -> None:
        if size:
            self._checkpoints.wrote(size)
        self._report()

    def _trimmed(self, gone: Trimmed) -> None:
        for follower in self._followers:
            follower.trimmed(gone)

    def _report(self) -> None:
        """Pass the state to followers if it has changed."""
        state = self.state
        if state != self._state:
            self._state = state
            for follower in self._followers:
                follower.state_changed(state)

    # -- housekeeping -------------------------------------------------------------------------------------------

    async def _housekeep(self) -> None:
        for second in itertools.count():
            is_round = second % _HOUSEKEEPING_S == 0
            try:
                if is_round:
                    await self.housekeep()
                self.check()
            except Exception as exc:  # the top of a task
                if is_round and not isinstance(exc, JournalMoved):  # it has been logged already
                    _log.error("journal.housekeeping_failed", error=redaction.fault(exc))
            await asyncio.sleep(1.0)

    def check(self) -> None:
        """Compare the open files with their names, and check again after a failed commit; called every second.

        Raises: as :meth:`append`.
        """
        try:
            if self._files is not None:
                self._files.check()
            self._commits.try_again()
        finally:
            self._report()

    async def housekeep(self) -> None:
        """Remove records that are too old and measure the file; called every ten seconds.

        Raises:
            JournalUnavailable, JournalDamaged: not everything could be examined; the next round tries again.
        """
        is_more = True
        while is_more:
            is_more = self._drop_old()
            await asyncio.sleep(0)  # lets commits run in between
        METRICS.gauge("gateway_journal_used_bytes").set(self._enforcer.used_bytes)
        self._report()

    def _drop_old(self) -> bool:
        if self._files is not None:
            self._files.check_due()
        return self._enforcer.by_age(self._clock())
