"""The newest records of a stream in memory, shared by all its readers.

Readers that keep up do not use the disk; a reader that fell behind reads from the file until it is back in the range
of the cache. A commit is decoded when the first reader needs it.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from gateway.log import Record
from gateway.log.journal import batch_format
from gateway.log.journal.following import Commit

#: Some thousand events. Ten times less and a subscriber that pauses for a tenth of a second reads from disk; ten times
#: more is memory without use: reading from the file costs two microseconds an event, from the page cache.
MAX_BYTES: Final = 4 * 1024 * 1024
#: Memory of a decoded record in addition to its bytes: the tuple, its texts, the time.
_RECORD_BYTES: Final = 500


class _Held:
    """One commit, decoded once."""

    __slots__ = ("_commit", "_records", "size")

    def __init__(self, commit: Commit) -> None:
        self._commit: Commit | None = commit
        self._records: list[Record] = []
        self.size = len(commit.records) + commit.length * _RECORD_BYTES

    def records(self) -> list[Record]:
        if self._commit is not None:
            stream, base, count, appended_at, records = self._commit
            self._records = batch_format.decode(
                records, partition=stream, base=base, count=count, appended_at=appended_at
            )
            self._commit = None
        return self._records


class StreamCache:
    """Records of one stream from ``first`` up to the head, oldest dropped past ``max_bytes``.

    Args:
        first: offset that the next record gets.
        max_bytes: bound on the records together.
    """

    def __init__(self, first: int, max_bytes: int = MAX_BYTES) -> None:
        self.first = first
        self.head = first
        self._bases: list[int] = []
        self._held: list[_Held] = []
        self._bytes = 0
        self._max_bytes = max_bytes

    def extend(self, commit: Commit) -> None:
        """Add the records of one commit. A gap before it empties the cache: its offsets are contiguous."""
        if commit.base != self.head:
            self.skip(commit.base)
        held = _Held(commit)
        self._bases.append(commit.base)
        self._held.append(held)
        self.head = commit.base + commit.length
        self._bytes += held.size
        while self._bytes > self._max_bytes:
            self._drop_oldest_half()

    def skip(self, head: int) -> None:
        """Drop all records: the next record has offset ``head``, which does not follow them."""
        self._bases.clear()
        self._held.clear()
        self._bytes = 0
        self.first = self.head = head

    def slice(self, position: int, limit: int) -> list[Record]:
        """Return records from an offset on.

        Args:
            position: the first offset, which must be in the cache.
            limit: at most so many records.
        """
        if position >= self.head:
            return []
        number = bisect_right(self._bases, position) - 1
        start = position - self._bases[number]
        found = self._held[number].records()[start : start + limit]
        while len(found) < limit and (number := number + 1) < len(self._held):
            found += self._held[number].records()[: limit - len(found)]
        return found

    def _drop_oldest_half(self) -> None:
        """Drop half of the commits at once, so that the lists are rarely copied."""
        count = max(1, len(self._held) // 2)
        self._bytes -= sum(held.size for held in self._held[:count])
        del self._held[:count], self._bases[:count]
        self.first = self._bases[0] if self._bases else self.head
