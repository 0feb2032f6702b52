"""The index's file: SQLite beside the journal, used from one thread. Nothing here knows of asyncio.

Layout. A key is a CRC-32 of its text; a row is one integer, ``crc << 16 | offset``, in a table of its own for each
:data:`GENERATION` offsets of a stream. So a row takes about twelve bytes, the tree that is being filled stays
small enough for the cache however large the journal is, and retention drops whole tables. A look-up asks each
generation, newest first: some ten microseconds each. CRCs collide now and then; whoever asks compares the event itself.

Rejected: one large table (each new row lands on another page of it: at a million events a page is written for each
key), SQLite's full-text search (five times the size and the work), rows with the text itself (four times the size).

What thousands of records share (a topic, a type) is noted once for each :data:`BLOCK` of offsets, at its first one.

Rows go in through ``json_each``: one statement for a slice, during which the interpreter lock is free.

``published`` has a row for each batch that Kafka acknowledged: the first offset there, and which offsets of the
journal went in, as differences. ``WAL`` with ``synchronous=NORMAL``: a crash of the machine loses the newest rows
together with the position that covers them, so they are made again.
"""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

FILE_NAME: Final = "search.sqlite"
#: Offsets in one table; fixed by the 16 bits that a row has for them.
GENERATION: Final = 1 << 16
#: Offsets that share a note of their kinds. Ten times more and a page of rare events reads ten times as many records.
BLOCK: Final = 64
_APPLICATION_ID: Final = 0x4E585349  # "NXSI"
#: Raise it when keys change: an index of another version is made again.
_VERSION: Final = 2
#: Pages of the tree that is being filled; ten times less and each slice waits for the page cache.
_CACHE_KIB: Final = 16 * 1024
#: Batches looked at for one offset; they overlap only as far as partitions progress unequally.
_MAX_BATCHES: Final = 5000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS position (stream TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generation (
  stream TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (stream, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS published (
  topic TEXT NOT NULL, first INTEGER NOT NULL, partition INTEGER NOT NULL, last INTEGER NOT NULL,
  kafka_offset INTEGER NOT NULL, places BLOB NOT NULL, PRIMARY KEY (topic, first, partition)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Published:
    """A batch that Kafka acknowledged.

    Args:
        kafka_offset: of its first record; -1 where the broker only said that it had the batch already.
        places: offsets in the journal, rising.
    """

    topic: str
    partition: int
    kafka_offset: int
    places: Sequence[int]


#: Keys of one record: its offset, and the texts.
Keyed = tuple[int, Iterable[str]]


class Index:
    """One connection to the file. Every method blocks and raises :class:`sqlite3.Error`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        found = (db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0])
        is_new = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if not is_new and found != (_APPLICATION_ID, _VERSION):
            raise sqlite3.DatabaseError(f"{self.path}: not an index of this version")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        db.execute("PRAGMA wal_autocheckpoint=4000")
        if is_new:
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
        db.executescript(_SCHEMA)
        self._generations = {(stream, number) for stream, number in db.execute("SELECT * FROM generation")}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def position(self, stream: str) -> int | None:
        """Offset of the first record not indexed; None when nothing of the stream was."""
        row = self._db.execute("SELECT next FROM position WHERE stream = ?", (stream,)).fetchone()
        return None if row is None else int(row[0])

    # -- filling ------------------------------------------------------------------------------------------------

    def add(self, stream: str, slices: Iterable[Sequence[Keyed]], position: int) -> None:
        """Index records in one transaction, slice by slice, and remember that everything below ``position`` is in.

        Args:
            slices: drawn one after the other; the making of each holds the interpreter lock, its writing does not.
        """
        before = set(self._generations)
        try:
            with _transaction(self._db):
                for keyed in slices:
                    self._add(stream, keyed)
                self._db.execute(
                    "INSERT INTO position VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET next = excluded.next",
                    (stream, position),
                )
        except BaseException:
            self._generations = before  # their tables went with the rest
            raise

    def _add(self, stream: str, keyed: Sequence[Keyed]) -> None:
        for number, rows in _rows(keyed).items():
            self._db.execute(
                f"INSERT OR IGNORE INTO {self._table(stream, number)} SELECT value FROM json_each(?)",  # noqa: S608
                (orjson.dumps(sorted(rows)).decode(),),
            )

    def add_published(self, batches: Iterable[Published]) -> None:
        """Remember where in Kafka records stand."""
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
        """Drop generations that lie whole below an offset; how many."""
        gone = sorted(number for name, number in self._generations if name == stream and number < below // GENERATION)
        for number in gone:
            with _transaction(self._db):
                self._db.execute(f"DROP TABLE IF EXISTS {_name(stream, number)}")
                self._db.execute("DELETE FROM generation WHERE stream = ? AND number = ?", (stream, number))
            self._generations.discard((stream, number))
        return len(gone)

    def trim_published(self, below: int) -> None:
        """Forget batches whose records are all below an offset of the journal."""
        with _transaction(self._db):
            self._db.execute("DELETE FROM published WHERE last < ?", (below,))

    def _table(self, stream: str, number: int) -> str:
        name = _name(stream, number)
        if (stream, number) not in self._generations:
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {name} (row INTEGER PRIMARY KEY)")
            self._db.execute("INSERT OR IGNORE INTO generation VALUES (?, ?)", (stream, number))
            self._generations.add((stream, number))
        return name

    # -- asking -------------------------------------------------------------------------------------------------

    def find(self, stream: str, key: str, *, floor: int = 0, below: int | None = None, limit: int = 1000) -> list[int]:
        """Offsets of records that (all but certainly) have a key, newest first.

        Args:
            floor: not below this offset.
            below: only before this offset.
        """
        found: list[int] = []
        low = _hash(key) << 16
        for number in sorted((number for name, number in self._generations if name == stream), reverse=True):
            base = number * GENERATION
            if base + GENERATION <= floor or (below is not None and base >= below):
                continue
            last = GENERATION - 1 if below is None else min(GENERATION - 1, below - 1 - base)
            rows = self._db.execute(
                f"SELECT row FROM {_name(stream, number)} WHERE row BETWEEN ? AND ? ORDER BY row DESC LIMIT ?",  # noqa: S608
                (low | max(0, floor - base), low | last, limit - len(found)),
            )
            found += [base + (row & (GENERATION - 1)) for (row,) in rows]
            if len(found) >= limit:
                break
        return found

    def published(self, topic: str, place: int) -> tuple[int, int] | None:
        """Partition and offset in Kafka (-1: not known) of the record at an offset of the journal."""
        rows = self._db.execute(
            "SELECT partition, kafka_offset, first, last, places FROM published WHERE topic = ? AND first <= ? "
            "ORDER BY first DESC LIMIT ?",
            (topic, place, _MAX_BATCHES),
        )
        for partition, kafka_offset, first, last, packed in rows:
            if last >= place and (position := _position(packed, first, place)) is not None:
                return partition, kafka_offset + position if kafka_offset >= 0 else -1
        return None


class _transaction:  # noqa: N801  # reads as a statement
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _name(stream: str, number: int) -> str:
    return f"keys_{''.join(letter if letter.isalnum() else '_' for letter in stream)}_{number}"


def _hash(key: str) -> int:
    return zlib.crc32(key.encode("utf-8", "surrogatepass"))


def _rows(keyed: Sequence[Keyed]) -> dict[int, list[int]]:
    """The integers to store, by generation."""
    crc32 = zlib.crc32  # bound here: this is most of the work
    found: dict[int, list[int]] = {}
    for offset, keys in keyed:
        number, place = divmod(offset, GENERATION)
        rows = found.setdefault(number, [])
        rows += [crc32(key.encode("utf-8", "surrogatepass")) << 16 | place for key in keys]
    return found


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
    """Delete the index's files; nothing may have them open."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
