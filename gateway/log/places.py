"""The positions at which cursors continue in assigned partitions, and the report of the gaps before them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog

from gateway.errors import GatewayError, is_logged
from gateway.log import EventLog, Gap, Placed, gaps
from gateway.log.cursor import Cursor
from gateway.telemetry import redaction

#: By cursor and partition.
Places = Mapping[Cursor, Mapping[str, Placed]]

_log = structlog.get_logger("gateway.reading")


async def load(log: EventLog, cursors: Collection[Cursor], partitions: Collection[str], *, at_once: int) -> Places:
    """Return where cursors continue in partitions; cursors whose positions the log cannot return now are left out.

    Args:
        log: has the positions.
        cursors: to be placed.
        partitions: all partitions of this process, or the new ones.
        at_once: number of positions requested at a time.
    """
    limit = asyncio.Semaphore(at_once)
    found: dict[Cursor, Mapping[str, Placed]] = {}

    async def ask(cursor: Cursor) -> None:
        start = await cursor.consumer.begin()  # may take seconds, and costs nothing
        async with limit:
            found[cursor] = await log.cursors.load(cursor.name, cursor.topics, partitions, start=start)

    results = await asyncio.gather(*map(ask, cursors), return_exceptions=True)
    faults = [fault for fault in results if isinstance(fault, Exception) and not is_logged(fault)]
    if faults:
        _log.warning("reading.positions_unknown", groups=len(faults), error=redaction.fault(faults[0]))
    return found


def foremost(places: Places, partition: str, spread: int) -> int | None:
    """Return the offset at which reading of a partition begins; None if no cursor reads it.

    It is that of the hindmost cursor among those close to the foremost one.

    Args:
        places: where cursors continue.
        partition: its name.
        spread: at most so many records behind the foremost cursor.
    """
    offsets = [placed[partition].offset for placed in places.values() if partition in placed]
    return min((at for at in offsets if at >= max(offsets) - spread), default=None)


def report_gaps(log: EventLog, cursors: Mapping[Cursor, Mapping[str, int]], missing: Collection[Gap]) -> None:
    """Report gaps once, without the parts that cursors have passed or that the log has already reported.

    Args:
        log: in which records are missing.
        cursors: each with the offset that is handed out to it next, by partition.
        missing: the gaps.
    """
    found: list[tuple[str, Gap]] = []
    for gap in missing:
        for cursor, positions in cursors.items():
            if gap.partition in cursor.partitions:
                committed = log.cursors.committed(cursor.name).get(gap.partition, 0)
                left = gaps.clipped(gap, max(positions.get(gap.partition, 0), committed))
                if left is not None:
                    found.append((cursor.name, left))
    gaps.report_each(log.kind, found)


def pass_gaps(log: EventLog, places: Places) -> None:
    """Report the gaps before the positions at which cursors continue, and commit those positions.

    Args:
        log: in which records are missing.
        places: where cursors continue.
    """
    found: list[tuple[str, Gap]] = []
    for cursor, placed in places.items():
        for partition, (offset, gap) in placed.items():
            if gap is None:
                continue
            left = gaps.clipped(gap, log.cursors.committed(cursor.name).get(partition, 0))
            if left is not None:
                found.append((cursor.name, left))
            log.cursors.commit(cursor.name, partition, offset)
    gaps.report_each(log.kind, found)


async def give_up(log: EventLog, cursors: Collection[Cursor], partitions: Collection[str], *, flush_s: float) -> None:
    """Let cursors settle partitions that are being revoked, and make their commits durable.

    Args:
        log: stores the commits.
        cursors: those that have the partitions.
        partitions: being revoked.
        flush_s: how long making them durable may take, seconds.
    """
    results = await asyncio.gather(*(cursor.consumer.revoked(partitions) for cursor in cursors), return_exceptions=True)
    for cursor, fault in zip(cursors, results, strict=True):
        if isinstance(fault, Exception):
            _log.error("reading.revoke_failed", group=cursor.name, error=redaction.fault(fault))
    try:
        async with asyncio.timeout(flush_s):
            await log.cursors.flush()
    except (TimeoutError, GatewayError) as exc:
        _log.warning("reading.flush_failed", partitions=sorted(partitions), error=str(exc) or "no answer in time")
    log.cursors.release(partitions)
