"""The cursors at the position of the shared reading: each batch goes to all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateway.log import Batch, EventLog
from gateway.log.cursor import Consumer, Cursor
from gateway.log.places import report_gaps
from gateway.telemetry import redaction

_log = structlog.get_logger("gateway.reading")


class Change:
    """Wakes waiting tasks when a state that they check may have changed."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Return after the next :meth:`happened`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def happened(self) -> None:
        """Wake all waiting tasks."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class AttachedCursors:
    """Cursors that receive every batch, and the position that they share. Invariants: see :mod:`.shared_reader`.

    Args:
        log: reports gaps.
        change: signalled when a cursor was attached.
        on_failed: called with a cursor whose consumer failed to accept a batch; the cursor is detached then.
    """

    def __init__(self, log: EventLog, change: Change, on_failed: Callable[[Cursor], None]) -> None:
        self._log = log
        self._change = change
        self._on_failed = on_failed
        self.cursors: dict[Consumer, Cursor] = {}
        #: Offset of the log's reader, by partition.
        self.shared: dict[str, int] = {}

    def step_size(self, most: int) -> int:
        """Return how many records all attached consumers can accept; 0 if none.

        Full consumers are detached if another one is hungry, so that they do not hold it up.
        """
        rooms = {cursor: cursor.consumer.room() for cursor in self.cursors.values()}
        if any(room <= 0 for room in rooms.values()):
            if not any(room > 0 and cursor.consumer.is_hungry() for cursor, room in rooms.items()):
                return 0
            for cursor in [cursor for cursor, room in rooms.items() if room <= 0]:
                self.detach(cursor)
                del rooms[cursor]
        return min(most, *rooms.values()) if rooms else 0

    def hand_out(self, batch: Batch) -> list[Cursor]:
        """Give a batch to all attached cursors and move the shared position.

        Return the cursors that had no room for the batch; they are detached.
        """
        ends = {name: end for name, end in batch.ends.items() if end > self.shared.get(name, end)}
        if not batch and not batch.gaps and not ends:
            return []
        parts: dict[tuple[frozenset[str], frozenset[str]], Batch] = {}
        takers: list[tuple[Cursor, Batch]] = []
        left: list[Cursor] = []
        for cursor in self.cursors.values():
            kind = cursor.topics, cursor.partitions
            part = parts.get(kind)
            if part is None:
                part = parts[kind] = cursor.part(batch, ends)
            if cursor.next:
                part = cursor.beyond(part)
            if len(part) > cursor.consumer.room():
                left.append(cursor)
            elif part or part.gaps or part.ends:
                takers.append((cursor, part))
        for cursor in left:
            self.detach(cursor)
        if batch.gaps:  # before the batch is handed out: a consumer may commit it at once
            report_gaps(self._log, {cursor: cursor.positions(self.shared) for cursor, _ in takers}, batch.gaps)
        self.shared.update(ends)  # before the batch is handed out: a consumer may signal a change
        for cursor, part in takers:
            self._give(cursor, part)
        for cursor in self.cursors.values():
            if cursor.next and all(self.shared[name] >= at for name, at in cursor.next.items()):
                cursor.next = {}
        return left

    def give_alone(self, cursor: Cursor, batch: Batch) -> bool:
        """Give a cursor a batch that was read for it alone; return False if its consumer failed."""
        if batch.gaps:
            report_gaps(self._log, {cursor: cursor.next}, batch.gaps)
        if not self._give(cursor, batch):
            return False
        cursor.next.update(batch.ends)
        return True

    def _give(self, cursor: Cursor, batch: Batch) -> bool:
        try:
            cursor.consumer.take(batch)
        except Exception as exc:  # it is not known how much it accepted: it begins at its committed position
            _log.error("reading.take_failed", group=cursor.name, error=redaction.fault(exc), exc_info=True)
            self.detach(cursor)
            cursor.is_placed = False
            self._on_failed(cursor)
            return False
        return True

    def attach(self, cursor: Cursor) -> None:
        """Attach a cursor that has reached the shared reading."""
        cursor.next = {name: at for name, at in cursor.next.items() if at > self.shared.get(name, at)}
        cursor.is_attached = True
        self.cursors[cursor.consumer] = cursor
        self._change.happened()

    def detach(self, cursor: Cursor) -> None:
        """Detach a cursor; its own position stays."""
        if cursor.is_attached:
            cursor.next = cursor.positions(self.shared)
            cursor.is_attached = False
            del self.cursors[cursor.consumer]
