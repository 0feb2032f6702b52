"""A run: what the records of a stretch can be found by, as columns. Pure.

Nothing is sorted: a look-up lets ``bytes.find`` go over the column of hashes, 256 KiB for some 20,000 events. Hashes
are CRC-32 and collide now and then; whoever asks compares the event itself.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import orjson

from gateway.log import Record

#: Hashes of a run, some 20,000 events. Ten times more is memory, and a longer stretch to make again after a crash; ten
#: times less and a look-up reads ten times as many rows.
FULL: Final = 65_536
#: The columns: two with a line for each hash, names of kinds as JSON, two with a line for each record.
HASHES, PLACES, NAMES, KINDS, RECORDS = range(5)

#: Gives a column of a run; places are offsets less the run's first.
Read = Callable[[int], bytes]


class Kind(NamedTuple):
    """What thousands of events share. As a question, what is empty may be anything."""

    topic: str = ""
    type: str = ""
    callback: str = ""


class Keys(NamedTuple):
    """What some records can be found by.

    Args:
        places: of the records, rising: offsets less the first one of the run.
        hashes: of texts, see :func:`hashed`.
        of: by hash, the place of the record that has the text.
        kinds: by record; empty in a stream that nobody asks for kinds.
    """

    places: Sequence[int]
    hashes: Sequence[int]
    of: Sequence[int]
    kinds: Sequence[Kind] = ()


#: Makes keys of records; the second argument is the first offset of the run.
KeysOf = Callable[[Sequence[Record], int], Keys]


class Run:
    """The newest records of a stream, in memory.

    Attributes:
        first: offset of the first record in it.
        position: everything from ``first`` up to here is in it.
    """

    def __init__(self, first: int) -> None:
        self.first = self.position = first
        self._columns = {column: array("I") for column in (HASHES, PLACES, KINDS, RECORDS)}
        self._names: dict[Kind, int] = {}

    @property
    def is_full(self) -> bool:
        """It is time to store it."""
        return len(self._columns[HASHES]) >= FULL

    def add(self, keys: Keys) -> None:
        """Take in records behind those that are there."""
        columns, names = self._columns, self._names
        columns[HASHES].extend(keys.hashes)
        columns[PLACES].extend(keys.of)
        columns[KINDS].extend([names.setdefault(kind, len(names)) for kind in keys.kinds])
        columns[RECORDS].extend(keys.places)

    def read(self, column: int) -> bytes:
        """A column as it is stored."""
        return orjson.dumps(list(map(list, self._names))) if column == NAMES else self._columns[column].tobytes()


def hashed(text: str) -> int:
    """The hash of a text."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def with_hash(read: Read, wanted: int) -> list[int]:
    """Places of a run's records that have this hash; in no order, and the same one perhaps twice."""
    column, value = read(HASHES), array("I", [wanted]).tobytes()
    found: list[int] = []
    at = column.find(value)
    while at >= 0:
        if at % len(value) == 0:
            found.append(at // len(value))
        at = column.find(value, at + 1)
    places = array("I", read(PLACES)) if found else ()
    return [places[line] for line in found]


def of_kind(read: Read, wanted: Kind) -> list[int]:
    """Places of a run's records that are of a kind."""
    names = enumerate(orjson.loads(read(NAMES)))
    numbers = {number for number, has in names if all(one in ("", had) for one, had in zip(wanted, has, strict=True))}
    if not numbers:
        return []
    lines = zip(array("I", read(KINDS)), array("I", read(RECORDS)), strict=True)
    return [place for number, place in lines if number in numbers]
