"""What retention takes before a reader is done with it: reported when it goes, also while the reader does not read.

An operator must hear of events that expire while a subscriber is down. So whenever retention passes the position of a
reader that is known in this process, what is in between is reported, and the position moves behind it: what was
reported is nothing that anybody has to remember. What the reader has in memory of it may still be delivered: the report
is an upper bound, by a window at the most. After a crash it would not come again.

A reader that is not known here may be of a subscriber that is no more. Nothing is said of it until it comes back: then
there is a gap between its position and the first record kept, and who reads reports it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from gateway.log import Gap, gaps
from gateway.log.journal.positions import PositionKeeper
from gateway.log.journal.rows import SegmentInfo

#: The topic of records that went unseen, or whose row is damaged.
_UNKNOWN: Final = "unknown"

#: Topics that are wanted; None: all.
_Topics = frozenset[str] | None


class Expiry:
    """Knows whose positions retention may not pass in silence."""

    def __init__(self, keeper: PositionKeeper) -> None:
        self._keeper = keeper
        self._watched: dict[str, dict[str, _Topics]] = {}

    def watch(self, group: str, stream: str, topics: _Topics) -> None:
        """Report what a reader misses of a stream from now on."""
        self._watched.setdefault(stream, {})[group] = topics

    def forget(self, group: str, stream: str) -> None:
        """Report nothing more of a reader."""
        self._watched.get(stream, {}).pop(group, None)

    def passed(self, stream: str, below: int, segments: Collection[SegmentInfo] | None = None) -> None:
        """Retention took what was in front of ``below``: report it to those who are not done with it.

        Args:
            segments: heads of what went now; None when that is not known.
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
    """Count by topic behind a position. Of the one segment that it stands in, the whole is counted: an upper bound."""
    by_topic: Counter[str] = Counter()
    seen = min((info.base for info in segments), default=position)
    if seen > position:
        by_topic[_UNKNOWN] = seen - position
    for info in segments:
        if info.end > position:
            by_topic.update(info.topics or {_UNKNOWN: info.count})
    return {topic: count for topic, count in by_topic.items() if topics is None or topic in topics or topic == _UNKNOWN}
