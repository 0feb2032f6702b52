"""Expiry: reports records that retention removes before a reader has passed them, when they are removed.

An operator must learn of events that expire while a subscriber is down. So when retention passes the position of a
reader that this process knows, the records in between are reported, and the position moves behind them; so no component
has to remember what was reported. The reader may still deliver those that it has in memory: the report is an upper
bound, by one window at most. After a crash they are not delivered.

A reader that this process does not know may belong to a removed subscriber. Nothing is reported for it until it reads
again: then there is a gap between its position and the first record kept, which the reading reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from gateway.log import Gap, gaps
from gateway.log.journal.positions import PositionKeeper
from gateway.log.journal.rows import SegmentInfo

#: The topic in reports of records that were removed unseen, or whose row is damaged.
_UNKNOWN: Final = "unknown"

#: Topics that a reader wants; None for all.
_Topics = frozenset[str] | None


class Expiry:
    """Knows the readers whose expired records are reported."""

    def __init__(self, keeper: PositionKeeper) -> None:
        self._keeper = keeper
        self._watched: dict[str, dict[str, _Topics]] = {}

    def watch(self, group: str, stream: str, topics: _Topics) -> None:
        """Report expired records of a reader after this call.

        Args:
            group: name of the reader.
            stream: its name.
            topics: topics that it wants; None for all.
        """
        self._watched.setdefault(stream, {})[group] = topics

    def forget(self, group: str, stream: str) -> None:
        """Stop reports for a reader in a stream."""
        self._watched.get(stream, {}).pop(group, None)

    def passed(self, stream: str, below: int, segments: Collection[SegmentInfo] | None = None) -> None:
        """Report records that retention removed, for each reader that had not passed them.

        Args:
            stream: its name.
            below: the first offset that is left.
            segments: heads of the removed segments; None if they are not known.
        """
        losers: dict[tuple[int, _Topics], list[str]] = {}
        for group, topics in self._watched.get(stream, {}).items():
            position = self._keeper.positions.get((group, stream))
            if position is not None and position < below:
                losers.setdefault((position, topics), []).append(group)
        for (position, topics), groups in losers.items():
            by_topic = None if segments is None else _wanted(segments, position, topics)
            if by_topic is None or by_topic:
                gaps.report("journal", groups, Gap(stream, position, below - 1, "expired"), topics=by_topic)
            for group in groups:
                self._keeper.note(group, stream, below)


def _wanted(segments: Collection[SegmentInfo], position: int, topics: _Topics) -> Mapping[str, int]:
    """Count records by topic from a position on. The segment with the position counts whole: an upper bound."""
    by_topic: Counter[str] = Counter()
    seen = min((info.base for info in segments), default=position)
    if seen > position:
        by_topic[_UNKNOWN] = seen - position
    for info in segments:
        if info.end > position:
            by_topic.update(info.topics or {_UNKNOWN: info.count})
    return {topic: count for topic, count in by_topic.items() if topics is None or topic in topics or topic == _UNKNOWN}
