"""The rows of one stream, read without trust in the disk. Used by :mod:`.storage` only, in its thread.

A row is sound if its checksum is right; then all of its columns are trusted. No column of another row is trusted:
SQLite does not verify its bytes, so the flipped bit may be in any column. Its neighbours determine its extent:

* *where it ends*: where the next row begins, or at the head of the stream. Offsets have no gaps, so a gap between two
  rows means a row that is gone, or one whose key is damaged;
* *where it is*: a damaged row inside a sound one, or behind the one that follows it in the file, has a wrong key.
  The sound rows are read, the other one is skipped; its true place appears as a gap;
* *when it was stored*: not later than the rows behind it.

The time of a sound row may be wrong too: it is as right as the clock was. The times of a stream increase, except after
a clock that was far ahead and was corrected (:mod:`.storage`). So a time later than that of the newest row is from
before such a correction, and the next row with a trusted time shows until when it was stored. Once the clock has passed
such times, they are trusted again: a search for a time may then begin too early, by as much as the clock was ahead, and
never too late.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from gateway.errors import JournalDamaged
from gateway.log import Record
from gateway.log.journal import batch_format
from gateway.log.journal.batch_format import MASK, SHIFT
from gateway.log.journal.sqlite_errors import is_damage


@dataclass(slots=True)
class Stream:
    """One sequence.

    Args:
        id: its number.
        name: its name.
        floor: the first kept offset.
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
        """The first key that a row of the stream can have."""
        return self.id << SHIFT

    @property
    def high(self) -> int:
        """The key behind the last possible one."""
        return (self.id + 1) << SHIFT


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment without its records.

    Args:
        base: offset of the first record.
        count: number of offsets.
        appended_at: Unix seconds; the value of a damaged row may be any number.
        topics: number of records by topic; empty if the column is not trusted.
    """

    base: int
    count: int
    appended_at: float
    topics: Mapping[str, int]

    @property
    def end(self) -> int:
        """Offset behind the last record."""
        return self.base + self.count


class Segment(NamedTuple):
    """The records of one commit, or a range that cannot be read.

    Args:
        base: offset of the first record.
        end: offset behind the last record.
        records: None if they cannot be read.
    """

    base: int
    end: int
    records: list[Record] | None


_Row = tuple[Any, ...]

_HEADS = "SELECT id, count, appended_at, topics FROM segment"
_WHOLE = "SELECT id, count, appended_at, topics, crc, records FROM segment"


class Rows:
    """The rows of one stream; errors of SQLite are raised unchanged."""

    def __init__(self, db: sqlite3.Connection, stream: Stream) -> None:
        self._db = db
        self._stream = stream

    def read(self, position: int, max_bytes: int, head: int) -> list[Segment]:
        """See :meth:`.storage.Store.read`. What is missing between two sound rows is a segment without records."""
        found: list[Segment] = []
        reached, size = position, 0
        doubtful: int | None = None  # a row behind the last sound one is not sound: its offset
        for row, records in self._decoded_from(position):
            base = row[0] & MASK
            size += len(row[5]) if isinstance(row[5], bytes) else 1
            if records is None:
                doubtful = base
                continue
            if base + len(records) > reached:
                doubtful = None
                if (hole := self._hole(reached, base)) < base:
                    found.append(Segment(hole, base, None))
                reached = base + len(records)
                found.append(Segment(base, reached, records))
            if size >= max_bytes and found:
                return found
        if doubtful is not None and (end := max(head, doubtful + 1)) > reached:
            found.append(Segment(self._hole(reached, end), end, None))
        return found

    def _hole(self, reached: int, base: int) -> int:
        """Return where the hole before a row begins; its own offset if there is none. Trimmed offsets are no hole."""
        return base if base <= reached else min(base, max(reached, self._floor_in_file()))

    def infos(self, position: int, below: int) -> Iterator[SegmentInfo]:
        """See :meth:`.storage.Store.infos`.

        Bytes of records are not read unless count and neighbours disagree. A time that is not trusted is replaced by
        that of the next row behind it, or by infinity.
        """
        keys = (self._from(position), self._stream.high)
        rows = self._db.execute(f"{_HEADS} WHERE id >= ? AND id < ? ORDER BY id", keys)
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
        """See :meth:`.storage.Store.offset_at`. A binary search."""
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
        """Return the offset behind the last row, and the time of the newest; None if there is no row.

        The length of a damaged last row is what two of its three counts agree on. The row before it is read too: the
        last one may have a wrong key and be inside it.
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
        """Return the key of the last row; None if there is none."""
        return next(iter(self._keys_before(MASK)), None)

    # -- where and when -----------------------------------------------------------------------------------------

    def _from(self, position: int) -> int:
        """Return the key to read from so that the row with a position is included."""
        keys = self._keys_before(position)
        if not keys:
            return self._stream.low | position
        return keys[1 if len(keys) > 1 and self._sound(keys[0]) is None else 0]

    def _decoded_from(self, position: int) -> Iterator[tuple[_Row, list[Record] | None]]:
        """Yield whole rows of the range of :meth:`_from`, each with its records or None; decode no sound row twice."""
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
        """Return the keys of the last two rows at or before an offset, the nearer one first."""
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
        """Return where a row ends: where the next one begins, unless the row is sound and has another end."""
        base = row[0] & MASK
        if row[1] == following - base:
            return following
        sound = self._sound(row[0])
        return int(base + sound[1]) if sound is not None else max(following, int(base) + 1)

    def _timed(self, offset: int, below: int) -> SegmentInfo | None:
        """Return the first segment with a trusted time, from the one with ``offset`` on, that begins before ``below``.

        Doubling steps, then bisection: the times that are not trusted are next to each other.
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
        """Return the sound segment at or before an offset, if its time is trusted."""
        row = self._at_or_before(offset)
        if row is None or decoded(row, self._stream.name) is None or row[2] > self._stream.newest_at:
            return None
        return SegmentInfo(row[0] & MASK, row[1], row[2], {})

    def _sound(self, key: int) -> _Row | None:
        row = self._whole(key)
        return row if row is not None and decoded(row, self._stream.name) is not None else None

    def _whole(self, key: int) -> _Row | None:
        """Return a row with its records; None if its pages cannot be read."""
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
    """Yield each row with the next one. A row that is out of order has a wrong key and is skipped."""
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
    """Return the records of a whole row; None if it is not as it was written.

    Args:
        row: with all columns.
        name: name of the stream.
    """
    row_id, count, appended_at, topics, crc, blob = row
    try:
        if batch_format.checksum(blob, row_id, count, appended_at, topics) != crc:
            return None
        return batch_format.decode(blob, partition=name, base=row_id & MASK, count=count, appended_at=appended_at)
    except (JournalDamaged, TypeError):
        return None


def topics_of(text: object, count: int | None = None) -> Mapping[str, int]:
    """Return the number of records by topic; empty if the column is invalid.

    Args:
        text: value of the column.
        count: sum that the numbers must have; None for any.
    """
    try:
        topics = {str(topic): int(number) for topic, number in orjson.loads(text).items()}  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError, OverflowError):
        return {}
    is_right = all(number > 0 for number in topics.values()) and count in (None, sum(topics.values()))
    return topics if is_right else {}


def time_of(value: object) -> float:
    """Return the time in a column, Unix seconds; infinity if it is invalid."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.inf


def tolerant(text: bytes) -> str:
    """Decode a text for ``Connection.text_factory``; the checksum finds one that is not UTF-8."""
    return text.decode(errors="replace")
