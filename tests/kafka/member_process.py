"""A group member as a process of its own: ``python -m tests.kafka.member_process <bootstrap> <prefix> <instance>``.

It writes a line of JSON for each line of the log, and for partitions that come and go.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress

from gateway.errors import Transient
from gateway.log.kafka import CursorPolicy, KafkaLog, KafkaOptions
from gateway.telemetry import logs
from tests.kafka.traffic import TOPIC
from tests.waiting import pause

GROUP = "gateway.fanout"
CURSOR = "gateway.billing"
SESSION_S = 6.0


def options(bootstrap: str, prefix: str, instance: str) -> KafkaOptions:
    """Return the options of a member."""
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=6, instance_id=instance, session_s=SESSION_S)


def _say(event: str, count: int) -> None:
    print(json.dumps({"event": event, "count": count}), file=sys.stderr, flush=True)


async def _read(bootstrap: str, prefix: str, instance: str) -> None:
    log = KafkaLog(options(bootstrap, prefix, instance), cursor_policy=CursorPolicy(interval_s=0.1))

    async def on_assigned(partitions: Collection[str]) -> Mapping[str, int]:
        placed = await log.cursors.load(CURSOR, [TOPIC], partitions, start="earliest")
        _say("assigned", len(partitions))
        return {name: one.offset for name, one in placed.items()}

    async def on_revoked(partitions: Collection[str]) -> None:
        _say("revoked", len(partitions))
        with suppress(Transient):
            await log.cursors.flush()
        log.cursors.release(partitions)

    await log.start()
    reader = await log.join(GROUP, [TOPIC], on_assigned=on_assigned, on_revoked=on_revoked)
    while True:
        try:
            batch = await reader.fetch(max_records=50, wait_s=0.2)
        except Transient:
            await pause(0.1, "a reader that tries again")
            continue
        for name, end in batch.ends.items():
            log.cursors.commit(CURSOR, name, end)


if __name__ == "__main__":
    logs.configure("debug", "json")
    asyncio.run(_read(*sys.argv[1:4]))
