"""State that outlives the process: which subscribers are paused or stopped, and which breakers are open.

It is stored as records of the internal topic :data:`TOPIC`, on both logs; the last record of a key counts::

    <subscriber>/control   {"paused": bool, "stopped": reason}          written when a person or a 410 changes it
    <subscriber>/breaker   {"opened_at": Unix seconds | null, "open_s": seconds}    written when it opens or closes
    <subscriber>/start     {"topics": {...}}    when a configuration named it first, see gateway.fanout.beginnings

Several keys, as with several processes each has a breaker of its own, and its word on that must not undo a pause
that another has just written. In Kafka the topic is compacted where we create it. In the journal it falls under
retention like everything, so a state that is not the normal one is written again every :data:`REFRESH_S`. Every process
follows the topic: a pause asked of one holds in all.

The log decides: the last record of a key counts, from any writer and with any clock. A record of this process overrules
the records before it, so from a change until its own record is read back, a process applies no other record of that
key.

Of ``start`` the earliest time counts instead. A process that reads a later one writes the earlier one behind it,
because only the last record of a key survives compaction.

Of ``breaker`` "open" outweighs "closed": each process has a breaker of its own for each subscriber, and a process that
attempts and fails writes its record again behind that of another one which has recovered. While a breaker stays open,
the record is repeated every :data:`REPEAT_S`, so that the record of a process that died is distinguished from one that
is still valid. The probes are not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import orjson
import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.fanout import beginnings
from gateway.fanout.flow_control import PersistentState
from gateway.fanout.scan import has_more
from gateway.log import Begins, Entry, EventLog, LogReader, Record
from gateway.telemetry import redaction

TOPIC: Final = "fanout.state"
#: Well below the shortest retention that makes sense.
REFRESH_S: Final = 12 * 3600.0
#: Interval at which an open breaker is reported again; the record of another process counts for little more than two.
REPEAT_S: Final = 300.0
_BELIEVED_S: Final = 2 * REPEAT_S + 60.0
_FOLLOW_WAIT_S: Final = 5.0
#: What is kept has not been read for so long: it is not known what it is now.
_UNHEARD_S: Final = 3 * _FOLLOW_WAIT_S
_BACKOFF_S: Final = 5.0
_NORMAL: Final[dict[str, dict[str, Any]]] = {
    "control": {"paused": False, "stopped": ""},
    "breaker": {"opened_at": None, "open_s": 0.0},
    "start": beginnings.NOTHING,
}
#: Before a new subscriber begins, processes that applied the same configuration a moment earlier have so long to report
#: it: the shorter time if Kafka was available, the longer one if they all wait for it.
_AGREE_S: Final = (1.0, 5.0)
#: A subscriber begins with what is known here when its time cannot be written for so long.
_WRITE_S: Final = 30.0
_LOOK_S: Final = 0.1

_log = structlog.get_logger("gateway.fanout")


class SubscriberStateStore:
    """Reads, follows and writes the lasting states of all subscribers.

    Args:
        instance: names this process in its records, for people.
        load_wait_s: if the log returns nothing for so long, subscribers begin with the known states; later records are
            applied when they are read.
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
        self._applied: dict[str, dict[str, float]] = {}  # before it was known what is kept
        self._new: set[str] = set()  # subscribers whose time was fixed here, and is not agreed on
        self._last_starts: dict[str, beginnings.Kept] = {}
        self._awaited: dict[str, str] = {}  # by key, the id of our last record that was not read back yet
        self._reader: LogReader | None = None
        self._ends: Mapping[str, int] | None = None  # of what was kept when we came
        self._said: dict[str, dict[str, Any]] = {}  # breakers, as our own attempts have it
        self._heard_at = float("-inf")
        self._is_loaded = False
        self._tasks: list[asyncio.Task[None]] = []

    def get(self, subscriber: str) -> PersistentState:
        """Return the last state known."""
        control = self._kept.get(f"{subscriber}/control", _NORMAL["control"])
        breaker = self._kept.get(f"{subscriber}/breaker", _NORMAL["breaker"])
        return PersistentState(control["paused"], control["stopped"], breaker["opened_at"], breaker["open_s"])

    def everywhere(self, subscriber: str) -> PersistentState | None:
        """Return the last state known of all processes; None while it cannot be known.

        A breaker counts as open while a process repeats that it is.
        """
        now = self._clock.now()
        if not self._is_loaded or now - self._heard_at > _UNHEARD_S:
            return None
        kept, key = self.get(subscriber), f"{subscriber}/breaker"
        is_held = now - self._written_at.get(key, now) <= _BELIEVED_S
        return kept if is_held else PersistentState(kept.paused, kept.stopped)

    def put(self, subscriber: str, state: PersistentState) -> None:
        """Keep a state; durable a moment later. Never blocks."""
        parts: dict[str, dict[str, Any]] = {
            "control": {"paused": state.paused, "stopped": state.stopped},
            "breaker": {"opened_at": state.opened_at, "open_s": state.open_s},
        }
        said, self._said[f"{subscriber}/breaker"] = self._said.get(f"{subscriber}/breaker"), parts["breaker"]
        for part, value in parts.items():
            key = f"{subscriber}/{part}"
            if part == "breaker" and value == said:
                continue
            if self._kept.get(key, _NORMAL[part]) != value:
                self._kept[key] = value
                self._mark(key)

    def apply(self, subscriber: str, times: Mapping[str, float]) -> None:
        """See :class:`gateway.fanout.beginnings.Board`. Until it is known what is kept, this waits for it."""
        if not self._is_loaded:
            self._applied.setdefault(subscriber, {}).update(times)
            return
        kept = self._start_of(subscriber)
        if self._put_start(subscriber, beginnings.added(kept, times)) and any(times.values()):
            self._new.add(subscriber)

    def drop(self, subscriber: str) -> None:
        """See :class:`gateway.fanout.beginnings.Board`."""
        self._applied.pop(subscriber, None)
        self._put_start(subscriber, beginnings.NOTHING)

    async def begins(self, subscriber: str) -> Begins:
        """Return where it begins in its topics, agreed with the other processes as far as they can be reached."""
        if subscriber in self._new:
            key = f"{subscriber}/start"
            until = self._clock.monotonic() + _WRITE_S
            while (key in self._dirty or key in self._awaited) and self._clock.monotonic() < until:
                await sleep(self._clock, _LOOK_S)
            since = max((begin.since for begin in beginnings.begins(self._start_of(subscriber)).values()), default=0.0)
            shortest, longest = _AGREE_S
            await sleep(self._clock, min(max(self._clock.now() - since, shortest), longest))
            self._new.discard(subscriber)
        return beginnings.begins(self._start_of(subscriber))

    def opened(self, subscriber: str, incarnations: Mapping[str, str]) -> None:
        """Note in which incarnations the subscriber reads its topics."""
        self._put_start(subscriber, beginnings.opened(self._start_of(subscriber), incarnations))

    def start(self) -> None:
        """Begin to load, follow and write."""
        self._tasks = [
            asyncio.create_task(self._follow(), name="fanout:state-reader"),
            asyncio.create_task(self._write(), name="fanout:state-writer"),
        ]

    async def stop(self) -> None:
        """Write what is not written yet, if the log accepts it. May be called twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._append()
            if self._reader is not None:
                await self._reader.close()
        except GatewayError as exc:
            # At the end always: there is no later try.
            _log.warning("state.not_written", error=str(exc), keys=sorted(self._dirty))
        self._reader = None

    async def _follow(self) -> None:
        said = ""
        while True:
            try:
                records = await self._next()
            except Exception as exc:  # the top of a task
                fault = redaction.fault(exc)
                if said != fault and not is_logged(exc):
                    said = fault
                    _log.warning("state.read_failed", error=said)
                await sleep(self._clock, _BACKOFF_S)
                continue
            said = ""
            self._heard_at = self._clock.now()
            for record in records:
                self._read(record)
            if not records and not self._is_loaded:
                self._is_loaded = True
                self._catch_up()
                self._on_loaded()
            self._refresh()

    async def _next(self) -> Sequence[Record]:
        """Return the next records; none, at once, when all stored ones have been read."""
        if self._reader is None:
            self._reader = await self._eventlog.browse("state.board", [TOPIC], start="earliest")
        if self._is_loaded:
            return await self._reader.fetch(max_records=500, wait_s=_FOLLOW_WAIT_S)
        if self._ends is None:
            self._ends = await self._reader.ends()
        if not await has_more(self._reader, self._ends):
            return ()
        return await self._reader.fetch(max_records=500, wait_s=self._load_wait_s)

    def _read(self, record: Record) -> None:
        key = record.key
        try:
            value = orjson.loads(record.value)
            part = key.rpartition("/")[2]
            wanted: dict[str, Any] = {name: value[name] for name in _NORMAL[part]}
            state = beginnings.parse(wanted) if part == "start" else wanted
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            _log.warning("state.not_understood", partition=record.partition, offset=record.offset)
            return
        self._written_at[key] = record.appended_at
        is_ours = key in self._dirty or key in self._awaited
        if self._awaited.get(key) == record.id:
            del self._awaited[key]
        if part == "start":
            self._read_start(key, state, is_ours=is_ours)
        elif not is_ours and part == "breaker" and _is_open(self._said.get(key)) and not _is_open(state):
            self._kept[key] = self._said[key]
            self._mark(key)
        elif not is_ours and state != self._kept.get(key, _NORMAL[part]):
            self._kept[key] = state
            if self._is_loaded:
                self._on_change(key.rpartition("/")[0])

    def _read_start(self, key: str, state: beginnings.Kept, *, is_ours: bool) -> None:
        self._last_starts[key] = state
        if is_ours and not state["topics"]:
            return  # removed by another process before our word on it
        kept = self._kept.get(key, beginnings.NOTHING)
        kept = self._kept[key] = beginnings.merged(state, kept) if is_ours else beginnings.merged(kept, state)
        if self._is_loaded and kept != state:
            self._mark(key)

    def _catch_up(self) -> None:
        """Add what was applied while the stored records were read, and write again what must be the last record."""
        for key, last in self._last_starts.items():
            if self._kept[key] != last:
                self._mark(key)
        applied, self._applied = self._applied, {}
        for subscriber, times in applied.items():
            self.apply(subscriber, times)

    def _start_of(self, subscriber: str) -> beginnings.Kept:
        return self._kept.get(f"{subscriber}/start", beginnings.NOTHING)

    def _put_start(self, subscriber: str, kept: beginnings.Kept) -> bool:
        key = f"{subscriber}/start"
        if kept == self._start_of(subscriber):
            return False
        self._kept[key] = kept
        self._mark(key)
        return True

    def _refresh(self) -> None:
        now = self._clock.now()
        for key, kept in self._kept.items():
            age_s = now - self._written_at.get(key, now)
            is_old = age_s > (REPEAT_S if _is_open(self._said.get(key)) else REFRESH_S)
            if is_old and kept != _NORMAL[key.rpartition("/")[2]]:
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
                if not is_logged(exc):
                    _log.warning("state.not_written", error=redaction.fault(exc), keys=sorted(self._dirty))
                await sleep(self._clock, _BACKOFF_S)

    async def _append(self) -> None:
        keys = list(self._dirty)
        self._has_dirty.clear()  # also when nothing is left: a state that changed and changed back during an append
        if not keys:
            return
        values = [{**self._kept[key], "by": self._instance} for key in keys]
        entries = [Entry(TOPIC, key, uuid4().hex, orjson.dumps(value)) for key, value in zip(keys, values, strict=True)]
        self._awaited |= {entry.key: entry.id for entry in entries}
        now = self._clock.now()
        try:
            await self._eventlog.append(entries)
        except BaseException:
            self._has_dirty.set()
            raise
        for key, value in zip(keys, values, strict=True):
            self._written_at[key] = now
            if self._kept[key].items() <= value.items():
                self._dirty.pop(key, None)


def _is_open(breaker: Mapping[str, Any] | None) -> bool:
    return breaker is not None and breaker["opened_at"] is not None
