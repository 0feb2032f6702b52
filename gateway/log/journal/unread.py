"""What retention took before a reader had read it: counted, and told once.

A reader that is open is told of at once. One that is not may be of a subscriber that is no more, so that nothing is
told until somebody asks for a reader of its name: then it is told what is gone between its kept position and the floor,
and the position moves to the floor with it. A crash in the quarter of a second before that is durable tells it again.

A reader that has records in flight keeps its position in front of them, also when what is behind them expired and
was told. What was told so is kept beside the positions, as two more of them for each stretch, and is not told again
after a restart; what was in flight is told then, as it cannot come again.

How many there were of which topic is counted when they go, also for those who are not there. What went while an earlier
process ran is counted by its offsets alone, whatever its topic: an upper bound, under ``unknown``.

All of it runs on the event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.log.journal import losses
from gateway.log.journal.losses import Expired
from gateway.log.journal.reader import JournalReader
from gateway.log.journal.retention import Trimmed
from gateway.log.journal.rows import SegmentInfo
from gateway.log.journal.streams import is_looking

#: The topic of records that went unseen, or whose row is damaged.
_UNKNOWN: Final = "unknown"

#: Names of the positions between which it was told while something was in flight, a pair for each stretch. Between two
#: of them there is something in flight, so that many wait for one slow event. When all pairs are taken the newest one
#: goes: what it says is told twice after a restart. Ten times more would be ten times more rows that are never deleted.
_TOLD: Final = (
    ("told.from.", "told.below."),
    *((f"told.{number}.from.", f"told.{number}.below.") for number in range(1, 8)),
)
_TOLD_NAMES: Final = tuple(name for pair in _TOLD for name in pair)


@dataclass(slots=True)
class _Missed:
    """What went in front of a kept position that nobody reads from.

    Args:
        first: offset from which on it was counted.
        by_topic: counts.
    """

    first: int
    by_topic: Counter[str]


class Unread:
    """Counts by reader's name and stream.

    Args:
        cursors: all kept positions by (group, stream).
        note: keeps one.
        on_expired: told what was lost, beside log and metric.
    """

    def __init__(
        self,
        cursors: Callable[[], Mapping[tuple[str, str], int]],
        note: Callable[[str, str, int], None],
        on_expired: Callable[[Expired], None] | None = None,
    ) -> None:
        self._cursors = cursors
        self._note = note
        self._on_expired = on_expired
        self._missed: dict[tuple[str, str], _Missed] = {}

    def trimmed(self, gone: Trimmed, readers: Collection[JournalReader]) -> None:
        """Retention took something: tell for those who read the stream, remember for those who may come back."""
        present = {reader.group for reader in readers if reader.stream == gone.stream}
        for (group, stream), position in self._cursors().items():
            is_kept = group not in present and not group.startswith(_TOLD_NAMES) and not is_looking(group)
            if stream == gone.stream and position < gone.below and is_kept:
                missed = self._missed.setdefault((group, stream), _Missed(max(position, gone.first), Counter()))
                missed.by_topic += _by_topic(gone.segments, position)
        for reader in readers:
            if reader.stream == gone.stream and reader.position < gone.below:
                self._settle(reader, gone.below, _by_topic(gone.segments, reader.position_of_group))

    def overtaken(self, reader: JournalReader, floor: int) -> None:
        """A reader finds its position below the floor: tell what is in between, and go on at the floor."""
        group, stream, position = reader.group, reader.stream, reader.position_of_group
        missed = self._missed.pop((group, stream), None)
        by_topic = Counter[str]() if missed is None else missed.by_topic
        counted_from = floor if missed is None else min(missed.first, floor)
        unseen = counted_from - position - self._told_between(group, stream, position, counted_from)
        if unseen > 0:
            by_topic[_UNKNOWN] += unseen
        self._settle(reader, floor, by_topic)

    def forget(self, group: str, stream: str) -> None:
        """A reader was sent elsewhere by its owner: what lies before that is not lost to it."""
        self._missed.pop((group, stream), None)

    def _settle(self, reader: JournalReader, below: int, by_topic: Mapping[str, int]) -> None:
        position = reader.position_of_group
        wanted = {
            topic: count
            for topic, count in by_topic.items()
            if reader.topics is None or topic in reader.topics or topic == _UNKNOWN
        }
        item = Expired(reader.group, reader.stream, position, below - 1, wanted)
        if item.count:
            losses.expired(item)
            if self._on_expired is not None:
                self._on_expired(item)
        if not reader.step_over(below):
            self._note_told(reader.group, reader.stream, position, below)

    def _note_told(self, group: str, stream: str, first: int, below: int) -> None:
        told = self._told(group, stream)
        passed = self._cursors().get((group, stream), 0)
        longer = [pair for pair, (_, end) in told.items() if end == first]
        free = [pair for pair, (_, end) in told.items() if end <= passed]
        if longer:
            begins, ends = longer[0]
        else:
            begins, ends = free[0] if free else max(told, key=told.__getitem__)
            self._note(begins + group, stream, first)
        self._note(ends + group, stream, below)

    def _told_between(self, group: str, stream: str, position: int, below: int) -> int:
        """How many offsets were told before, while the position stayed."""
        stretches = self._told(group, stream).values()
        return sum(max(0, min(end, below) - max(first, position)) for first, end in stretches)

    def _told(self, group: str, stream: str) -> dict[tuple[str, str], tuple[int, int]]:
        """The stretches by the names of their positions; empty ones are at 0."""
        kept = self._cursors()
        return {
            (begins, ends): (kept.get((begins + group, stream), 0), kept.get((ends + group, stream), 0))
            for begins, ends in _TOLD
        }


def _by_topic(segments: Collection[SegmentInfo], position: int) -> Counter[str]:
    """Counts behind a position. Of the one segment that it stands in, the whole is counted: an upper bound."""
    by_topic: Counter[str] = Counter()
    for info in segments:
        if info.end > position:
            by_topic.update(info.topics or {_UNKNOWN: info.count})
    return by_topic
