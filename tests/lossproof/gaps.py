"""Which records an operator deleted from Kafka, and which of them the gateway named: those alone may be missing.

The gateway names them in two ways, by group and partition, and each is held against what :mod:`.witness` read before:

* ``kafka.expired`` of its log: the offsets that retention or DeleteRecords took before the group read them. What was
  at them is excused at that subscriber. Named offsets that the partition still has are a breach;
* ``kafka.recreated`` of its log: the topic was deleted and created again, and how far the group had come in the old
  one. What was behind that is excused.

What was accepted around the moment of a deletion, and was never read from any topic, may have been in the old topic:
the gateway cannot know more than that it was published there. It is excused in the log, and at the subscribers whose
group named the topic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from tests.lossproof.callbacks import Item, callback
from tests.lossproof.history import Told
from tests.lossproof.witness import Witness, topic_of

EXPIRED: Final = "kafka.expired"
RECREATED: Final = "kafka.recreated"
_GROUP: Final = "gateway."


class Recreation(NamedTuple):
    """A topic that was deleted and created again.

    Args:
        life: the one that ended, see :mod:`.witness`.
        since: everything answered before it was read from the old topic, microseconds of the history.
        until: what is answered after it is published to the new topic.
        at: Unix seconds of the new topic's creation.
    """

    topic: str
    life: int
    since: int
    until: int
    at: float


class Gap(NamedTuple):
    """Records that a group named as gone: offsets ``first`` up to ``end`` of a partition in one life of its topic."""

    group: str
    partition: str
    life: int
    first: int
    end: int


@dataclass(slots=True)
class Gaps:
    """What was deleted, and what of it was named.

    Args:
        witness: what was in the topics.
    """

    witness: Witness
    recreations: list[Recreation] = field(default_factory=list)
    named: set[Gap] = field(default_factory=set)
    in_log: set[Item] = field(default_factory=set)
    at_subscribers: defaultdict[str, set[Item]] = field(default_factory=lambda: defaultdict(set))
    _recreated: set[tuple[str, str, int]] = field(default_factory=set)

    def read(self, lines: Iterable[Mapping[str, Any]], history: Mapping[int, Told]) -> None:
        """Take in the gateway's log."""
        lines = [line for line in lines if line.get("event") in (EXPIRED, RECREATED)]
        self._vanished(lines, history)
        for line in lines:
            for group in _groups(line):
                self._take(line, group)

    def covers(self, item: Item, where: str) -> bool:
        """Return whether this loss was deleted and named."""
        return item in (self.at_subscribers[where] if where else self.in_log)

    def count(self, group: str, partition: str, life: int) -> int:
        """Return how many offsets a group named as gone."""
        gaps = [gap for gap in self.named if (gap.group, gap.partition, gap.life) == (group, partition, life)]
        return len(set().union(*(range(gap.first, gap.end) for gap in gaps)))

    def breaches(self) -> list[str]:
        """Return what was named and is still there, one sentence each."""
        return [
            f"{gap.group} named the offsets up to {gap.end} of {gap.partition} as gone, which begins at {first}"
            for gap in sorted(self.named)
            if gap.end < 2**63 and gap.end > (first := self.witness.first(gap.partition, gap.life))
        ]

    def unnamed(self, subscribers: Mapping[str, Collection[str]]) -> list[str]:
        """Return which recreations a subscriber's group did not name, one sentence each.

        Args:
            subscribers: name → its topics.
        """
        return [
            f"{name} did not name that {one.topic} was deleted and created again (life {one.life})"
            for one in self.recreations
            for name, topics in subscribers.items()
            if one.topic in topics and (name, one.topic, one.life) not in self._recreated
        ]

    def _take(self, line: Mapping[str, Any], group: str) -> None:
        """Take in what a line says of one of its groups."""
        if line["event"] == EXPIRED:
            self._name(Gap(group, line["partition"], self._life(line), line["first"], line["last"] + 1))
        elif (ended := self._ended(line)) is not None:
            self._recreated.add((group.removeprefix(_GROUP), ended.topic, ended.life))
            for partition in self.witness.of_life(ended.topic, ended.life):
                first = _position(line["positions"], partition)
                self._name(Gap(group, partition, ended.life, first, 2**63))

    def _name(self, gap: Gap) -> None:
        if gap in self.named:
            return
        self.named.add(gap)
        items = self.witness.at(gap.partition, gap.life, gap.first, gap.end)
        self.at_subscribers[gap.group.removeprefix(_GROUP)].update(items)

    def _vanished(self, lines: Iterable[Mapping[str, Any]], history: Mapping[int, Told]) -> None:
        """Excuse what was accepted around a deletion and is in no topic."""
        if not self.recreations:
            return
        met = self.witness.items()
        for number, told in history.items():
            if not any(r.since <= at <= r.until for r in self.recreations for at, _ in told.answers):
                continue
            wanted = callback(number)
            at = told.last_answered_at(wanted.status)
            for place, expected in enumerate(wanted.expected):
                item = Item(number, place)
                recreation = self._around(expected.topic, at)
                if recreation is None or item in met:
                    continue
                self.in_log.add(item)
                for line in lines:
                    if line["event"] == RECREATED and self._ended(line) == recreation:
                        for group in _groups(line):
                            self.at_subscribers[group.removeprefix(_GROUP)].add(item)

    def _around(self, topic: str, at: int | None) -> Recreation | None:
        return next(
            (r for r in self.recreations if r.topic == topic and at is not None and r.since <= at <= r.until), None
        )

    def _ended(self, line: Mapping[str, Any]) -> Recreation | None:
        """The newest recreation of the topic before the line."""
        at = _at(line)
        before = [one for one in self.recreations if one.topic == line["topic"] and one.at <= at]
        return max(before, key=lambda one: one.life, default=None)

    def _life(self, line: Mapping[str, Any]) -> int:
        topic, at = topic_of(line["partition"]), _at(line)
        return sum(one.topic == topic and one.at <= at for one in self.recreations)


def _groups(line: Mapping[str, Any]) -> list[str]:
    """Those that a line names; groups that miss the same share one."""
    group = line["group"]
    return [group] if isinstance(group, str) else list(group)


def _at(line: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _position(positions: Mapping[str, int], partition: str) -> int:
    """The old offset, under the partition's name or its number; 0 where the group had none."""
    return int(positions.get(partition, positions.get(partition.rpartition("-")[2], 0)))
