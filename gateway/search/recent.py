"""The newest keys of one stream, in memory until they make a run (the memtable of a log-structured merge tree).

A key is the CRC-32 of its text. Six bits of it name one of 64 buckets, so that a look-up reads a sixty-fourth of each
run; the other 26 and the 18 bits of the offset within its generation are one integer, an entry.

Source: O'Neil, Cheng, Gawlick, O'Neil, "The log-structured merge-tree" (1996).
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

#: Offsets of one generation; fixed by the bits that an entry has for them.
GENERATION: Final = 1 << 18
_PLACE: Final = GENERATION - 1
_BUCKET_BITS: Final = 6
_REST_BITS: Final = 32 - _BUCKET_BITS
_REST: Final = (1 << _REST_BITS) - 1

#: Keys of one record: its offset, and the texts.
Keyed = tuple[int, Iterable[str]]


class Recent:
    """Entries by generation and bucket.

    Attributes:
        start: offset of the first record in it.
        position: everything below it and from ``start`` on is in it.
        count: entries.
    """

    __slots__ = ("_slots", "count", "position", "start")

    def __init__(self, start: int) -> None:
        self.start = self.position = start
        self.count = 0
        self._slots: defaultdict[int, list[int]] = defaultdict(list)

    def add(self, keyed: Iterable[Keyed]) -> None:
        """Take in the keys of some records."""
        crc32, slots, count = zlib.crc32, self._slots, 0  # bound here: this is most of the work
        for offset, keys in keyed:
            generation, place = divmod(offset, GENERATION)
            generation <<= _BUCKET_BITS
            for key in keys:
                hashed = crc32(key.encode("utf-8", "surrogatepass"))
                slots[generation | hashed >> _REST_BITS].append((hashed & _REST) << 18 | place)
                count += 1
        self.count += count

    def generations(self) -> set[int]:
        """The generations that it has entries of."""
        return {slot >> _BUCKET_BITS for slot in self._slots}

    def places(self, generation: int, key: str) -> list[int]:
        """Where in a generation a key (all but certainly) is; in no order, and the same one perhaps twice."""
        bucket, rest = bucket_and_rest(key)
        entries = self._slots.get(generation << _BUCKET_BITS | bucket, ())
        return [entry & _PLACE for entry in entries if entry >> 18 == rest]

    def runs(self) -> Iterator[tuple[int, int, bytes]]:
        """Generation, bucket, and the sorted entries as 64-bit integers."""
        for slot, entries in self._slots.items():
            yield slot >> _BUCKET_BITS, slot & ((1 << _BUCKET_BITS) - 1), array("Q", sorted(entries)).tobytes()


def bucket_and_rest(key: str) -> tuple[int, int]:
    """The bucket of a key, and what an entry has of it."""
    hashed = zlib.crc32(key.encode("utf-8", "surrogatepass"))
    return hashed >> _REST_BITS, hashed & _REST


def places_in(run: bytes, rest: int) -> list[int]:
    """Where a run has a key, by the second part of :func:`bucket_and_rest`; rising."""
    entries = array("Q", run)
    first = bisect_left(entries, rest << 18)
    return [entry & _PLACE for entry in entries[first : bisect_left(entries, (rest + 1) << 18, first)]]
