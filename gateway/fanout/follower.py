"""One reader that follows internal topics from their beginning, for something that is kept in memory.

The set of topics may change, and a topic need not exist yet. The reader is opened again when the topics change, and
every :data:`REOPEN_S`: a new reader knows where the log begins now, so that what retention has removed can be
forgotten. It continues at the position of the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.fanout.scan import has_more
from gateway.log import Batch, BrowsedLog, LogReader
from gateway.telemetry import redaction

REOPEN_S: Final = 600.0
_WAIT_S: Final = 5.0
#: Between looks while there is no topic to follow.
_IDLE_S: Final = 1.0
#: The log has not answered for so long: what was read may be old.
_UNHEARD_S: Final = 3 * _WAIT_S
_BACKOFF_S: Final = 5.0
_BATCH: Final = 500

_log = structlog.get_logger("gateway.fanout")


class TopicFollower:
    """Reads topics as long as it runs.

    Args:
        log: has the topics.
        name: for logs and metrics.
        topics: returns the topics to follow, asked again and again.
        on_batch: takes what was read; called also when nothing was.
        on_begins: takes the first offset that the log has, by partition.
    """

    def __init__(
        self,
        log: BrowsedLog,
        name: str,
        topics: Callable[[], Collection[str]],
        *,
        clock: Clock,
        on_batch: Callable[[Batch], None],
        on_begins: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self._eventlog = log
        self._name = name
        self._topics = topics
        self._clock = clock
        self._on_batch = on_batch
        self._on_begins = on_begins
        self._reader: LogReader | None = None
        self._reading: frozenset[str] = frozenset()
        self._known: frozenset[str] = frozenset()
        self._ends: Mapping[str, int] | None = None
        self._opened_at = float("-inf")
        self._heard_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def knows(self, topic: str) -> bool:
        """Return whether a topic was read to its end, and the log still answers."""
        return topic in self._known and self._clock.monotonic() - self._heard_at <= _UNHEARD_S

    def start(self) -> None:
        """Start."""
        self._task = asyncio.create_task(self._run(), name=f"follow:{self._name}")

    async def stop(self) -> None:
        """Stop. May be called twice, or before the start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._close()

    async def _run(self) -> None:
        said = ""
        while True:
            try:
                await self._turn()
            except Exception as exc:  # the top of a task
                fault = redaction.fault(exc)
                if said != fault and not is_logged(exc):
                    said = fault
                    _log.warning("follower.read_failed", reader=self._name, error=said)
                self._on_batch(Batch())  # what is known may be old by now
                await sleep(self._clock, _BACKOFF_S)
            else:
                said = ""

    async def _turn(self) -> None:
        topics = frozenset(self._topics())
        if not topics:
            await sleep(self._clock, _IDLE_S)
            return
        if topics != self._reading or self._clock.monotonic() - self._opened_at > REOPEN_S:
            await self._open(topics)
        assert self._reader is not None
        if self._ends is not None and not await has_more(self._reader, self._ends):
            self._ends, self._known, self._heard_at = None, topics, self._clock.monotonic()
            self._on_batch(Batch())
        found = await self._reader.fetch(max_records=_BATCH, wait_s=_WAIT_S if self._ends is None else 0.2)
        self._heard_at = self._clock.monotonic()
        self._on_batch(found)

    async def _open(self, topics: frozenset[str]) -> None:
        places = {} if self._reader is None else await self._reader.positions()
        reader = await self._eventlog.browse(self._name, topics, start="earliest")
        try:
            begins = await reader.positions()
            self._on_begins(begins)
            for partition in begins.keys() & places.keys():
                await reader.seek(partition, max(begins[partition], places[partition]))
            self._ends = await reader.ends()
        except BaseException:
            await reader.close()
            raise
        await self._close()
        self._reader, self._reading, self._opened_at = reader, topics, self._clock.monotonic()
        self._known &= topics

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            try:
                await reader.close()
            except GatewayError as exc:
                _log.info("follower.not_closed", reader=self._name, error=str(exc))
