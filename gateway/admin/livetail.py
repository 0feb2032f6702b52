"""Events as they come, for any number of watchers: one reader of the log, one parse of each event.

The reader runs while there are watchers. Each watcher has a bounded queue; events that do not fit are counted and the
count is sent, so that a slow connection sees fewer events and delays nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from gateway.admin.event_summary import event_summary
from gateway.admin.parts import Parts
from gateway.errors import GatewayError, NotNow
from gateway.log import EventLog, Record
from gateway.log.journal import Journal
from gateway.search.keys import callback_of, parsed

#: Watchers at a time; each costs a queue.
MAX_WATCHERS: Final = 32
#: Events waiting for a watcher: about a screenful; a reader has scrolled past older ones.
_MAX_WAITING: Final = 200
_FETCH: Final = 200
_RETRY_S: Final = 5.0

_log = structlog.get_logger("gateway.admin")


class TooManyWatchers(NotNow):
    """All places of the live tail are taken."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Events that a watcher selects; an empty field selects all."""

    topic: str = ""
    type: str = ""
    callback: str = ""
    key_prefix: str = ""

    def has(self, record: Record, event: Mapping[str, Any]) -> bool:
        """Return whether an event is wanted."""
        return (
            (not self.topic or record.topic == self.topic)
            and (not self.type or event.get("type") == self.type)
            and (not self.callback or callback_of(event) == self.callback)
            and record.key.casefold().startswith(self.key_prefix.casefold())
        )


@dataclass(slots=True, eq=False)
class Watcher:
    """One who watches.

    Args:
        passed_over: events that did not fit since they were last taken.
    """

    wanted: Wanted
    waiting: deque[tuple[Record, dict[str, Any]]] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    passed_over: int = 0

    def offer(self, record: Record, event: Mapping[str, Any]) -> None:
        """Add an event, if it is wanted; drop the oldest waiting one when there are too many."""
        if not self.wanted.has(record, event):
            return
        if len(self.waiting) >= _MAX_WAITING:
            self.waiting.popleft()
            self.passed_over += 1
        self.waiting.append((record, event_summary(record, event)))
        self.news.set()

    def take(self) -> tuple[list[tuple[Record, dict[str, Any]]], int]:
        """Remove and return the waiting events, and how many were passed over."""
        taken, passed_over = list(self.waiting), self.passed_over
        self.waiting.clear()
        self.passed_over = 0
        self.news.clear()
        return taken, passed_over


class LiveTail:
    """Shares one reader among watchers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._ready = asyncio.Event()

    @asynccontextmanager
    async def watching(self, wanted: Wanted) -> AsyncIterator[Watcher]:
        """Watch until the block is left; what comes after this returned is seen.

        Raises:
            TooManyWatchers: there is no place.
        """
        if len(self._watchers) >= MAX_WATCHERS:
            raise TooManyWatchers(f"{MAX_WATCHERS} watch already")
        watcher = Watcher(wanted)
        self._watchers.add(watcher)
        try:
            async with self._changing:
                if self._task is None:
                    self._ready.clear()
                    self._task = asyncio.create_task(self._run(), name="admin-tail")
            await self._ready.wait()
            yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                await self.stop()

    async def stop(self) -> None:
        """Stop reading. May be called twice."""
        async with self._changing:
            task, self._task = self._task, None
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
            except GatewayError as exc:
                self._ready.set()
                _log.info("admin.tail_not_read", error=str(exc))
                await asyncio.sleep(_RETRY_S)

    async def _read(self) -> None:
        log: EventLog = self._parts.journal or self._parts.needed_log()
        topics = () if isinstance(log, Journal) else self._parts.topics
        reader = await log.browse("console.tail", topics)
        try:
            await reader.positions()  # from here on nothing is missed
            self._ready.set()
            while True:
                for record in await reader.fetch(max_records=_FETCH, wait_s=5.0):
                    if record.flaw:
                        continue
                    event = parsed(record.value)
                    for watcher in self._watchers:
                        watcher.offer(record, event)
                await asyncio.sleep(0)  # on a busy log there is always more
        finally:
            await reader.close()
