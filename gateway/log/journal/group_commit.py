"""Group commit: all appends of one turn of the event loop share one commit.

The commit runs on the event loop, which has no other work to do: while it runs, the next batch collects in the sockets.
So at most one commit runs at a time, and no lock is needed.

Rejected: committing in a thread. Loop and thread compete for the interpreter lock at each call of SQLite, which costs
as much processor time as the commit itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeVar

import structlog

from gateway.errors import JournalFull, JournalUnavailable, NotNow
from gateway.log import ALL_NEW, Appended
from gateway.log.journal import batch_format, sqlite_errors
from gateway.log.journal.batch_format import EVENTS, stream_of
from gateway.log.journal.following import Commit, Positions
from gateway.log.journal.open_files import JournalMoved, OpenFiles
from gateway.log.journal.recent_ids import KnownIds
from gateway.log.journal.retention import Enforcer
from gateway.log.journal.storage import Store
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Room that must be free after a commit found none: some callbacks. Ten times more is never free in a small journal.
_TRIAL_BYTES: Final = 16 * 1024

_Result = TypeVar("_Result")
_log = structlog.get_logger("gateway.journal")


@dataclass(slots=True)
class CommitBatch:
    """The records and positions of one commit.

    Args:
        drafts: the records, by stream.
        ids: ids of its vendor events.
        appends: the future of each append, and its result.
        positions: positions to be stored.
        notes: futures that are done when the positions are durable.
        size: bytes of the records.
    """

    drafts: dict[str, batch_format.Draft] = field(default_factory=dict)
    ids: dict[bytes, None] = field(default_factory=dict)
    appends: list[tuple[asyncio.Future[Appended], Appended]] = field(default_factory=list)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: list[asyncio.Future[None]] = field(default_factory=list)
    size: int = 0


class GroupCommit:
    """Collects records and positions, drops repeats of vendor events, and commits the other records.

    Args:
        store: the writing connection.
        enforcer: frees room in the file.
        files: compared with their names before a commit.
        known: ids of the newest vendor events.
        clock: Unix seconds.
        on_stored: called with each stream's records when they are durable, before the futures of appends are done.
        on_settled: called after each commit, whether it succeeded or failed, with the bytes that were stored.
    """

    def __init__(
        self,
        store: Store,
        enforcer: Enforcer,
        files: OpenFiles,
        known: KnownIds,
        *,
        clock: Callable[[], float],
        on_stored: Callable[[Commit], None],
        on_settled: Callable[[int], None],
    ) -> None:
        self._store = store
        self._enforcer = enforcer
        self._files = files
        self._known = known
        self._clock = clock
        self._on_stored = on_stored
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._pending = CommitBatch()
        self._is_due = False
        #: Why the newest commit failed; empty if records have been stored since.
        self.last_failure = ""
        self._may_pass = False
        self._failures = METRICS.counter("gateway_journal_failures")
        self._batch_events = METRICS.histogram("gateway_journal_batch_events")

    # -- what comes in ------------------------------------------------------------------------------------------

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """Add records without repeats to the next commit; the future is done when they are durable.

        An empty append confirms that the journal still exists.

        Raises:
            ValueError: see :func:`gateway.log.journal.batch_format.scan`; no record was added.
        """
        # All records are checked before any record is added.
        placed = [(start, end, raw_id, *_place(topic)) for start, end, topic, raw_id in batch_format.scan(records)]
        batch, known, ids = self._pending, self._known, self._pending.ids
        repeated: list[int] = []
        for number, (start, end, raw_id, topic, stream) in enumerate(placed):
            if stream == EVENTS and known.size:
                if raw_id in ids or raw_id in known:
                    repeated.append(number)
                    continue
                ids[raw_id] = None
            draft = batch.drafts.get(stream)
            if draft is None:
                draft = batch.drafts[stream] = batch_format.Draft()
            draft.add(topic, records[start:end])
        batch.size += len(records)
        future: asyncio.Future[Appended] = self._loop.create_future()
        batch.appends.append((future, Appended(frozenset(repeated)) if repeated else ALL_NEW))
        self._commit_soon()
        return future

    def note(self, positions: Positions) -> asyncio.Future[None]:
        """Add positions to the next commit; the future is done when they are durable."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._pending.positions.update(positions)
        self._pending.notes.append(future)
        self._commit_soon()
        return future

    def try_again(self) -> None:
        """Check whether a commit would succeed now, after one that failed because of missing room or a disk fault.

        A gateway that is not ready receives no callbacks whose commits would show it.

        Raises:
            GatewayError: a commit would still fail.
        """
        if self.last_failure and self._may_pass and self._enforcer.make_room(_TRIAL_BYTES):
            self._store.probe()
            self.last_failure = ""

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
            return
        if batch.drafts:  # repeats and positions do not prove that there is room for a record
            self.last_failure = ""
        self._known.update(batch.ids)
        for commit in commits:
            self._on_stored(commit)
        for note in batch.notes:
            _succeed(note, None)
        for future, appended in batch.appends:
            _succeed(future, appended)
        self._on_settled(batch.size)

    def _commit_soon(self) -> None:
        """Schedule one commit for each turn of the loop, so that all records read in one turn share it."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.commit)

    def _store_batch(self, batch: CommitBatch) -> list[Commit]:
        self._files.check_due()
        started = time.perf_counter()
        has_room = not batch.drafts or self._enforcer.make_room(batch.size, batch.drafts)
        drafts = batch.drafts if has_room else {}
        bases: dict[str, int] = {}
        if drafts or batch.positions:  # positions may be what frees room
            bases = self._store.commit(drafts, batch.positions, self._clock())
        self._enforcer.passed(batch.positions)
        self._files.committed()
        if not has_room:
            for note in batch.notes:
                _succeed(note, None)
            raise JournalFull(
                f"{self._store.path.parent}: {self._enforcer.max_bytes} bytes are taken by events that Kafka has not "
                "acknowledged"
            )
        if drafts:
            METRICS.observe("gateway_journal_commit_seconds", time.perf_counter() - started)
            self._batch_events.observe(sum(draft.count for draft in drafts.values()))
        appended_at = self._store.last_appended_at
        return [
            Commit(stream, bases[stream], draft.count, appended_at, b"".join(draft.parts))
            for stream, draft in drafts.items()
        ]

    def _failed(self, batch: CommitBatch, error: Exception) -> None:
        if isinstance(error, JournalMoved):  # OpenFiles counts, logs and shows it until it is over
            self._failures.labels("moved").inc()
        else:
            self.last_failure = str(error)
            self._may_pass = isinstance(error, JournalFull) or sqlite_errors.may_pass(error.__cause__)
            reason = "full" if isinstance(error, JournalFull) else "disk"
            self._failures.labels(reason).inc()
            _log.error("journal.commit_failed", reason=reason, error=redaction.fault(error), waiting=len(batch.appends))
        answer = error if isinstance(error, NotNow) else _not_now(error)
        for future, _ in batch.appends:
            _fail(future, answer)
        for note in batch.notes:
            _fail(note, answer)
        self._on_settled(0)


@lru_cache(4096)
def _place(topic: bytes) -> tuple[str, str]:
    """Return a topic as text, and the stream that holds it."""
    text = topic.decode()
    return text, stream_of(text)


def _succeed(future: asyncio.Future[_Result], result: _Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[_Result], error: NotNow) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as retrieved: asyncio must not warn if its caller is gone


def _not_now(error: Exception) -> JournalUnavailable:
    """Return the error for the sender: nothing was stored, and it should try again; the log line has the details."""
    answer = JournalUnavailable(str(error) or repr(error))
    answer.__cause__ = error
    return answer
