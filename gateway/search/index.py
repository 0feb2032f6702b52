"""The index: keys and kinds of records, as columns in a SQLite file. Used from one thread, without asyncio.

A *run* has the keys of a range of records. That of the newest records is in memory. The columns of a full run are
stored, each as one row, and never changed: an event costs about 30 bytes of disk, once. They are not sorted: a search
runs ``bytes.find`` over the hashes of every run, newest first: 0.2 ms for each 20,000 events (256 KiB), 0.1 s for ten
million. Hashes are CRC-32 and may collide; the caller compares the events. Retention deletes runs.

Rejected: a row for each key (each is on another page: a million events wrote seven kilobytes for every event), a table
of sorted keys for each run (20 µs of work for an event instead of 0.2, and twice the disk), SQLite's full-text search
(five times the size and the work), sorted runs (sorting costs 0.7 µs for an event, a quarter of the total).

A position is stored with the run that it covers, in one transaction. After a crash of the process, the records that
were only in memory are indexed again from the journal: some thousand records, quickly. The same applies to a run that
could not be stored.

``published`` has a row for each batch that Kafka acknowledged: its first offset in Kafka, and its offsets in the
journal, as differences. ``WAL`` with ``synchronous=NORMAL``: a crash of the machine loses the newest rows together with
the position that covers them, so they are written again.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from gateway.log import Record
from gateway.log.journal import files

FILE_NAME: Final = "search.sqlite"
_APPLICATION_ID: Final = 0x4E585349  # "NXSI"
#: Increase it when keys change: an index of another version is built again.
_VERSION: Final = 4
#: Hashes in a run, of some 20,000 events. Ten times more uses more memory, and more records are indexed again after a
#: crash; with ten times less a search reads ten times as many rows.
_FULL: Final = 65_536
#: The columns: two with an item for each hash, names of kinds as JSON, two with an item for each record.
_HASHES, _PLACES, _NAMES, _KINDS, _RECORDS = range(5)
#: Returns a column of a run. Places are offsets relative to the run's first.
_Read = Callable[[int], bytes]
#: Records whose keys are computed at once, with the interpreter locked.
_SLICE: Final = 128
#: Batches examined for one offset; they overlap only while partitions progress unequally.
_MAX_BATCHES: Final = 5000
#: Row ids reserved for the columns of a run. More columns need another version.
_COLUMNS: Final = 8
_NO_END: Final = 1 << 62

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run (
  number INTEGER PRIMARY KEY, stream TEXT NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS part (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS published (
  topic TEXT NOT NULL, first INTEGER NOT NULL, partition INTEGER NOT NULL, last INTEGER NOT NULL,
  kafka_offset INTEGER NOT NULL, places BLOB NOT NULL, PRIMARY KEY (topic, first, partition)
) WITHOUT ROWID;
"""


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
        self._columns = {column: array("I") for column in (_HASHES, _PLACES, _KINDS, _RECORDS)}
        self._names: dict[EventKind, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether the run has to be stored."""
        return len(self._columns[_HASHES]) >= _FULL

    def add(self, keys: Keys) -> None:
        """Append the keys of further records."""
        columns, names = self._columns, self._names
        columns[_HASHES].extend(keys.hashes)
        columns[_PLACES].extend(keys.of)
        columns[_KINDS].extend([names.setdefault(kind, len(names)) for kind in keys.kinds])
        columns[_RECORDS].extend(keys.places)

    def read(self, column: int) -> bytes:
        """Return a column in its stored form."""
        return orjson.dumps(list(map(list, self._names))) if column == _NAMES else self._columns[column].tobytes()


def hashed(text: str) -> int:
    """Return the hash of a text."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Published:
    """A batch that Kafka acknowledged.

    Args:
        topic: its topic.
        partition: its partition.
        kafka_offset: offset of its first record; -1 if the broker only reported that it already had the batch.
        places: offsets in the journal, ascending.
    """

    topic: str
    partition: int
    kafka_offset: int
    places: Sequence[int]


class Index:
    """One connection to the file. Every method blocks, and may raise :class:`sqlite3.Error`.

    Args:
        folder: the journal's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._db = files.open_derived(self.path, _APPLICATION_ID, _VERSION, _SCHEMA)
        self._recent: dict[str, Run] = {}

    def close(self) -> None:
        """Store the runs in memory if possible, and close the file."""
        with suppress(sqlite3.Error):
            for stream in list(self._recent):
                self.flush(stream)
        self._db.close()

    def position(self, stream: str) -> int | None:
        """Return the offset of the first record that is not indexed; None if no record of the stream is indexed."""
        if stream in self._recent:
            return self._recent[stream].position
        row = self._db.execute("SELECT max(next) FROM run WHERE stream = ?", (stream,)).fetchone()
        return None if row[0] is None else int(row[0])

    # -- filling ------------------------------------------------------------------------------------------------

    def add(self, stream: str, records: Sequence[Record], keys_of: KeysOf, position: int) -> None:
        """Index records, and set the position of the stream.

        After a failure, the position is that of the last stored run, and the records behind it have to be added again.

        Args:
            stream: of the journal.
            records: in the order of their offsets.
            keys_of: computes keys of records.
            position: offset below which all records are indexed.
        """
        run = self._recent.pop(stream, None) or Run(records[0].offset)  # put back after success
        for start in range(0, len(records), _SLICE):
            run.add(keys_of(records[start : start + _SLICE], run.first))
            time.sleep(0)
        run.position = position
        self._recent[stream] = run
        if run.is_full:
            self.flush(stream)

    def flush(self, stream: str) -> None:
        """Store the run in memory. After a failure the run is dropped: see :meth:`add`."""
        run = self._recent.pop(stream, None)
        if run is None:
            return
        with _transaction(self._db):
            made = self._db.execute(
                "INSERT INTO run (stream, first, next) VALUES (?, ?, ?)", (stream, run.first, run.position)
            )
            base = (made.lastrowid or 0) * _COLUMNS
            columns = (_HASHES, _PLACES, _NAMES, _KINDS, _RECORDS)
            self._db.executemany("INSERT INTO part VALUES (?, ?)", [(base + one, run.read(one)) for one in columns])

    def add_published(self, batches: Iterable[Published]) -> None:
        """Store the positions of batches in Kafka."""
        with _transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        batch.topic,
                        batch.places[0],
                        batch.partition,
                        batch.places[-1],
                        batch.kafka_offset,
                        _packed(batch.places),
                    )
                    for batch in batches
                ],
            )

    def trim(self, stream: str, below: int) -> int:
        """Delete runs that are completely below an offset; return their number.

        Args:
            stream: of the journal.
            below: offset in the journal.
        """
        with _transaction(self._db):
            gone = self._db.execute("SELECT number FROM run WHERE stream = ? AND next <= ?", (stream, below)).fetchall()
            for (number,) in gone:
                ids = (number * _COLUMNS, (number + 1) * _COLUMNS - 1)
                self._db.execute("DELETE FROM part WHERE id BETWEEN ? AND ?", ids)
                self._db.execute("DELETE FROM run WHERE number = ?", (number,))
        return len(gone)

    def trim_published(self, below: int) -> None:
        """Delete batches whose records are all below an offset of the journal."""
        with _transaction(self._db):
            self._db.execute("DELETE FROM published WHERE last < ?", (below,))

    # -- asking -------------------------------------------------------------------------------------------------

    def find(self, stream: str, key: str, *, floor: int = 0, below: int = _NO_END, limit: int = 1000) -> list[int]:
        """Return offsets of records that have a key, newest first. Hashes may collide: compare the records.

        Args:
            stream: of the journal.
            key: a text that records are indexed by.
            floor: lowest offset.
            below: offset behind the highest.
            limit: largest number of offsets.
        """
        return self._look(stream, partial(_with_hash, wanted=hashed(key)), floor, below, limit)

    def find_any(self, stream: str, keys: Iterable[str], *, floor: int = 0, limit: int = 1000) -> list[int]:
        """Return offsets of records that have any of many keys, newest first; arguments as of :meth:`find`."""
        wanted = frozenset(map(hashed, keys))
        return self._look(stream, partial(_with_hashes, wanted=wanted), floor, _NO_END, limit)

    def of_kind(
        self, stream: str, kind: EventKind, *, floor: int = 0, below: int = _NO_END, limit: int = 1000
    ) -> list[int]:
        """Return offsets of records of a kind, newest first; arguments as of :meth:`find`."""
        return self._look(stream, partial(_of_kind, wanted=kind), floor, below, limit)

    def _look(
        self, stream: str, look: Callable[[_Read], Iterable[int]], floor: int, below: int, limit: int
    ) -> list[int]:
        found: list[int] = []
        for first, read in self._runs(stream, floor, below):
            offsets = {first + place for place in look(read)}
            found += sorted((offset for offset in offsets if floor <= offset < below), reverse=True)
            if len(found) >= limit:
                break
        return found[:limit]

    def _runs(self, stream: str, floor: int, below: int) -> Iterator[tuple[int, _Read]]:
        """Yield first offset and columns of the runs between two offsets, newest first."""
        recent = self._recent.get(stream)
        if recent is not None:
            yield recent.first, recent.read
        for number, first in self._db.execute(
            "SELECT number, first FROM run WHERE stream = ? AND next > ? AND first < ? ORDER BY number DESC",
            (stream, floor, below),
        ):
            yield first, partial(self._column, number)

    def _column(self, number: int, column: int) -> bytes:
        row = self._db.execute("SELECT data FROM part WHERE id = ?", (number * _COLUMNS + column,)).fetchone()
        return bytes(row[0])

    def published(self, topic: str, place: int) -> tuple[int, int] | None:
        """Return partition and offset in Kafka (-1: not known) of a record; None if it is not known as published.

        Args:
            topic: of the record.
            place: its offset in the journal.
        """
        rows = self._db.execute(
            "SELECT partition, kafka_offset, first, last, places FROM published WHERE topic = ? AND first <= ? "
            "ORDER BY first DESC LIMIT ?",
            (topic, place, _MAX_BATCHES),
        )
        for partition, kafka_offset, first, last, packed in rows:
            if last >= place and (position := _position(packed, first, place)) is not None:
                return partition, kafka_offset + position if kafka_offset >= 0 else -1
        return None


def _with_hash(read: _Read, wanted: int) -> list[int]:
    """Return the places of a run's records with a hash, unordered; a place may occur twice."""
    column, value = read(_HASHES), array("I", [wanted]).tobytes()
    found: list[int] = []
    at = column.find(value)
    while at >= 0:
        if at % len(value) == 0:
            found.append(at // len(value))
        at = column.find(value, at + 1)
    places = array("I", read(_PLACES)) if found else ()
    return [places[line] for line in found]


def _with_hashes(read: _Read, wanted: Set[int]) -> set[int]:
    """Return the places of a run's records with any of many hashes: one pass over the column, however many they are."""
    hashes = array("I", read(_HASHES))
    if wanted.isdisjoint(hashes):
        return set()
    return {place for one, place in zip(hashes, array("I", read(_PLACES)), strict=True) if one in wanted}


def _of_kind(read: _Read, wanted: EventKind) -> list[int]:
    """Return the places of a run's records of a kind; empty attributes match any value."""
    names = enumerate(orjson.loads(read(_NAMES)))
    numbers = {number for number, has in names if all(one in ("", had) for one, had in zip(wanted, has, strict=True))}
    if not numbers:
        return []
    lines = zip(array("I", read(_KINDS)), array("I", read(_RECORDS)), strict=True)
    return [place for number, place in lines if number in numbers]


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _packed(places: Sequence[int]) -> bytes:
    first = places[0]
    return array("I", [min(place - first, 0xFFFFFFFF) for place in places]).tobytes()


def _position(packed: bytes, first: int, place: int) -> int | None:
    differences = array("I", packed)
    try:
        return differences.index(place - first)
    except (ValueError, OverflowError):
        return None


def remove(folder: Path) -> None:
    """Delete the files of the index; no process may have them open."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
