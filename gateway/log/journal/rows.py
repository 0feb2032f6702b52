"""The rows of one stream, read with the doubt that a disk deserves. Used by :mod:`.store` only, in its thread.

A row is sound when its checksum is right; then all of it is believed. Of a row that is not, nothing is: SQLite checks
none of its bytes, so the flipped bit may be in any column. What is told of it is told by its neighbours:

* *where it ends*: where the next row begins, or at the head of the stream. Offsets have no gaps, so two rows with a gap
  between them mean a row that is gone, or one whose key is damaged;
* *where it is*: a damaged row inside of a sound one, or behind the one that follows it in the file, has a wrong key.
  The sound ones are read, the other is passed over; its own place shows as a gap;
* *when it was*: not later than the rows behind it.

A time is doubted in sound rows, too: it is as good as the clock was. The times of a stream run forward but for one
thing, a clock that was far ahead and was set right (:meth:`.store.Store.commit`). So a time later than that of the
newest row is from before such a setback, and the next believable row behind it says until when it was stored. Once the
clock has caught up with such times they are believed again: a search for a time may then begin too early, by as much as
the clock was ahead, and never too late.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.errors import JournalDamaged
from gateway.log import Record
from gateway.log.journal import batch_format
from gateway.log.journal.sqlite_errors import is_damage
from gateway.log.journal.streams import MASK, SHIFT


@dataclass(slots=True)
class Stream:
    """One sequence.

    Args:
        id: its number.
        name: its name.
        floor: the first offset still kept.
        head: the offset that the next record gets.
        newest_at: time of the newest row, Unix seconds.
    """

    id: int
    name: str
    floor: int
    head: int
    newest_at: float = 0.0

    @property
    def low(self) -> int:
        """The first key that a row of it can have."""
        return self.id << SHIFT

    @property
    def high(self) -> int:
        """The key behind the last one."""
        return (self.id + 1) << SHIFT


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment without its records.

    Args:
        base: offset of the first record.
        count: how many offsets it takes.
        appended_at: Unix seconds; of a damaged one what stands there, which may be anything.
        topics: records by topic; empty where that cannot be believed.
    """

    base: int
    count: int
    appended_at: float
    topics: Mapping[str, int]

    @property
    def end(self) -> int:
        """Offset behind the last record."""
        return self.base + self.count


#: What a read gives: records, or the extent of what cannot be read.
Segment = SegmentInfo | tuple[SegmentInfo, list[Record]]
_Row = tuple[Any, ...]


@dataclass(slots=True)
class _Reading:
    """How far a read has come.

    Args:
        reached: everything below is dealt with.
        sound_end: where the newest sound row ends.
        doubtful: a damaged row whose end is not known yet.
        found: what is handed out.
    """

    reached: int
    sound_end: int = 0
    doubtful: _Row | None = None
    found: list[Segment] = field(default_factory=list)


_HEADS = "SELECT id, count, appended_at, topics FROM segment"
_WHOLE = "SELECT id, count, appended_at, topics, crc, records FROM segment"


class Rows:
    """One stream of the file; errors of SQLite come out as they are."""

    def __init__(self, db: sqlite3.Connection, stream: Stream) -> None:
        self._db = db
        self._stream = stream

    def read(self, position: int, max_bytes: int, head: int) -> list[Segment]:
        """Segments from the one that holds ``position``; see :meth:`.store.Store.read`."""
        reading = _Reading(position)
        size = 0
        for row, records in self._decoded_from(position):
            base = row[0] & MASK
            if reading.doubtful is not None:
                self._name(reading, base)
                if size >= max_bytes:
                    return reading.found
            if records is None:
                reading.doubtful = row
            else:
                self._take(reading, row, records)
            size += len(row[5]) if isinstance(row[5], bytes) else 1
            if size >= max_bytes and reading.found and records is not None:
                return reading.found
        if reading.doubtful is not None:
            self._name(reading, max(head, (reading.doubtful[0] & MASK) + 1))
        return reading.found

    def _take(self, reading: _Reading, row: _Row, records: list[Record]) -> None:
        """A sound row; before it there may be a hole."""
        base = row[0] & MASK
        reading.sound_end = end = base + len(records)
        if end <= reading.reached:
            return
        hole = self._hole(reading.reached, base)
        if hole < base:
            reading.found.append(SegmentInfo(hole, base - hole, time_of(row[2]), {}))
        reading.found.append((SegmentInfo(base, end - base, row[2], topics_of(row[3])), records))
        reading.reached = end

    def _name(self, reading: _Reading, end: int) -> None:
        """A damaged row, now that it is known where the next one begins; one that stands in no order is passed over."""
        row, reading.doubtful = reading.doubtful, None
        assert row is not None
        base = row[0] & MASK
        if end <= max(base, reading.reached):
            return
        first = max(base, reading.sound_end) if base <= reading.reached else self._hole(reading.reached, base)
        topics = topics_of(row[3], end - first)
        reading.found.append(SegmentInfo(first, end - first, time_of(row[2]), topics))
        reading.reached = end

    def _hole(self, reached: int, base: int) -> int:
        """Where a hole before a row begins; at the row itself when there is none. What was trimmed just now is none."""
        return base if base <= reached else min(base, max(reached, self._floor_in_file()))

    def infos(self, position: int, below: int) -> Iterator[SegmentInfo]:
        """Heads of the segments that overlap offsets ``position`` up to ``below``, oldest first.

        Their bytes are not looked at unless count and neighbours disagree. A time that cannot be believed is replaced
        by that of the next row behind it, or by infinity.
        """
        rows = self._db.execute(f"{_HEADS} WHERE id >= ? AND id < ? ORDER BY id", self._from(position))
        reached = position
        timed: SegmentInfo | None = None
        for row, following in in_order(rows):
            base = row[0] & MASK
            if base >= below:
                return
            end = self._end(row, following[0] & MASK if following is not None else self._stream.head)
            appended_at = time_of(row[2])
            if end > reached:
                reached = end
                if appended_at > self._stream.newest_at:
                    if timed is None or timed.base <= base:
                        timed = self._timed(end, self._stream.head)
                    appended_at = timed.appended_at if timed is not None else math.inf
                yield SegmentInfo(base, end - base, appended_at, topics_of(row[3], end - base))

    def offset_at(self, unix_s: float) -> int:
        """Offset of the first record appended at or after a time; the head when there is none. A binary search."""
        low, high = self._stream.floor, self._stream.head
        while low < high:
            middle = (low + high) // 2
            timed = self._timed(middle, high)
            if timed is not None and timed.appended_at < unix_s:
                low = max(timed.end, middle + 1)
            else:
                holder = self._at_or_before(middle)
                high = middle if holder is None else min(middle, max(low, holder[0] & MASK))
        return low

    def last(self) -> tuple[int, float] | None:
        """Offset behind the last row, and the time of the newest; None when there is no row.

        How long a damaged last row was is what two of its three counts say. The row before it is asked, too: the
        last one may have a wrong key and stand inside of it.
        """
        ends: list[int] = []
        doubtful: list[float] = []
        for key in self._keys_before(MASK):
            row = self._whole(key)
            if row is not None and decoded(row, self._stream.name) is not None:
                return max([*ends, (key & MASK) + row[1]]), row[2]
            row = row or (*self._db.execute(f"{_HEADS} WHERE id = ?", (key,)).fetchone(), None, None)
            ends.append((key & MASK) + batch_format.likely_count(row[1], topics_of(row[3]), row[5]))
            doubtful.append(time_of(row[2]))
        return (max(ends), min(doubtful)) if ends else None

    def last_key(self) -> int | None:
        """Of the last row; None when there is none."""
        return next(iter(self._keys_before(MASK)), None)

    # -- where and when -----------------------------------------------------------------------------------------

    def _from(self, position: int) -> tuple[int, int]:
        """Keys between which to read so that the row that holds a position is met."""
        keys = self._keys_before(position)
        if not keys:
            return self._stream.low | position, self._stream.high
        has_doubt = len(keys) > 1 and self._sound(keys[0]) is None
        return keys[1 if has_doubt else 0], self._stream.high

    def _decoded_from(self, position: int) -> Iterator[tuple[_Row, list[Record] | None]]:
        """Whole rows as :meth:`_from` has it, each with its records or None; of sound ones none is decoded twice."""
        keys = self._keys_before(position) or [self._stream.low | position]
        for row in self._whole_rows(keys[0]):
            records = decoded(row, self._stream.name)
            if records is None and row[0] == keys[0] and len(keys) > 1:
                break
            yield row, records
        else:
            return
        for row in self._whole_rows(keys[1]):
            yield row, decoded(row, self._stream.name)

    def _whole_rows(self, key: int) -> Iterator[_Row]:
        return self._db.execute(f"{_WHOLE} WHERE id >= ? AND id < ? ORDER BY id", (key, self._stream.high))

    def _keys_before(self, offset: int) -> list[int]:
        """The keys of the last two rows at or before an offset, the nearer first."""
        found = self._db.execute(
            "SELECT id FROM segment WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 2",
            (self._stream.low, self._stream.low | offset),
        )
        return [key for (key,) in found]

    def _at_or_before(self, offset: int) -> _Row | None:
        row: _Row | None = self._db.execute(
            f"{_WHOLE} WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1",
            (self._stream.low, self._stream.low | offset),
        ).fetchone()
        return row

    def _end(self, row: _Row, following: int) -> int:
        """Where a row ends: where the next one begins, unless it is sound and says something else."""
        base = row[0] & MASK
        if row[1] == following - base:
            return following
        sound = self._sound(row[0])
        return int(base + sound[1]) if sound is not None else max(following, int(base) + 1)

    def _timed(self, offset: int, below: int) -> SegmentInfo | None:
        """The first segment with a believable time: from the one that holds ``offset`` on, and begun before ``below``.

        Steps that double, then halves back to the edge: the times that cannot be believed stand side by side.
        """
        if offset >= below:
            return None
        failing, probe, found = offset - 1, offset, self._believed(offset)
        while found is None:
            if probe == below - 1:
                return None
            failing, probe = probe, min(below - 1, probe + 2 * (probe - failing))
            found = self._believed(probe)
        while probe - failing > 1:
            middle = (probe + failing) // 2
            nearer = self._believed(middle)
            if nearer is None:
                failing = middle
            else:
                probe, found = middle, nearer
        return found

    def _believed(self, offset: int) -> SegmentInfo | None:
        """The sound segment at or before an offset, if its time can be believed."""
        row = self._at_or_before(offset)
        if row is None or decoded(row, self._stream.name) is None or row[2] > self._stream.newest_at:
            return None
        return SegmentInfo(row[0] & MASK, row[1], row[2], {})

    def _sound(self, key: int) -> _Row | None:
        row = self._whole(key)
        return row if row is not None and decoded(row, self._stream.name) is not None else None

    def _whole(self, key: int) -> _Row | None:
        """A row with its records; None when its pages cannot be read."""
        try:
            row: _Row | None = self._db.execute(f"{_WHOLE} WHERE id = ?", (key,)).fetchone()
        except sqlite3.DatabaseError as exc:
            if not is_damage(exc):
                raise
            return None
        return row

    def _floor_in_file(self) -> int:
        row = self._db.execute("SELECT floor FROM stream WHERE id = ?", (self._stream.id,)).fetchone()
        return int(row[0]) if row is not None else self._stream.floor


def in_order(rows: Iterator[_Row]) -> Iterator[tuple[_Row, _Row | None]]:
    """Each row, its key in front, with the one behind it. One that stands in no order has a wrong key: passed over."""
    previous = -1
    row = next(rows, None)
    while row is not None:
        following = next(rows, None)
        while following is not None and following[0] <= row[0]:
            if following[0] > previous:
                row = following
            following = next(rows, None)
        yield row, following
        previous, row = row[0], following


def decoded(row: _Row, name: str) -> list[Record] | None:
    """The records of a whole row; None when it is not what was written."""
    row_id, count, appended_at, topics, crc, blob = row
    try:
        if batch_format.checksum(blob, row_id, count, appended_at, topics) != crc:
            return None
        return batch_format.decode(blob, partition=name, base=row_id & MASK, count=count, appended_at=appended_at)
    except (JournalDamaged, TypeError):
        return None


def topics_of(text: object, count: int | None = None) -> Mapping[str, int]:
    """Records by topic as a row says; empty when it says nonsense, or when they do not add up to ``count``."""
    try:
        topics = {str(topic): int(number) for topic, number in orjson.loads(text).items()}  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError, OverflowError):
        return {}
    is_right = all(number > 0 for number in topics.values()) and count in (None, sum(topics.values()))
    return topics if is_right else {}


def time_of(value: object) -> float:
    """A time as a row says; infinity when it says nonsense."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.inf


def tolerant(text: bytes) -> str:
    """For ``Connection.text_factory``: a text that is no UTF-8 is a wrong one, to be found by its checksum."""
    return text.decode(errors="replace")
