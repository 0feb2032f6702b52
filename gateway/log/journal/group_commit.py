"""Group commit: what one turn of the event loop brings, and all that comes while a commit runs, shares the next one.

One transaction is under way at most, in the writer's thread. Its outcome is told on the loop: to the journal first, so
that readers see the records, then to those who wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from gateway.errors import JournalFull, JournalUnavailable, NotNow
from gateway.log import Entry
from gateway.log.journal import segment, sqlite_errors
from gateway.log.journal.open_files import JournalMoved, OpenFiles
from gateway.log.journal.retention import Enforcer
from gateway.log.journal.store import Store
from gateway.log.journal.streams import stream_of
from gateway.log.journal.writer import WriterThread
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: A crash repeats what was done in this time; ten times less doubles the commits of an idle gateway.
_POSITIONS_INTERVAL_S: Final = 0.25

#: Room that must be free after a commit found none: some callbacks. Ten times more never comes in a small journal.
_TRIAL_BYTES: Final = 16 * 1024

_log = structlog.get_logger("gateway.journal")

#: Positions by (group, stream).
Positions = dict[tuple[str, str], int]


@dataclass(slots=True)
class Batch:
    """What shares one commit.

    Args:
        drafts: the bytes of the records, by stream.
        entries: the same records as they were given.
        waiters: done when it is durable.
        size: bytes of the records.
    """

    drafts: dict[str, segment.Draft] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch.

    Args:
        bases: offset of the first record, by stream.
        appended_at: Unix seconds.
        took_s: in the writer's thread.
    """

    bases: Mapping[str, int]
    appended_at: float
    took_s: float


class GroupCommit:
    """Gathers records and positions, and commits them.

    Args:
        store: the writing connection.
        writer: its thread.
        enforcer: makes room in the file.
        files: compared with their names before a commit.
        clock: Unix seconds.
        on_stored: told on the event loop what has become durable, before those who wait for it.
    """

    def __init__(
        self,
        store: Store,
        writer: WriterThread,
        enforcer: Enforcer,
        files: OpenFiles,
        *,
        clock: Callable[[], float],
        on_stored: Callable[[Batch, Stored], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._enforcer = enforcer
        self._files = files
        self._clock = clock
        self._on_stored = on_stored
        self._loop = asyncio.get_running_loop()
        self._pending = Batch()
        self._positions: Positions = {}
        self._are_positions_due = False
        self._positions_timer: asyncio.TimerHandle | None = None
        self._is_submit_due = False
        self._is_committing = False
        self._is_closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.last_failure = ""
        self._may_pass = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of the records that wait for the commit after the one under way."""
        return self._pending.size

    # -- what comes in ------------------------------------------------------------------------------------------

    def add(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Put records into the next commit, all of them; the future is done when they are durable.

        Raises:
            ValueError: see :func:`gateway.log.journal.segment.encode`; none of them was put in.
        """
        encoded = [segment.encode(entry) for entry in entries]
        batch = self._pending
        for entry, record in zip(entries, encoded, strict=True):
            stream = stream_of(entry.topic)
            draft = batch.drafts.get(stream)
            if draft is None:
                draft = batch.drafts[stream] = segment.Draft()
                batch.entries[stream] = []
            draft.add(entry, record)
            batch.entries[stream].append(entry)
            batch.size += len(record)
        return self._wait()

    def note(self, group: str, stream: str, position: int) -> None:
        """Store a position with the commit that comes next when its time has come."""
        self._positions[group, stream] = position
        self._store_positions_soon()

    def flush(self) -> asyncio.Future[None]:
        """Commit all records and positions so far; done when they are durable."""
        self._are_positions_due = True
        return self._wait()

    async def try_again(self) -> None:
        """After a commit that failed for want of room or for a fault of the disk, look whether one would succeed now.

        A gateway that is not ready gets no callbacks that would show it.

        Raises:
            GatewayError: it would fail, too.
        """
        if not self.last_failure or not self._may_pass:
            return
        if await self._writer.submit(self._try):
            self.last_failure = ""

    def _try(self) -> bool:
        """In the writer's thread."""
        if not self._enforcer.make_room(_TRIAL_BYTES):
            return False
        self._store.probe()
        return True

    async def close(self) -> None:
        """Commit what waits. Nothing more may come."""
        self._is_closing = True
        if self._positions_timer is not None:
            self._positions_timer.cancel()
        self._are_positions_due = True
        self._submit_soon()
        await self._idle.wait()

    def _wait(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._pending.waiters.append(waiter)
        self._submit_soon()
        return waiter

    def _store_positions_soon(self) -> None:
        if self._positions_timer is None and not self._is_closing:
            self._positions_timer = self._loop.call_later(_POSITIONS_INTERVAL_S, self._store_positions)

    def _store_positions(self) -> None:
        self._positions_timer = None
        self._are_positions_due = True
        self._submit_soon()

    # -- one commit after the other -----------------------------------------------------------------------------

    def _submit_soon(self) -> None:
        """Once per turn of the loop, so that all requests read in one turn share a commit."""
        self._idle.clear()
        if not self._is_submit_due and not self._is_committing:
            self._is_submit_due = True
            self._loop.call_soon(self._submit)

    def _submit(self) -> None:
        self._is_submit_due = False
        if self._is_committing:
            return
        batch, self._pending = self._pending, Batch()
        positions: Positions = {}
        if self._are_positions_due:
            positions, self._positions = self._positions, {}
            self._are_positions_due = False
        if not batch.waiters and not positions:
            self._idle.set()
            return
        self._is_committing = True
        job = self._writer.submit(partial(self._commit, batch, positions))
        job.add_done_callback(partial(self._committed, batch, positions))

    def _commit(self, batch: Batch, positions: Positions) -> Stored:
        """In the writer's thread."""
        self._files.check_due()
        started = time.perf_counter()
        has_room = not batch.drafts or self._enforcer.make_room(batch.size, batch.drafts)
        bases: Mapping[str, int] = {}
        if has_room and (batch.drafts or positions):
            bases = self._store.commit(batch.drafts, positions, self._clock())
        elif positions:
            self._store.commit({}, positions, self._clock())  # positions may be what frees room
        self._enforcer.passed(positions)
        self._files.committed()
        if not has_room:
            raise JournalFull(
                f"{self._store.path.parent}: {self._enforcer.max_bytes} bytes are taken by events that Kafka has not "
                "acknowledged"
            )
        return Stored(bases, self._store.last_appended_at, time.perf_counter() - started)

    def _committed(self, batch: Batch, positions: Positions, job: asyncio.Future[Stored]) -> None:
        """Back on the loop."""
        self._is_committing = False
        error = job.exception()
        if error is not None:
            self._failed(batch, positions, error)
        else:
            self.last_failure = ""
            self._on_stored(batch, job.result())
            for waiter in batch.waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self._pending.waiters or (self._are_positions_due and self._positions):
            self._submit()
        if not self._is_committing:
            self._idle.set()

    def _failed(self, batch: Batch, positions: Positions, error: BaseException) -> None:
        if isinstance(error, JournalMoved):  # counted, logged and shown by who found it, until it is over
            METRICS.counter("gateway_journal_failures").labels("moved").inc()
        else:
            self.last_failure = str(error)
            self._may_pass = isinstance(error, JournalFull) or sqlite_errors.may_pass(error.__cause__)
            reason = "full" if isinstance(error, JournalFull) else "disk"
            METRICS.counter("gateway_journal_failures").labels(reason).inc()
            _log.error("journal.commit_failed", reason=reason, error=redaction.fault(error), waiting=len(batch.waiters))
        for key, position in positions.items():
            self._positions.setdefault(key, position)
        self._store_positions_soon()
        told = error if isinstance(error, NotNow) else _not_now(error)
        for waiter in batch.waiters:
            if not waiter.done():
                waiter.set_exception(told)
                waiter.exception()  # one whose caller has gone is not worth a warning of asyncio


def _not_now(error: BaseException) -> JournalUnavailable:
    """Whatever it was, nothing was stored: the sender is to try again, and the log has the rest."""
    told = JournalUnavailable(str(error) or repr(error))
    told.__cause__ = error
    return told
