"""The one writer of a journal: its file, its window of known ids, retention, and the folder's lock.

It is the log process, or a part of the process that has the readers (see :mod:`.following`). All appends of one turn of
the event loop share one commit. It runs on the loop, which has no other work to do: while it runs, the next batch
collects in the sockets. So at most one commit runs at a time, and no lock is needed; only checkpoints have a thread.

Rejected: committing in a thread. Loop and thread compete for the interpreter lock at each call of SQLite, which costs
as much processor time as the commit itself.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from gateway.errors import Broken, JournalFull, JournalUnavailable, NotNow
from gateway.log import Appended
from gateway.log.journal import sqlite_errors
from gateway.log.journal.batch_format import EVENTS, Commit, CommitBatch, KnownIds
from gateway.log.journal.files import FolderLock, old_layout
from gateway.log.journal.following import Follower, Positions, Snapshot, WriterState
from gateway.log.journal.open_files import JournalMoved, OpenFiles
from gateway.log.journal.retention import Enforcer, Retention, Trimmed
from gateway.log.journal.storage import Store
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

_HOUSEKEEPING_S: Final = 10
#: Room that must be free after a commit found none: some callbacks. Ten times more is never free in a small journal.
_TRIAL_BYTES: Final = 16 * 1024

_Result = TypeVar("_Result")
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
        self._opened: OpenFiles | None = None
        self._state = WriterState()
        self._housekeeper: asyncio.Task[None] | None = None
        self.is_open = False
        self._pending = CommitBatch()
        self._is_due = False
        self._failure = ""  # why the newest commit failed; empty if records have been stored since
        self._may_pass = False
        self._events = METRICS.counter("gateway_journal_events")
        self._failures = METRICS.counter("gateway_journal_failures")
        self._batch_events = METRICS.histogram("gateway_journal_batch_events")

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
        await self._lock.acquire_within(lock_wait_s)
        try:
            self._opened = OpenFiles(self._folder, self._lock)
            self._enforcer = Enforcer(self.store, self._retention, EVENTS, self._trimmed)
            self._enforcer.passed(self.store.cursors())
            self._known.update(self.store.newest_ids(self._known.size))
        except BaseException:
            await self._release()
            raise
        self._loop = asyncio.get_running_loop()
        self._failure = ""
        self._state = WriterState("", self._enforcer.used_bytes)
        self.is_open = True
        self._housekeeper = asyncio.create_task(self._housekeep(), name="journal-housekeeping")
        if follower is not None:
            self.follow(follower)

    async def stop(self) -> None:
        """Store waiting records and positions, then close. May be called twice, or before :meth:`start`."""
        if not self.is_open:
            return
        self.is_open = False
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        self.commit()
        await self._release()

    async def _release(self) -> None:
        """Close the files and release the folder."""
        opened, self._opened = self._opened, None
        try:
            if opened is not None:
                await opened.close()
        finally:
            self._lock.release()

    @property
    def _files(self) -> OpenFiles:
        assert self._opened is not None
        return self._opened

    @property
    def store(self) -> Store:
        """The writing connection, while it is open."""
        return self._files.store

    # -- what is asked of it ------------------------------------------------------------------------------------

    @property
    def problem(self) -> str:
        """See :attr:`gateway.log.journal.following.Writer.problem`."""
        return "" if self.is_open else "the journal is closed: the gateway is stopping"

    @property
    def moved(self) -> str:
        """Why the next start would not find what is stored, and what to do; empty if it would find it."""
        return self._opened.problem if self._opened is not None else ""

    @property
    def known_ids(self) -> int:
        """Number of ids in the window of known ids."""
        return len(self._known)

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """See :meth:`gateway.log.journal.following.Writer.append`.

        Repeats are not stored again. An empty append confirms that the journal still exists.

        Raises:
            ValueError: see :func:`gateway.log.journal.batch_format.scan`; no record was added.
        """
        self._check_open()
        appended = self._pending.add(records, self._known)
        future: asyncio.Future[Appended] = self._loop.create_future()
        self._pending.appends.append((future, appended))
        self._commit_soon()
        return future

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """See :meth:`gateway.log.journal.following.Writer.note`."""
        self._check_open()
        future: asyncio.Future[None] = self._loop.create_future()
        self._pending.positions.update(positions)
        self._pending.notes.append(future)
        self._commit_soon()
        return future

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
        return Snapshot(bounds, self.store.cursors(), self.state, self._files.identity, len(self._known))

    def unfollow(self, follower: Follower) -> None:
        """Pass no more changes to a follower."""
        if follower in self._followers:
            self._followers.remove(follower)

    @property
    def state(self) -> WriterState:
        """The present state."""
        failure = (self._files.problem or self._failure) if self.is_open else ""
        return WriterState(failure, self._enforcer.used_bytes)

    def _check_open(self) -> None:
        if not self.is_open:
            raise JournalUnavailable(self.problem)

    # -- commits ------------------------------------------------------------------------------------------------

    def _commit_soon(self) -> None:
        """Schedule one commit for each turn of the loop, so that all records read in one turn share it."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.commit)

    def commit(self) -> None:
        """Commit waiting records and positions now."""
        self._is_due = False
        batch, self._pending = self._pending, CommitBatch()
        if not batch.appends and not batch.notes:
            return
        try:
            commits = self._store_batch(batch)
        except Exception as exc:  # any error is passed to the waiting futures
            self._failed(batch, exc)
        else:
            if batch.drafts:  # repeats and positions do not prove that there is room for a record
                self._failure = ""
            self._known.update(batch.ids)
            for commit in commits:  # before the futures of appends are done
                self._events.labels(commit.stream).inc(commit.length)
                for follower in self._followers:
                    follower.stored(commit)
            for note in batch.notes:
                _succeed(note, None)
            for future, appended in batch.appends:
                _succeed(future, appended)
        self._report()

    def _store_batch(self, batch: CommitBatch) -> list[Commit]:
        self._files.check_due()
        started = time.perf_counter()
        has_room = not batch.drafts or self._enforcer.make_room(batch.size, batch.drafts)
        drafts = batch.drafts if has_room else {}
        bases: dict[str, int] = {}
        if drafts or batch.positions:  # positions may be what frees room
            bases = self.store.commit(drafts, batch.positions, self._clock())
            self._enforcer.passed(batch.positions)
            self._files.committed(batch.size)
        if not has_room:
            for note in batch.notes:
                _succeed(note, None)
            raise JournalFull(
                f"{self._folder}: {self._retention.max_bytes} bytes are taken by events that Kafka has not acknowledged"
            )
        if drafts:
            METRICS.observe("gateway_journal_commit_seconds", time.perf_counter() - started)
            self._batch_events.observe(sum(draft.count for draft in drafts.values()))
        appended_at = self.store.last_appended_at
        return [
            Commit(stream, bases[stream], draft.count, appended_at, b"".join(draft.parts))
            for stream, draft in drafts.items()
        ]

    def _failed(self, batch: CommitBatch, error: Exception) -> None:
        if isinstance(error, JournalMoved):  # OpenFiles counts, logs and shows it until it is over
            self._failures.labels("moved").inc()
        else:
            self._failure = str(error)
            self._may_pass = isinstance(error, JournalFull) or sqlite_errors.may_pass(error.__cause__)
            reason = "full" if isinstance(error, JournalFull) else "disk"
            self._failures.labels(reason).inc()
            _log.error("journal.commit_failed", reason=reason, error=redaction.fault(error), waiting=len(batch.appends))
        answer = error if isinstance(error, NotNow) else _not_now(error)
        waiting: list[asyncio.Future[Any]] = [*(future for future, _ in batch.appends), *batch.notes]
        for future in waiting:
            if not future.done():
                future.set_exception(answer)
                future.exception()  # marks it as retrieved: asyncio must not warn if its caller is gone

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

        A gateway that is not ready receives no callbacks whose commits would show that they succeed again.

        Raises: as :meth:`append`.
        """
        try:
            self._files.check()
            if self._failure and self._may_pass and self._enforcer.make_room(_TRIAL_BYTES):
                self.store.probe()
                self._failure = ""
        finally:
            self._report()

    async def housekeep(self) -> None:
        """Remove records that are too old and measure the file; called every ten seconds.

        Raises:
            JournalUnavailable, JournalDamaged: not everything could be examined; the next round tries again.
        """
        is_more = True
        while is_more:
            self._files.check_due()
            is_more = self._enforcer.by_age(self._clock())
            await asyncio.sleep(0)  # lets commits run in between
        METRICS.gauge("gateway_journal_used_bytes").set(self._enforcer.used_bytes)
        self._report()


def _succeed(future: asyncio.Future[_Result], result: _Result) -> None:
    if not future.done():
        future.set_result(result)


def _not_now(error: Exception) -> JournalUnavailable:
    """Return the error for the sender: nothing was stored, and it should try again; the log line has the details."""
    answer = JournalUnavailable(str(error) or repr(error))
    answer.__cause__ = error
    return answer
