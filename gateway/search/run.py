"""A run: the keys of a range of records, as columns. Pure.

The columns are not sorted: a search runs ``bytes.find`` over the column of hashes, 256 KiB for some 20,000 events.
Hashes are CRC-32 and may collide; the caller compares the events.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Sequence, Set
from typing import Final, NamedTuple

import orjson

from gateway.log import Record

#: Hashes in a run, of some 20,000 events. Ten times more uses more memory, and more records are indexed again after a
#: crash; with ten times less a search reads ten times as many rows.
FULL: Final = 65_536
#: The columns: two with an item for each hash, names of kinds as JSON, two with an item for each record.
HASHES, PLACES, NAMES, KINDS, RECORDS = range(5)

#: Returns a column of a run. Places are offsets relative to the run's first.
Read = Callable[[int], bytes]


class EventKind(NamedTuple):
    """Attributes that thousands of events have in common. In a query, an empty attribute matches any value."""

    topic: str = ""
    type: str = ""
    callback: str = ""


class Keys(NamedTuple):
    """The keys of some records.

    Args:
        places: of the records, ascending: offsets relative to the first one of the run.
        hashes: of texts, see :func:`hashed`.
        of: for each hash, the place of its record.
        kinds: for each record; empty in a stream without queries for kinds.
    """

    places: Sequence[int]
    hashes: Sequence[int]
    of: Sequence[int]
    kinds: Sequence[EventKind] = ()


#: Computes keys of records; the second argument is the first offset of the run.
KeysOf = Callable[[Sequence[Record], int], Keys]


class Run:
    """The newest records of a stream, in memory.

    Attributes:
        first: offset of the first record in it.
        position: offset behind its last record.
    """

    def __init__(self, first: int) -> None:
        self.first = self.position = first
        self._columns = {column: array("I") for column in (HASHES, PLACES, KINDS, RECORDS)}
        self._names: dict[EventKind, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether the run has to be stored."""
        return len(self._columns[HASHES]) >= FULL

    def add(self, keys: Keys) -> None:
        """Append the keys of further records."""
        columns, names = self._columns, self._names
        columns[HASHES].extend(keys.hashes)
        columns[PLACES].extend(keys.of)
        columns[KINDS].extend([names.setdefault(kind, len(names)) for kind in keys.kinds])
        columns[RECORDS].extend(keys.places)

    def read(self, column: int) -> bytes:
        """Return a column in its stored form."""
        return orjson.dumps(list(map(list, self._names))) if column == NAMES else self._columns[column].tobytes()


def hashed(text: str) -> int:
    """Return the hash of a text."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def with_hash(read: Read, wanted: int) -> list[int]:
    """Return the places of a run's records with a hash, unordered; a place may occur twice.

    Args:
        read: reads the run's columns.
        wanted: see :func:`hashed`.
    """
    column, value = read(HASHES), array("I", [wanted]).tobytes()
    found: list[int] = []
    at = column.find(value)
    while at >= 0:
        if at % len(value) == 0:
            found.append(at // len(value))
        at = column.find(value, at + 1)
    places = array("I", read(PLACES)) if found else ()
    return [places[line] for line in found]


def with_hashes(read: Read, wanted: Set[int]) -> set[int]:
    """Return the places of a run's records with any of many hashes: one pass over the column, however many there are.

    Args:
        read: reads the run's columns.
        wanted: see :func:`hashed`.
    """
    hashes = array("I", read(HASHES))
    if wanted.isdisjoint(hashes):
        return set()
    return {place for one, place in zip(hashes, array("I", read(PLACES)), strict=True) if one in wanted}


def of_kind(read: Read, wanted: EventKind) -> list[int]:
    """Return the places of a run's records of a kind.

    Args:
        read: reads the run's columns.
        wanted: empty attributes match any value.
    """
    names = enumerate(orjson.loads(read(NAMES)))
    numbers = {number for number, has in names if all(one in ("", had) for one, had in zip(wanted, has, strict=True))}
    if not numbers:
        return []
    lines = zip(array("I", read(KINDS)), array("I", read(RECORDS)), strict=True)
    return [place for number, place in lines if number in numbers]
