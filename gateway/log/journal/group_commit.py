"""Group commit: what one turn of the event loop brings shares one commit.

The commit runs on the event loop, which does nothing else that anybody waits for: while it runs, the next batch gathers
in the sockets. So there is one commit under way at most, and nothing to lock.

Rejected: committing in a thread. Loop and thread take the interpreter lock from each other at each call of SQLite,
which costs as much processor time as the commit itself.
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
from gateway.log.journal.following import Commit, Positions
from gateway.log.journal.known_ids import KnownIds
from gateway.log.journal.open_files import JournalMoved, OpenFiles
from gateway.log.journal.retention import Enforcer
from gateway.log.journal.store import Store
from gateway.log.journal.streams import EVENTS, stream_of
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Room that must be free after a commit found none: some callbacks. Ten times more never comes in a small journal.
_TRIAL_BYTES: Final = 16 * 1024

_Result = TypeVar("_Result")
_log = structlog.get_logger("gateway.journal")


@dataclass(slots=True)
class Batch:
    """What shares one commit.

    Args:
        drafts: the records, by stream.
        ids: of its vendor events.
        appends: the future of each append, and what it is done with.
        positions: to be stored.
        notes: done when the positions are durable.
        size: bytes of the records.
    """

    drafts: dict[str, batch_format.Draft] = field(default_factory=dict)
    ids: dict[bytes, None] = field(default_factory=dict)
    appends: list[tuple[asyncio.Future[Appended], Appended]] = field(default_factory=list)
    positions: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: list[asyncio.Future[None]] = field(default_factory=list)
    size: int = 0


class GroupCommit:
    """Gathers records and positions, drops repeats of vendor events, and commits the rest.

    Args:
        store: the writing connection.
        enforcer: makes room in the file.
        files: compared with their names before a commit.
        known: ids of the newest vendor events.
        clock: Unix seconds.
        on_stored: called with each stream's records once they are durable, before those who wait for them go on.
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
        self._pending = Batch()
        self._is_due = False
        #: Why the newest commit failed; empty when records could be stored since.
        self.last_failure = ""
        self._may_pass = False
        self._failures = METRICS.counter("gateway_journal_failures")
        self._batch_events = METRICS.histogram("gateway_journal_batch_events")

    # -- what comes in ------------------------------------------------------------------------------------------

    def append(self, records: bytes) -> asyncio.Future[Appended]:
        """Put records into the next commit, all of them but repeats; the future is done when they are durable.

        An append of nothing confirms that the journal is still there.

        Raises:
            ValueError: see :func:`gateway.log.journal.batch_format.scan`; none of them was put in.
        """
        # All of it is looked at before any of it is put in.
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
        """Put positions into the next commit; the future is done when they are durable."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._pending.positions.update(positions)
        self._pending.notes.append(future)
        self._commit_soon()
        return future

    def try_again(self) -> None:
        """After a commit that failed for want of room or for a fault of the disk, look whether one would succeed now.

        A gateway that is not ready gets no callbacks that would show it.

        Raises:
            GatewayError: it would fail, too.
        """
        if self.last_failure and self._may_pass and self._enforcer.make_room(_TRIAL_BYTES):
            self._store.probe()
            self.last_failure = ""

    def commit(self) -> None:
        """Commit what waits, now."""
        self._is_due = False
        batch, self._pending = self._pending, Batch()
        if not batch.appends and not batch.notes:
            return
        try:
            commits = self._store_batch(batch)
        except Exception as exc:  # whatever it is belongs to those who wait
            self._failed(batch, exc)
            return
        if batch.drafts:  # repeats and positions do not show that there is room for a record
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
        """Once per turn of the loop, so that all that was read in one turn shares a commit."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self.commit)

    def _store_batch(self, batch: Batch) -> list[Commit]:
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

    def _failed(self, batch: Batch, error: Exception) -> None:
        if isinstance(error, JournalMoved):  # counted, logged and shown by who found it, until it is over
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
        future.exception()  # one whose caller has gone is not worth a warning of asyncio


def _not_now(error: Exception) -> JournalUnavailable:
    """Whatever it was, nothing was stored: the sender is to try again, and the log has the rest."""
    answer = JournalUnavailable(str(error) or repr(error))
    answer.__cause__ = error
    return answer
