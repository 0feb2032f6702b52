"""How many records of each topic are in the journal and not in Kafka.

A position says how far a topic is, not how many of its records are behind that: the journal holds all topics in one
order. So the heads of its commits, each of which has counts by topic, are read once, and what a position has passed is
subtracted again. If a position is within a commit, the whole commit counts: the result is never too small, and 0 is
exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

#: Of one topic. When there are more, pairs of them become one: a large backlog is known to a hundredth.
_MOST_PARTS: Final = 256


@dataclass(slots=True)
class TopicLag:
    """Of one topic: numbers of records, by the offset behind them."""

    records: int = 0
    _parts: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, end: int, count: int) -> None:
        """Count records that end before an offset, beyond all that was added before."""
        self._parts.append((end, count))
        self.records += count
        if len(self._parts) > _MOST_PARTS:
            parts = iter(list(self._parts))
            self._parts = deque((later[0], earlier[1] + later[1]) for earlier, later in _pairs(parts))

    def passed(self, offset: int) -> None:
        """Subtract the parts that are completely below an offset."""
        while self._parts and self._parts[0][0] <= offset:
            self.records -= self._parts.popleft()[1]


def _pairs(parts: Iterable[tuple[int, int]]) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield items two by two; the last one alone if their number is odd."""
    rest = iter(parts)
    for earlier in rest:
        later = next(rest, None)
        yield (earlier, later) if later is not None else ((earlier[0], 0), earlier)


class PublishLag:
    """Of all topics.

    Args:
        positions: what is passed of each topic; those that are not in it begin at ``seen``.
    """

    def __init__(self, positions: Mapping[str, int], seen: int) -> None:
        #: The offset from which on nothing is counted yet.
        self.seen = seen
        self._positions = dict(positions)
        self._topics: dict[str, TopicLag] = {}

    def add(self, end: int, topics: Mapping[str, int]) -> None:
        """Count one commit of the journal, beyond all that was added before.

        Args:
            end: the offset behind it.
            topics: its records by topic.
        """
        self.seen = max(self.seen, end)
        for topic, count in topics.items():
            if end > self._positions.get(topic, 0):
                self._topics.setdefault(topic, TopicLag()).add(end, count)

    def passed(self, topic: str, offset: int) -> None:
        """Subtract what a topic's position has passed."""
        self._positions[topic] = offset
        if (backlog := self._topics.get(topic)) is not None:
            backlog.passed(offset)

    def waiting(self) -> set[str]:
        """Return the topics that have records left."""
        return {topic for topic, backlog in self._topics.items() if backlog.records}

    def of(self, topic: str) -> int:
        """Return how many records of a topic are left, as far as they are counted."""
        return self._topics[topic].records if topic in self._topics else 0
