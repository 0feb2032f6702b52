"""A fan-out process without HTTP: ``python -m tests.kafka.fanout_process BOOTSTRAP PREFIX INSTANCE SESSION_S``.

It reads as a member of ``gateway.fanout`` with one cursor, makes one attempt after another in each partition, and
prints a line for each: ``begin|end|cancel ID KEY TIME``; and ``assigned|revoked COUNT - TIME``. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

import uvloop

from gateway.errors import Transient
from gateway.log import Record
from gateway.log.kafka import CursorPolicy, GroupReader, KafkaLog, KafkaOptions
from tests.kafka.traffic import TOPIC
from tests.waiting import pause

GROUP = "gateway.fanout"
CURSOR = "gateway.billing"
ATTEMPT_S = 0.005


def options(bootstrap: str, prefix: str, instance_id: str = "", session_s: float = 6.0) -> KafkaOptions:
    return KafkaOptions((bootstrap,), prefix=prefix, partitions=6, instance_id=instance_id, session_s=session_s)


def say(what: str, subject: str, key: str = "-") -> None:
    sys.stdout.write(f"{what} {subject} {key} {time.time():.6f}\n")
    sys.stdout.flush()


class FanOut:
    """Works off what comes; a partition that goes is let go at once."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self._queues: dict[str, asyncio.Queue[Record]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.reader: GroupReader | None = None

    async def run(self) -> None:
        self.reader = await self._log.join(GROUP, [TOPIC], on_assigned=self._assigned, on_revoked=self.revoked)
        while True:
            try:
                batch = await self.reader.fetch(max_records=100, wait_s=0.5)
            except Transient:
                await pause(0.2, "a reader that tries again")
                continue
            for record in batch:
                self._queues[record.partition].put_nowait(record)
            while any(queue.qsize() > 500 for queue in self._queues.values()):
                await pause(0.05, "its queues are full: it reads no more")

    async def _assigned(self, partitions: Collection[str]) -> Mapping[str, int]:
        placed = await self._log.cursors.load(CURSOR, [TOPIC], partitions, start="earliest")
        for name in placed:
            self._queues[name] = asyncio.Queue()
            self._tasks[name] = asyncio.create_task(self._work(name, self._queues[name]))
        say("assigned", str(len(placed)))
        return {name: place.offset for name, place in placed.items()}

    async def _work(self, name: str, queue: asyncio.Queue[Record]) -> None:
        while True:
            record = await queue.get()
            assert self.reader is not None
            if not self.reader.is_certain():
                return
            say("begin", record.id, record.key)
            try:
                await pause(ATTEMPT_S, "what an attempt takes")
            except asyncio.CancelledError:
                say("cancel", record.id, record.key)
                raise
            say("end", record.id, record.key)
            self._log.cursors.commit(CURSOR, name, record.offset + 1)

    async def revoked(self, partitions: Collection[str]) -> None:
        say("revoked", str(len(partitions)))
        going = [task for name in partitions if (task := self._tasks.pop(name, None)) is not None]
        for name in partitions:
            self._queues.pop(name, None)
        for task in going:
            task.cancel()
        if going:
            await asyncio.wait(going)
        with suppress(Transient, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._log.cursors.flush()
        self._log.cursors.release(partitions)

    async def stop(self) -> None:
        await self.revoked(list(self._tasks))


async def main(bootstrap: str, prefix: str, instance_id: str, session_s: str) -> None:
    log = KafkaLog(
        options(bootstrap, prefix, instance_id, float(session_s)), cursor_policy=CursorPolicy(interval_s=0.3)
    )
    fanout = FanOut(log)
    task = asyncio.create_task(fanout.run())
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.wait([task])
    await fanout.stop()
    await log.stop()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:5]))
