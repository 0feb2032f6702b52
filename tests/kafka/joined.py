"""Reading as a member of a group, in tests: where each partition begins is asked of one cursor, as fan-out does it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress

from gateway.errors import Transient
from gateway.log import Batch, Begins, OnRevoked, Start
from gateway.log.kafka import GroupReader, KafkaLog

GROUP = "gateway.fanout"


async def joined(
    log: KafkaLog,
    topics: Collection[str],
    cursor: str = "gateway.billing",
    *,
    start: Start | Begins = "earliest",
    on_revoked: OnRevoked | None = None,
) -> GroupReader:
    """A reader of the partitions that the group gives it, from where the cursor is."""

    async def assigned(partitions: Collection[str]) -> Mapping[str, int]:
        placed = await log.cursors.load(cursor, topics, partitions, start=start)
        return {name: one.offset for name, one in placed.items()}

    async def revoked(partitions: Collection[str]) -> None:
        if on_revoked is not None:
            await on_revoked(partitions)
        with suppress(Transient):
            await log.cursors.flush()
        log.cursors.release(partitions)

    return await log.join(GROUP, topics, on_assigned=assigned, on_revoked=revoked)


def commit(log: KafkaLog, batch: Batch, cursor: str = "gateway.billing") -> None:
    """All of a batch is done."""
    for partition, end in batch.ends.items():
        log.cursors.commit(cursor, partition, end)
