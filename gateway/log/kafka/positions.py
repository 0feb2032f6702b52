"""Positions of named cursors as offsets of Kafka groups without members.

The partitions are assigned in one group (``gateway.fanout``); the positions of the subscriber ``billing`` are stored
under the group ``gateway.billing``, where every tool shows its lag. Kafka accepts an offset from a client that is no
member as long as the group has no members. Three consequences:

* *A process that was considered dead may commit what it has delivered.* No generation fences it. None is needed: a
  position means that everything below it was delivered, which stays true for any owner of the partition. At worst an
  older position replaces a newer one of the next owner, which repeats events after a crash and loses none. A position
  only increases within a process, and the owner's next commit replaces it. An offset of a topic that has since been
  deleted and created again is recognised by its mark (:mod:`gateway.log.kafka.topics`).
* *A group with members refuses.* An older version of the gateway, which read as a member of ``gateway.billing``, must
  stop first: two readings at a time would deliver everything twice. :meth:`KafkaCursors.load` checks it.
* *Kafka forgets* offsets of a group without members ``offsets.retention.minutes`` (seven days) after they were
  committed, each partition separately. So all of them are committed again every ``renew_s``.

A commit costs a request for each cursor, so changes are collected: for at least ``interval_s``, and longer with many
cursors, so that at most ``requests_per_s`` are sent. :mod:`gateway.log.kafka.placement` decides where a cursor
continues.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway.clock import Backoff
from gateway.errors import Transient
from gateway.log import Begins, Placed, Start
from gateway.log.kafka.errors import KafkaAway
from gateway.log.kafka.health import CONNECTION, Availability, State
from gateway.log.kafka.offsets import GroupInUse, OffsetClient
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.placement import CursorPlace, CursorPlacement, Remembered
from gateway.log.kafka.topics import mark
from gateway.telemetry import redaction

_log = structlog.get_logger("gateway.kafka")


@dataclass(frozen=True, slots=True)
class CursorPolicy:
    """Limits and times of the commits.

    Args:
        interval_s: between commits of one cursor; a crash repeats the deliveries of this time.
        requests_per_s: of a process; the interval grows with the cursors beyond it. A thousand would take a tenth of a
            processor here, and write as many records to Kafka.
        at_once: requests in flight.
        renew_s: all positions are committed again after this; a third of what Kafka's shortest sensible
            ``offsets.retention.minutes``, three days, would allow.
        first_renew_s: the same for positions that were found in Kafka: how old they are is not known.
        look_s: between checks whether a renewal is due.
        flush_s: :meth:`KafkaCursors.flush` gives up after this.
    """

    interval_s: float = 1.0
    requests_per_s: float = 100.0
    at_once: int = 10
    renew_s: float = 20 * 3600.0
    first_renew_s: float = 3600.0
    look_s: float = 60.0
    flush_s: float = 10.0


class KafkaCursors:
    """See :class:`gateway.log.CursorStore`. Coroutines raise ``KafkaAway`` while Kafka does not answer, or refuses.

    Args:
        placement: decides where cursors continue.
        clock: seconds; of any kind that continues while the process is suspended.
    """

    def __init__(
        self,
        options: KafkaOptions,
        offsets: OffsetClient,
        placement: CursorPlacement,
        *,
        policy: CursorPolicy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._offsets = offsets
        self._placement = placement
        self._policy = policy or CursorPolicy()
        self._clock = clock
        self._cursors: dict[str, Remembered] = {}
        self._dirty: dict[str, None] = {}
        self._is_dirty = asyncio.Event()
        self._availability: Availability | None = None
        self._committer: asyncio.Task[None] | None = None

    @property
    def state(self) -> State | None:
        """Whether positions can be stored, for ``/readyz`` and the console; None while no cursor was loaded."""
        return self._availability.state if self._availability is not None else None

    async def close(self) -> None:
        """Make the last commits durable, as far as Kafka accepts them soon. May be called twice."""
        committer, self._committer = self._committer, None
        if committer is not None:
            await self.settle()  # before: a store in progress is awaited, and not sent twice
            committer.cancel()
            await asyncio.wait([committer])
        if self._availability is not None:
            self._availability.close()

    async def settle(self) -> None:
        """Make commits durable before a release, unless Kafka is unavailable: the next owner continues there."""
        if self._availability is not None and self._availability.is_connected:
            with suppress(Transient):
                await self.flush()

    # -- positions ----------------------------------------------------------------------------------------------

    async def load(
        self, cursor: str, topics: Collection[str], partitions: Collection[str], *, start: Start | Begins
    ) -> Mapping[str, Placed]:
        """See :meth:`gateway.log.CursorStore.load`. Partitions of a topic that does not exist now are left out.

        Raises:
            GroupInUse: the group has members.
            KafkaAway: Kafka does not answer now.
        """
        availability = self._begin()
        known = self._cursors.get(cursor)
        if known is not None:
            known.is_forgotten = False
        else:
            known = self._cursors[cursor] = Remembered(renew_at=self._clock() + self._policy.first_renew_s)
        mine = [name for name in partitions if name.rpartition("-")[0] in topics]
        try:
            async with known.storing:
                found = await self._placement.place(cursor, known, mine, start)
                self._take(cursor, known, found)
                await self._commit(cursor, known, {name for name, place in found.items() if place.is_new})
        except KafkaAway as exc:
            availability.problem(_subject(cursor, exc), exc.problem)
            raise
        availability.solved(CONNECTION)
        return {name: place.placed for name, place in found.items()}

    def _take(self, cursor: str, known: Remembered, found: Mapping[str, CursorPlace]) -> None:
        """Continue at the found places, also at lower offsets: the topic, or its end, is another one then."""
        for name, (placed, incarnation, _) in found.items():
            known.incarnations[name.rpartition("-")[0]] = incarnation
            known.before.pop(name, None)
            gap = placed.gap
            if gap is not None and gap.reason == "expired" and gap.first is not None:
                known.done.setdefault(name, gap.first)  # its owner passes it after the report
                continue
            if known.done.get(name) != placed.offset:
                known.done[name] = placed.offset
                known.dirty.discard(name)
            if gap is not None:
                known.dirty.add(name)
                self._changed(cursor)

    def commit(self, cursor: str, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.CursorStore.commit`. Ignored for a partition that is not loaded."""
        known = self._cursors.get(cursor)
        if known is not None and offset > known.done.get(partition, offset):
            known.done[partition] = offset
            known.dirty.add(partition)
            self._changed(cursor)

    def _changed(self, cursor: str) -> None:
        self._dirty[cursor] = None
        self._is_dirty.set()

    def committed(self, cursor: str) -> Mapping[str, int]:
        """See :meth:`gateway.log.CursorStore.committed`."""
        return dict(self._cursors[cursor].done) if cursor in self._cursors else {}

    def release(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.CursorStore.release`. Commits that are not durable by now are dropped."""
        for known in self._cursors.values():
            for name in partitions:
                if (offset := known.done.pop(name, None)) is not None:
                    known.before[name] = offset
            known.dirty.difference_update(partitions)

    def forget(self, cursor: str) -> None:
        """See :meth:`gateway.log.CursorStore.forget`."""
        known = self._cursors.get(cursor)
        if known is not None:
            known.is_forgotten = True
            if not known.dirty:
                del self._cursors[cursor]
                if self._availability is not None:
                    self._availability.solved(cursor)

    # -- storing ------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """See :meth:`gateway.log.CursorStore.flush`. As fast as Kafka accepts them, without the usual pace."""
        self._dirty.clear()
        # Those that are being stored now are awaited too.
        due = [cursor for cursor, known in self._cursors.items() if known.dirty]
        await self._store(due, self._policy.flush_s)

    async def _store(self, cursors: Collection[str], seconds: float) -> None:
        """Store the changed positions of these cursors."""
        at_once = asyncio.Semaphore(self._policy.at_once)

        async def store(cursor: str) -> None:
            known = self._cursors.get(cursor)
            if known is not None:
                async with at_once, known.storing:
                    await self._commit(cursor, known, set(known.dirty))
                if known.is_forgotten:
                    self.forget(cursor)

        tasks = {asyncio.create_task(store(cursor), name=f"kafka-commit-{cursor}"): cursor for cursor in cursors}
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=seconds)
        finally:
            failed = {cursor: task for task, cursor in tasks.items() if not task.done() or task.cancelled()}
            for task in failed.values():
                task.cancel()
            failed |= {cursor: task for task, cursor in tasks.items() if task.done() and _error(task) is not None}
            for cursor in failed:
                self._changed(cursor)
        if failed:
            raise self._away(failed)

    def _away(self, failed: Mapping[str, asyncio.Task[None]]) -> Exception:
        """Return the error of cursors that could not be stored; an unexpected error first."""
        found = {cursor: error for cursor, task in failed.items() if task.done() and (error := _error(task))}
        availability = self._begin()
        for cursor, error in found.items():
            if not isinstance(error, KafkaAway):
                return error
            availability.problem(_subject(cursor, error), error.problem)
        if found:
            return next(iter(found.values()))
        silent = KafkaAway("positions: no answer in time")
        availability.problem(CONNECTION, silent.problem)  # so that a stop does not wait for it a second time
        return silent

    async def _commit(self, cursor: str, known: Remembered, names: Collection[str]) -> None:
        """Store these positions. The caller holds the cursor's lock, so that an older position is never stored last.

        A position in a topic that the user may not read is kept for later and costs the others nothing: the topic's
        reader reports the missing right.
        """
        due = {name: known.done[name] for name in names if name in known.done}
        if due:
            by_partition = {self._options.partition(name): name for name in due}
            marked = {tp: self._marked(known, name) for tp, name in by_partition.items()}
            refused = {by_partition[tp] for tp in await self._offsets.commit(cursor, marked)}
            known.dirty -= {name for name, offset in due.items() if known.done.get(name) == offset}
            if not known.is_forgotten:
                known.dirty |= refused
        known.is_ours = True
        if self._availability is not None:
            self._availability.solved(cursor)

    def _marked(self, known: Remembered, name: str) -> tuple[int, str]:
        return known.done[name], mark(known.incarnations.get(name.rpartition("-")[0], ""))

    # -- in the background --------------------------------------------------------------------------------------

    def _begin(self) -> Availability:
        if self._availability is None:
            self._availability = Availability("cursors")
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_regularly(), name="kafka-cursors")
        return self._availability

    async def _commit_regularly(self) -> None:
        """Store collected changes at the pace, until cancelled; what fails is tried again."""
        backoff = Backoff(first_s=self._policy.interval_s, last_s=10.0)
        while True:
            try:
                await self._round()
                backoff.reset()
            except Transient:
                await asyncio.sleep(backoff.next_s())
            except Exception as exc:  # the top of a task: commits that end would repeat everything one day
                _log.exception("kafka.commit_broke", group="cursors", error=redaction.fault(exc))
                await asyncio.sleep(backoff.next_s())

    async def _round(self) -> None:
        """Wait for a change, collect more, and store them no faster than the pace."""
        policy = self._policy
        with suppress(TimeoutError):
            async with asyncio.timeout(policy.look_s):
                await self._is_dirty.wait()
        self._renew()
        self._is_dirty.clear()
        due, self._dirty = list(self._dirty), {}
        began = time.monotonic()
        for start in range(0, len(due), policy.at_once):
            try:
                await self._store(due[start : start + policy.at_once], policy.flush_s)
            except BaseException:
                self._dirty |= dict.fromkeys(due[start + policy.at_once :])
                self._is_dirty.set()
                raise
            await self._until(began + (start + policy.at_once) / policy.requests_per_s)
        if due:
            availability = self._begin()
            availability.solved(CONNECTION)
            await self._until(began + policy.interval_s)

    @staticmethod
    async def _until(moment: float) -> None:
        if (left := moment - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _renew(self) -> None:
        """Mark all positions of cursors whose commits are old, and refused ones, to be committed again: see _commit."""
        now = self._clock()
        for cursor, known in self._cursors.items():
            if known.renew_at <= now:
                known.renew_at = now + self._policy.renew_s
                known.dirty.update(known.done)
            if known.dirty:
                self._dirty[cursor] = None


def _subject(cursor: str, error: KafkaAway) -> str:
    """Return the subject of a problem: one cursor, or all."""
    return cursor if isinstance(error, GroupInUse) else CONNECTION


def _error(task: asyncio.Task[None]) -> Exception | None:
    """Return the exception of a finished task; None if it was cancelled or succeeded."""
    error = None if task.cancelled() else task.exception()
    return error if isinstance(error, Exception) else None
