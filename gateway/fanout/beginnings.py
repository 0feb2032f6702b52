"""Where a subscriber begins in a topic: at the time at which a configuration that names both was first applied.

On the journal a new subscriber's position is fixed at that moment. On Kafka that is impossible: Kafka may be
unavailable, the topic may not exist yet, and a role that only accepts callbacks joins no group. So the time is fixed
instead, by the role that applies the configuration first, and the offset is looked up when a group has no position in
the topic. Records have the time at which their events were accepted, so that each event accepted later is found,
whenever it was published.

The times are records of the topic of states (:mod:`gateway.fanout.subscriber_state`), where all processes read
them; the earliest counts. A process with a journal stores its own there too, for the time while Kafka is unavailable.
With ``start: earliest`` the time is 0.

The record also has the incarnation of the topic that was read, because the deletion of a topic deletes every position
in it.

Limit: clocks. The time is that of the machine that applied the configuration, the records' that of the machine that
accepted the callback: if they differ by a second, events of that second may be missed, or delivered in addition.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from gateway.clock import Clock
from gateway.config.settings import Subscriber
from gateway.log import Begin, Begins

#: Value of a record: ``{"topics": {topic: {"since": Unix seconds, "id": incarnation}}}``.
Kept = dict[str, Any]
NOTHING: Final[Kept] = {"topics": {}}
_GROUP: Final = "start."
_STREAM: Final = "since."


class Notes(Protocol):
    """Storage of numbers of one process: the journal's positions."""

    def note_cursor(self, group: str, stream: str, position: int) -> None:
        """Store a number; durable with the next commit, or after a flush.

        Args:
            group: name of the reader.
            stream: its name.
            position: the number.
        """

    def positions(self) -> Mapping[tuple[str, str], int]:
        """Return all stored numbers."""


class Board(Protocol):
    """State shared by all processes, see :class:`gateway.fanout.subscriber_state.SubscriberStateStore`."""

    def apply(self, subscriber: str, times: Mapping[str, float]) -> None:
        """Note that a configuration has the subscriber and topics.

        Args:
            subscriber: its name.
            times: Unix seconds since when, by topic.
        """

    def drop(self, subscriber: str) -> None:
        """Note that a configuration no longer has the subscriber: if it is added again, it begins again."""


class Beginnings:
    """Notes when configurations are applied.

    Args:
        notes: the journal of this process, if it has one.
    """

    def __init__(self, board: Board, clock: Clock, notes: Notes | None = None) -> None:
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


def begins(kept: Kept) -> Begins:
    """Return what is kept in the terms of the log."""
    return {topic: Begin(item["since"], item["id"]) for topic, item in kept["topics"].items()}


def parse(value: Kept) -> Kept:
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


def added(kept: Kept, times: Mapping[str, float]) -> Kept:
    """Return what is kept when a configuration was applied: topics that are known keep their time, if it is earlier."""
    new = {"topics": {topic: {"since": since, "id": ""} for topic, since in times.items()}}
    return merged(kept, new) if times else kept


def merged(kept: Kept, read: Kept) -> Kept:
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


def opened(kept: Kept, incarnations: Mapping[str, str]) -> Kept:
    """Return what is kept when topics were opened."""
    return {
        "topics": {
            topic: {**item, "id": incarnations.get(topic) or item["id"]} for topic, item in kept["topics"].items()
        }
    }
