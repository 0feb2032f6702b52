"""State that outlives the process: which subscribers are paused or stopped, which breakers are open, where each begins.

It is stored as records of the internal topic :data:`TOPIC`, on both logs; the last record of a key counts::

    <subscriber>/control   {"paused": bool, "stopped": reason}          written when a person or a 410 changes it
    <subscriber>/breaker   {"opened_at": Unix seconds | null, "open_s": seconds}    written when it opens or closes
    <subscriber>/start     {"topics": {topic: {"since": Unix seconds, "id": incarnation}}}

Several keys, as with several processes each has a breaker of its own, and its word on that must not undo a pause
that another has just written. In Kafka the topic is compacted where we create it. In the journal it falls under
retention like everything, so a state that is not the normal one is written again every :data:`REFRESH_S`. Every process
follows the topic: a pause asked of one holds in all.

The log decides: the last record of a key counts, from any writer and with any clock. A record of this process overrules
the records before it, so from a change until its own record is read back, a process applies no other record of that
key.

Of ``breaker`` "open" outweighs "closed": each process has a breaker of its own for each subscriber, and a process that
attempts and fails writes its record again behind that of another one which has recovered. While a breaker stays open,
the record is repeated every :data:`REPEAT_S`, so that the record of a process that died is distinguished from one that
is still valid. The probes are not written.

Of ``start`` the earliest time of each topic counts. A process that reads a later one writes the earlier one behind it,
because only the last record of a key survives compaction. On the journal a new subscriber's position is fixed when a
configuration that names it is first applied. On Kafka that is impossible: Kafka may be unavailable, the topic may not
exist yet, and a role that only accepts callbacks joins no group. So the time is fixed instead, by the role that applies
the configuration first (:class:`Beginnings`), and the offset is looked up when a group has no position in the topic.
Records have the time at which their events were accepted, so that each event accepted later is found, whenever it was
published. A process with a journal stores its own times there too, for the time while Kafka is unavailable. With
``start: earliest`` the time is 0. The incarnation is that of the topic that was read, because the deletion of a topic
deletes every position in it.

Limit: clocks. The time is that of the machine that applied the configuration, the records' that of the machine that
accepted the callback: if they differ by a second, events of that second may be missed, or delivered in addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog

from gateway.clock import Clock, sleep
from gateway.config.settings import Subscriber
from gateway.errors import GatewayError
from gateway.fanout.flow_control import PersistentState
from gateway.fanout.topic_table import TopicTable
from gateway.log import Begin, Begins, BrowsedLog, Record
from gateway.log.journal import Journal

TOPIC: Final = "fanout.state"
#: Well below the shortest retention that makes sense.
REFRESH_S: Final = 12 * 3600.0
#: Interval at which an open breaker is reported again; the record of another process counts for little more than two.
REPEAT_S: Final = 300.0
_BELIEVED_S: Final = 2 * REPEAT_S + 60.0
#: Value of a ``start`` record.
Start = dict[str, Any]
#: That of a subscriber that was removed.
NO_START: Final[Start] = {"topics": {}}
_NORMAL: Final[dict[str, dict[str, Any]]] = {
    "control": {"paused": False, "stopped": ""},
    "breaker": {"opened_at": None, "open_s": 0.0},
    "start": NO_START,
}
#: Before a new subscriber begins, processes that applied the same configuration a moment earlier have so long to report
#: it: the shorter time if Kafka was available, the longer one if they all wait for it.
_AGREE_S: Final = (1.0, 5.0)
#: A subscriber begins with what is known here when its time cannot be written for so long.
_WRITE_S: Final = 30.0
#: Group and stream of the times that are stored as positions of the journal.
_GROUP: Final = "start."
_STREAM: Final = "since."

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
        log: BrowsedLog,
        *,
        clock: Clock,
        instance: str,
        load_wait_s: float,
        on_loaded: Callable[[], None],
        on_change: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._on_loaded = on_loaded
        self._on_change = on_change
        self._table = TopicTable(
            log,
            TOPIC,
            clock=clock,
            read=self._read,
            value=lambda key: orjson.dumps({**self._kept[key], "by": instance}),
            on_read=self._on_read,
            refresh_s=self._refresh_s,
            silence_s=load_wait_s,
        )
        self._kept: dict[str, dict[str, Any]] = {}
        self._applied: dict[str, dict[str, float]] = {}  # before it was known what is kept
        self._new: set[str] = set()  # subscribers whose time was fixed here, and is not agreed on
        self._last_starts: dict[str, Start] = {}
        self._said: dict[str, dict[str, Any]] = {}  # breakers, as our own attempts have it
        self._is_loaded = False

    def get(self, subscriber: str) -> PersistentState:
        """Return the last state known."""
        control = self._kept.get(f"{subscriber}/control", _NORMAL["control"])
        breaker = self._kept.get(f"{subscriber}/breaker", _NORMAL["breaker"])
        return PersistentState(control["paused"], control["stopped"], breaker["opened_at"], breaker["open_s"])

    def everywhere(self, subscriber: str) -> PersistentState | None:
        """Return the last state known of all processes; None while it cannot be known.

        A breaker counts as open while a process repeats that it is.
        """
        if not self._table.knows(TOPIC):
            return None
        now, kept = self._clock.now(), self.get(subscriber)
        is_held = now - self._table.written_at.get(f"{subscriber}/breaker", now) <= _BELIEVED_S
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
                self._table.mark(key)

    def apply(self, subscriber: str, times: Mapping[str, float]) -> None:
        """Note that a configuration has the subscriber and topics. Until it is known what is kept, this waits for it.

        Args:
            subscriber: its name.
            times: Unix seconds since when, by topic.
        """
        if not self._is_loaded:
            self._applied.setdefault(subscriber, {}).update(times)
            return
        kept = self._start_of(subscriber)
        if self._put_start(subscriber, added(kept, times)) and any(times.values()):
            self._new.add(subscriber)

    def drop(self, subscriber: str) -> None:
        """Note that a configuration no longer has the subscriber: if it is added again, it begins again."""
        self._applied.pop(subscriber, None)
        self._put_start(subscriber, NO_START)

    async def begins(self, subscriber: str) -> Begins:
        """Return where it begins in its topics, agreed with the other processes as far as they can be reached."""
        if subscriber in self._new:
            await self._table.until(lambda: not self._table.is_ours(f"{subscriber}/start"), _WRITE_S)
            since = max((begin.since for begin in begins(self._start_of(subscriber)).values()), default=0.0)
            shortest, longest = _AGREE_S
            await sleep(self._clock, min(max(self._clock.now() - since, shortest), longest))
            self._new.discard(subscriber)
        return begins(self._start_of(subscriber))

    def opened(self, subscriber: str, incarnations: Mapping[str, str]) -> None:
        """Note in which incarnations the subscriber reads its topics."""
        self._put_start(subscriber, opened(self._start_of(subscriber), incarnations))

    def start(self) -> None:
        """Begin to load, follow and write."""
        self._table.start()

    async def stop(self) -> None:
        """Write what is not written yet, if the log accepts it. May be called twice, or before the start."""
        await self._table.stop()
        try:
            await self._table.flush()
        except GatewayError as exc:
            # At the end always: there is no later try.
            _log.warning("internal_topic.not_written", topic=TOPIC, error=str(exc))

    async def _on_read(self) -> None:
        if not self._is_loaded and self._table.has_read.is_set():
            self._is_loaded = True
            self._catch_up()
            self._on_loaded()

    def _read(self, record: Record, is_ours: bool) -> None:
        key = record.key
        try:
            value = orjson.loads(record.value)
            part = key.rpartition("/")[2]
            wanted: dict[str, Any] = {name: value[name] for name in _NORMAL[part]}
            state = parse(wanted) if part == "start" else wanted
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            _log.warning("state.not_understood", partition=record.partition, offset=record.offset)
            return
        if part == "start":
            self._read_start(key, state, is_ours=is_ours)
        elif not is_ours and part == "breaker" and _is_open(self._said.get(key)) and not _is_open(state):
            self._kept[key] = self._said[key]
            self._table.mark(key)
        elif not is_ours and state != self._kept.get(key, _NORMAL[part]):
            self._kept[key] = state
            if self._is_loaded:
                self._on_change(key.rpartition("/")[0])

    def _read_start(self, key: str, state: Start, *, is_ours: bool) -> None:
        self._last_starts[key] = state
        if is_ours and not state["topics"]:
            return  # removed by another process before our word on it
        kept = self._kept.get(key, NO_START)
        kept = self._kept[key] = merged(state, kept) if is_ours else merged(kept, state)
        if self._is_loaded and kept != state:
            self._table.mark(key)

    def _catch_up(self) -> None:
        """Add what was applied while the stored records were read, and write again what must be the last record."""
        for key, last in self._last_starts.items():
            if self._kept[key] != last:
                self._table.mark(key)
        applied, self._applied = self._applied, {}
        for subscriber, times in applied.items():
            self.apply(subscriber, times)

    def _start_of(self, subscriber: str) -> Start:
        return self._kept.get(f"{subscriber}/start", NO_START)

    def _put_start(self, subscriber: str, kept: Start) -> bool:
        key = f"{subscriber}/start"
        if kept == self._start_of(subscriber):
            return False
        self._kept[key] = kept
        self._table.mark(key)
        return True

    def _refresh_s(self, key: str) -> float:
        if self._kept.get(key, {}) in ({}, _NORMAL.get(key.rpartition("/")[2])):
            return math.inf
        return REPEAT_S if _is_open(self._said.get(key)) else REFRESH_S


class Beginnings:
    """Notes when configurations are applied.

    Args:
        board: where all processes read it.
        notes: the journal of this process, if it has one.
    """

    def __init__(self, board: SubscriberStateStore, clock: Clock, notes: Journal | None = None) -> None:
        self._board = board
        self._clock = clock
        self._notes = notes
        self._names: set[str] = set()

    def apply(self, subscribers: Sequence[Subscriber]) -> None:
        """Note that a configuration is applied now. Never blocks; a flush of the journal makes it durable."""
        now = self._clock.now()
        reading = {one.name: one for one in subscribers if one.kind != "stream"}
        self._forget_others(reading.keys())
        for name in self._names - reading.keys():
            self._board.drop(name)
        self._names = set(reading)
        for name, one in reading.items():
            self._board.apply(name, {topic: self._since(one, topic, now) for topic in one.topics})

    def _since(self, subscriber: Subscriber, topic: str, now: float) -> float:
        if subscriber.start == "earliest":
            return 0.0
        if self._notes is None:
            return now
        place = _GROUP + subscriber.name, _STREAM + topic
        if not (noted := self._notes.positions().get(place)):
            noted = int(now * 1000)
            self._notes.note_cursor(*place, noted)
        return min(now, noted / 1000)

    def _forget_others(self, names: Collection[str]) -> None:
        if self._notes is None:
            return
        for (group, stream), noted in list(self._notes.positions().items()):
            is_ours = group.startswith(_GROUP) and stream.startswith(_STREAM)
            if is_ours and noted and group.removeprefix(_GROUP) not in names:
                self._notes.note_cursor(group, stream, 0)


def _is_open(breaker: Mapping[str, Any] | None) -> bool:
    return breaker is not None and breaker["opened_at"] is not None


def begins(kept: Start) -> Begins:
    """Return what is kept in the terms of the log."""
    return {topic: Begin(item["since"], item["id"]) for topic, item in kept["topics"].items()}


def parse(value: Start) -> Start:
    """Return the value of a record, of any version, with what is used of it.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is none.
    """
    return {
        "topics": {
            str(topic): {"since": float(item["since"]), "id": str(item.get("id", ""))}
            for topic, item in value["topics"].items()
        }
    }


def added(kept: Start, times: Mapping[str, float]) -> Start:
    """Return what is kept when a configuration was applied: topics that are known keep their time, if it is earlier."""
    new = {"topics": {topic: {"since": since, "id": ""} for topic, since in times.items()}}
    return merged(kept, new) if times else kept


def merged(kept: Start, read: Start) -> Start:
    """Return what is kept when a record was read: the earlier time of each topic, the incarnation written last.

    A record without topics says that the subscriber was removed.
    """
    if not read["topics"]:
        return read
    topics = dict(kept["topics"])
    for topic, item in read["topics"].items():
        known = topics.get(topic, item)
        topics[topic] = {"since": min(item["since"], known["since"]), "id": item["id"] or known["id"]}
    return {"topics": topics}


def opened(kept: Start, incarnations: Mapping[str, str]) -> Start:
    """Return what is kept when topics were opened."""
    return {
        "topics": {
            topic: {**item, "id": incarnations.get(topic) or item["id"]} for topic, item in kept["topics"].items()
        }
    }
