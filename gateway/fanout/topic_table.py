"""Internal topics that a process follows from their beginning, for something that it keeps in memory.

:class:`TopicFollower` reads one or more topics for as long as it runs. They may change, and need not exist yet.
:class:`TopicTable` follows a topic of which the last record of each key counts, and that any process writes: it knows
which records of this process are not read back yet, and writes keys that are marked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from uuid import uuid4

import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.fanout.scan import has_more
from gateway.log import Batch, BrowsedLog, Entry, LogReader, Record
from gateway.telemetry import redaction

#: A reader is opened again after this time if it is to learn where the log begins now. It continues at the position of
#: the old one.
REOPEN_S: Final = 600.0
_WAIT_S: Final = 5.0
#: One fetch of records that were there before.
_LOAD_WAIT_S: Final = 0.2
#: Between looks while there is no topic to follow.
_IDLE_S: Final = 1.0
#: The log has not answered for so long: what was read may be old.
_UNHEARD_S: Final = 3 * _WAIT_S
_BACKOFF_S: Final = 5.0
_BATCH: Final = 500
_LOOK_S: Final = 0.05

_log = structlog.get_logger("gateway.fanout")


class TopicFollower:
    """Reads topics as long as it runs.

    Args:
        log: has the topics.
        name: for logs and metrics.
        topics: returns the topics to follow, asked again and again.
        on_batch: awaited with what was read, also when nothing was.
        on_begins: takes the first offset that the log has, by partition, now and then.
        silence_s: topics count as read to their end if the log returns nothing for so long.
    """

    def __init__(
        self,
        log: BrowsedLog,
        name: str,
        topics: Callable[[], Collection[str]],
        *,
        clock: Clock,
        on_batch: Callable[[Batch], Awaitable[None]],
        on_begins: Callable[[Mapping[str, int]], None] | None = None,
        silence_s: float = math.inf,
    ) -> None:
        self._eventlog = log
        self._name = name
        self._topics = topics
        self._clock = clock
        self._on_batch = on_batch
        self._on_begins = on_begins
        self._silence_s = silence_s
        self._reader: LogReader | None = None
        self._reading: frozenset[str] = frozenset()
        self._known: frozenset[str] = frozenset()
        self._ends: Mapping[str, int] | None = None  # of what was there when the reader was opened
        self._opened_at = self._read_at = self._heard_at = -math.inf
        self._tasks: list[asyncio.Task[None]] = []
        #: Set when the topics were read to their end for the first time.
        self.has_read = asyncio.Event()

    def knows(self, topic: str) -> bool:
        """Return whether a topic was read to its end, and the log still answers."""
        return topic in self._known and self._clock.monotonic() - self._heard_at <= _UNHEARD_S

    async def until(self, is_so: Callable[[], bool], within_s: float) -> bool:
        """Wait until something holds, at most so many seconds; return whether it does."""
        until = self._clock.monotonic() + within_s
        while not (holds := is_so()) and self._clock.monotonic() < until:
            await sleep(self._clock, _LOOK_S)
        return holds

    def start(self) -> None:
        """Start to read; does not wait for the log."""
        self._tasks.append(asyncio.create_task(self._run(), name=f"follow:{self._name}"))

    async def stop(self) -> None:
        """Stop. May be called twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    async def _run(self) -> None:
        said = ""
        while True:
            try:
                if said:
                    await self._on_batch(Batch())  # what is known may be old by now
                await self._turn()
            except Exception as exc:  # the top of a task
                fault = redaction.fault(exc)
                if said != fault and not is_logged(exc):
                    _log.warning("internal_topic.read_failed", reader=self._name, error=fault)
                said = fault
                await sleep(self._clock, _BACKOFF_S)
            else:
                said = ""

    async def _turn(self) -> None:
        topics = frozenset(self._topics())
        if not topics:
            await sleep(self._clock, _IDLE_S)
            return
        is_old = self._on_begins is not None and self._clock.monotonic() - self._opened_at > REOPEN_S
        if self._reader is None or topics != self._reading or is_old:
            await self._open(topics)
        assert self._reader is not None
        if self._ends is not None and not await has_more(self._reader, self._ends):
            await self._reached_end()
        found = await self._reader.fetch(max_records=_BATCH, wait_s=_WAIT_S if self._ends is None else _LOAD_WAIT_S)
        self._heard_at = self._clock.monotonic()
        if found:
            self._read_at = self._heard_at
        elif self._ends is not None and self._heard_at - self._read_at >= self._silence_s:
            await self._reached_end()
        await self._on_batch(found)

    async def _reached_end(self) -> None:
        self._ends, self._known, self._heard_at = None, self._reading, self._clock.monotonic()
        self.has_read.set()
        await self._on_batch(Batch())

    async def _open(self, topics: frozenset[str]) -> None:
        places = {} if self._reader is None else await self._reader.positions()
        reader = await self._eventlog.browse(self._name, topics, start="earliest")
        try:
            begins = await reader.positions()
            if self._on_begins is not None:
                self._on_begins(begins)
            for partition in begins.keys() & places.keys():
                await reader.seek(partition, max(begins[partition], places[partition]))
            self._ends = await reader.ends()
        except BaseException:
            await reader.close()
            raise
        await self._close()
        self._reader, self._reading = reader, topics
        self._opened_at = self._read_at = self._clock.monotonic()
        self._known &= topics

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            try:
                await reader.close()
            except GatewayError as exc:
                _log.info("internal_topic.not_closed", reader=self._name, error=str(exc))


class TopicTable(TopicFollower):
    """A topic of which the last record of each key counts; every process reads it, and any may write.

    Nothing is written before the topic was read to its end. A record of this process overrules those before it: from
    :meth:`mark` until its own record is read back, :meth:`is_ours` returns True for its key.

    Args:
        log: has the topic.
        topic: its name.
        read: takes each record, and whether one of this process is to follow it, or is this one.
        value: returns the value of a new record of a key.
        on_read: awaited after records were read, also when none were.
        refresh_s: returns the age at which the record of a key is written again, infinite for never.
        silence_s: see :class:`TopicFollower`.
    """

    def __init__(
        self,
        log: BrowsedLog,
        topic: str,
        *,
        clock: Clock,
        read: Callable[[Record, bool], None],
        value: Callable[[str], bytes],
        on_read: Callable[[], Awaitable[None]],
        refresh_s: Callable[[str], float],
        silence_s: float = math.inf,
    ) -> None:
        super().__init__(log, topic, lambda: [topic], clock=clock, on_batch=self._take, silence_s=silence_s)
        self._topic = topic
        self._read = read
        self._value = value
        self._on_read = on_read
        self._refresh_s = refresh_s
        self._marked: dict[str, None] = {}
        self._has_marked = asyncio.Event()
        self._awaited: dict[str, str] = {}  # by key, the id of our last record that was not read back yet
        #: Unix seconds of the last record, by key.
        self.written_at: dict[str, float] = {}

    def is_ours(self, key: str) -> bool:
        """Return whether a record of this process is to be written, or to be read back."""
        return key in self._marked or key in self._awaited

    def mark(self, key: str) -> None:
        """Write a key, a moment later. Never blocks."""
        self._marked[key] = None
        self._has_marked.set()

    def unmark(self, key: str) -> None:
        """Do not write a key that was marked."""
        self._marked.pop(key, None)

    async def append(self, key: str, value: bytes) -> None:
        """Write a record at once; errors as :meth:`gateway.log.BrowsedLog.append`."""
        await self._eventlog.append([Entry(self._topic, key, uuid4().hex, value)])
        self.written_at[key] = self._clock.now()

    async def flush(self) -> None:
        """Write what is marked.

        Raises:
            GatewayError: the log does not accept it now; it stays marked.
        """
        keys, self._marked = list(self._marked), {}
        self._has_marked.clear()
        entries = [Entry(self._topic, key, uuid4().hex, self._value(key)) for key in keys]
        if not entries:
            return
        self._awaited |= {entry.key: entry.id for entry in entries}
        now = self._clock.now()
        try:
            await self._eventlog.append(entries)
        except BaseException:
            for key in keys:
                self.mark(key)
            raise
        self.written_at |= dict.fromkeys(keys, now)

    def start(self) -> None:
        """Start to read and to write; does not wait for the log. What is marked when it stops is not written."""
        super().start()
        self._tasks.append(asyncio.create_task(self._write(), name=f"write:{self._topic}"))

    async def _take(self, batch: Batch) -> None:
        for record in batch:
            is_ours = self.is_ours(record.key)
            if self._awaited.get(record.key) == record.id:
                del self._awaited[record.key]
            self.written_at[record.key] = record.appended_at
            self._read(record, is_ours)
        await self._on_read()
        if self.has_read.is_set():
            now = self._clock.now()
            for key, at in self.written_at.items():
                if now - at > self._refresh_s(key):
                    self.mark(key)

    async def _write(self) -> None:
        await self.has_read.wait()
        while True:
            await self._has_marked.wait()
            try:
                await self.flush()
            except Exception as exc:  # the top of a task
                if not is_logged(exc):
                    keys, fault = sorted(self._marked), redaction.fault(exc)
                    _log.warning("internal_topic.not_written", topic=self._topic, error=fault, keys=keys)
                await sleep(self._clock, _BACKOFF_S)
