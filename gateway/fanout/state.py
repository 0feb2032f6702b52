"""What must outlive the process: who is paused or stopped, and whose breaker is open.

Kept as records of the internal topic :data:`TOPIC`, the same on both logs; the last one of a key holds::

    <subscriber>/control   {"paused": bool, "stopped": reason}          written when a person or a 410 changes it
    <subscriber>/breaker   {"opened_at": Unix seconds | null, "open_s": seconds}    written when it opens or closes

Two keys, as with several processes each has a breaker of its own, and its word on that must not undo a pause
that another has just written. In Kafka the topic is best compacted. In the journal it falls under retention
like everything, so a state that is not the normal one is written again every :data:`REFRESH_S`. Every process
follows the topic: a pause asked of one holds in all.

The probes of an open breaker are not written, so that an outage costs two records however long it is.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog

from gateway.errors import GatewayError
from gateway.fanout.clock import Clock, sleep
from gateway.fanout.gate import Lasting
from gateway.log import Entry, EventLog, LogReader, Record

TOPIC: Final = "fanout.state"
#: Well below the shortest retention that makes sense.
REFRESH_S: Final = 12 * 3600.0
_FOLLOW_WAIT_S: Final = 5.0
_BACKOFF_S: Final = 5.0
_NORMAL: Final[dict[str, dict[str, Any]]] = {
    "control": {"paused": False, "stopped": ""},
    "breaker": {"opened_at": None, "open_s": 0.0},
}

_log = structlog.get_logger("gateway.fanout")


class StateBoard:
    """Reads, follows and writes the lasting states of all subscribers.

    Args:
        instance: names this process' cursor; different for each process that shares a log.
        load_wait_s: silence of the log for so long is taken for the end of what was kept, where the log cannot say
            how much that is: compaction leaves less than there are offsets.
        on_loaded: called once, when what was kept is known.
        on_change: called with a subscriber's name when another process changed its state.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        clock: Clock,
        instance: str,
        load_wait_s: float,
        on_loaded: Callable[[], None],
        on_change: Callable[[str], None],
    ) -> None:
        self._eventlog = log
        self._clock = clock
        self._instance = instance
        self._load_wait_s = load_wait_s
        self._on_loaded = on_loaded
        self._on_change = on_change
        self._kept: dict[str, dict[str, Any]] = {}
        self._dirty: dict[str, None] = {}
        self._has_dirty = asyncio.Event()
        self._written_at: dict[str, float] = {}
        self._reader: LogReader | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def get(self, subscriber: str) -> Lasting:
        """The last state known."""
        control = self._kept.get(f"{subscriber}/control", _NORMAL["control"])
        breaker = self._kept.get(f"{subscriber}/breaker", _NORMAL["breaker"])
        return Lasting(control["paused"], control["stopped"], breaker["opened_at"], breaker["open_s"])

    def put(self, subscriber: str, state: Lasting) -> None:
        """Keep a state; durable a moment later. Never blocks."""
        parts: dict[str, dict[str, Any]] = {
            "control": {"paused": state.paused, "stopped": state.stopped},
            "breaker": {"opened_at": state.opened_at, "open_s": state.open_s},
        }
        for part, value in parts.items():
            key = f"{subscriber}/{part}"
            if self._kept.get(key, _NORMAL[part]) != value:
                self._kept[key] = value
                self._mark(key)

    def start(self) -> None:
        """Begin to load, follow and write."""
        self._tasks = [
            asyncio.create_task(self._follow(), name="fanout:state-reader"),
            asyncio.create_task(self._write(), name="fanout:state-writer"),
        ]

    async def stop(self) -> None:
        """Write what is not written yet, if the log takes it. May come twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._append()
            if self._reader is not None:
                await self._reader.close()
        except GatewayError as exc:
            _log.warning("state.not_written", error=str(exc), keys=sorted(self._dirty))
        self._reader = None

    async def _follow(self) -> None:
        is_loaded = False
        unread: dict[str, int] = {}  # of what was kept when we came, by partition; none: not known
        while True:
            records: Sequence[Record] = ()
            try:
                if self._reader is None:
                    self._reader = await self._eventlog.reader(f"state.{self._instance}", [TOPIC], start="earliest")
                    unread = dict(await self._reader.lag())  # it never commits, so that all there is is its lag
                if is_loaded or not _is_read(unread):
                    records = await self._reader.fetch(
                        max_records=500, wait_s=_FOLLOW_WAIT_S if is_loaded else self._load_wait_s
                    )
            except Exception as exc:  # the top of a task
                _log.warning("state.read_failed", error=repr(exc))
                await sleep(self._clock, _BACKOFF_S)
                continue
            for record in records:
                self._read(record, is_loaded=is_loaded)
                unread[record.partition] = unread.get(record.partition, 0) - 1
            if not is_loaded and (not records or _is_read(unread)):
                is_loaded = True
                self._on_loaded()
            self._refresh()

    def _read(self, record: Record, *, is_loaded: bool) -> None:
        try:
            value = orjson.loads(record.value)
            part = record.key.rpartition("/")[2]
            state: dict[str, Any] = {name: value[name] for name in _NORMAL[part]}
            writer = value.get("by")
        except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
            _log.warning("state.not_understood", partition=record.partition, offset=record.offset)
            return
        if record.appended_at < self._written_at.get(record.key, 0.0):
            return  # read a second time; what came after it is known
        self._written_at[record.key] = record.appended_at
        if is_loaded and (writer == self._instance or record.key in self._dirty):
            return
        self._kept[record.key] = state
        if is_loaded and part == "control":
            self._on_change(record.key.rpartition("/")[0])

    def _refresh(self) -> None:
        oldest = self._clock.now() - REFRESH_S
        for key, kept in self._kept.items():
            if kept != _NORMAL[key.rpartition("/")[2]] and self._written_at.get(key, oldest + 1) < oldest:
                self._mark(key)

    def _mark(self, key: str) -> None:
        self._dirty[key] = None
        self._has_dirty.set()

    async def _write(self) -> None:
        while True:
            await self._has_dirty.wait()
            try:
                await self._append()
            except Exception as exc:  # the top of a task
                _log.warning("state.not_written", error=repr(exc), keys=sorted(self._dirty))
                await sleep(self._clock, _BACKOFF_S)

    async def _append(self) -> None:
        keys = list(self._dirty)
        self._has_dirty.clear()  # also when nothing is left: a state that changed and changed back during an append
        if not keys:
            return
        values = [{**self._kept[key], "by": self._instance} for key in keys]
        now = self._clock.now()
        try:
            await self._eventlog.append(
                [Entry(TOPIC, key, _id(key, now), orjson.dumps(value)) for key, value in zip(keys, values, strict=True)]
            )
        except BaseException:
            self._has_dirty.set()
            raise
        for key, value in zip(keys, values, strict=True):
            self._written_at[key] = now
            if self._kept[key].items() <= value.items():
                self._dirty.pop(key, None)


def _is_read(unread: Mapping[str, int]) -> bool:
    return bool(unread) and max(unread.values()) <= 0


def _id(key: str, now: float) -> str:
    """Ids of internal records are not looked up; they only have to differ, and to look like ids."""
    return hashlib.blake2b(f"{key}@{now!r}".encode(), digest_size=16).hexdigest()
