"""The index's file: SQLite beside the journal, used from one thread. Nothing here knows of asyncio.

Layout: a log-structured merge tree without the merges. The newest keys are in memory (:mod:`gateway.search.recent`);
when there are enough of them they become a run, sorted, a row of about two kilobytes in each of 64 buckets. Nothing is
ever rewritten: an event costs about 32 bytes of disk, once. A look-up reads the one bucket of every run, newest first:
ten microseconds for each 4,000 events, which a person does not notice at ten million. CRCs collide now and then;
whoever asks compares the event itself. Each :data:`GENERATION` of offsets is a table, so that retention drops tables.

Rejected: a row for each key (each lands on another page: a million events wrote seven kilobytes for every event, and
cost twice the time), SQLite's full-text search (five times the size and the work), merging runs (a merge holds the
interpreter lock for tens of milliseconds, and saves what nobody notices).

What thousands of records share (a topic, a type) is noted once for each :data:`BLOCK` of offsets, at its first one.

A position is stored with the run that it covers, in one transaction. What was only in memory when the process died is
made again from the journal: some thousand records, in a moment. So it is where a run could not be stored.

``published`` has a row for each batch that Kafka acknowledged: the first offset there, and which offsets of the
journal went in, as differences. ``WAL`` with ``synchronous=NORMAL``: a crash of the machine loses the newest rows
together with the position that covers them, so they are made again.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.log.journal import files
from gateway.search.recent import GENERATION, Keyed, Recent, bucket_and_rest, places_in

FILE_NAME: Final = "search.sqlite"
#: Offsets that share a note of their kinds. Ten times more and a page of rare events reads ten times as many records.
BLOCK: Final = 64
_APPLICATION_ID: Final = 0x4E585349  # "NXSI"
#: Raise it when keys change: an index of another version is made again.
_VERSION: Final = 3
#: Entries of a run, about 4,000 events. Ten times more is memory, and a longer stretch to make again after a crash; ten
#: times less and a look-up reads ten times as many rows.
_RUN_ENTRIES: Final = 16_384
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


class Index:
    """One connection to the file. Every method blocks and raises :class:`sqlite3.Error`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        with suppress(OSError):  # SQLite raises its own error for the same reason
            files.make_database(self.path)
        address = files.uri(self.path, "rw")
        self._db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
        self._recent: dict[str, Recent] = {}
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
        if is_new:
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
        db.executescript(_SCHEMA)
        self._generations = {(stream, number) for stream, number in db.execute("SELECT * FROM generation")}

    def close(self) -> None:
        """Store what is in memory, if that can be done now, and close the file."""
        with suppress(sqlite3.Error):
            for stream in list(self._recent):
                self.flush(stream)
        self._db.close()

    def position(self, stream: str) -> int | None:
        """Offset of the first record not indexed; None when nothing of the stream was."""
        if stream in self._recent:
            return self._recent[stream].position
        row = self._db.execute("SELECT next FROM position WHERE stream = ?", (stream,)).fetchone()
        return None if row is None else int(row[0])

    # -- filling ------------------------------------------------------------------------------------------------

    def add(self, stream: str, slices: Iterable[Sequence[Keyed]], position: int) -> None:
        """Index records, slice by slice, and remember that everything below ``position`` is in.

        When this fails, the position is where it was when a run was stored last, and what came since must come again.

        Args:
            slices: drawn one after the other; each holds the interpreter lock, and lets go of it then.
        """
        recent = self._recent.pop(stream, None)  # comes back when all is well
        for keyed in slices:
            if recent is None:
                recent = Recent(keyed[0][0])
            recent.add(keyed)
            time.sleep(0)
        if recent is not None:
            recent.position = position
            self._recent[stream] = recent
            if recent.count >= _RUN_ENTRIES:
                self.flush(stream)

    def flush(self, stream: str) -> None:
        """Make a run of what is in memory. When this fails it is forgotten: see :meth:`add`."""
        recent = self._recent.pop(stream, None)
        if recent is None:
            return
        before = set(self._generations)
        try:
            with _transaction(self._db):
                for number, bucket, run in recent.runs():
                    first = max(0, recent.start - number * GENERATION)
                    self._db.execute(
                        f"INSERT INTO {self._table(stream, number)} VALUES (?, ?)",  # noqa: S608
                        (bucket << 32 | first, run),
                    )
                self._db.execute(
                    "INSERT INTO position VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET next = excluded.next",
                    (stream, recent.position),
                )
        except BaseException:
            self._generations = before  # their tables went with the rest
            raise

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
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, run BLOB NOT NULL)")
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
        recent = self._recent.get(stream)
        numbers = {number for name, number in self._generations if name == stream}
        found: list[int] = []
        for number in sorted(numbers | (recent.generations() if recent else set()), reverse=True):
            base = number * GENERATION
            first, end = max(0, floor - base), GENERATION if below is None else below - base
            if first >= GENERATION or end <= 0:
                continue
            places = set(recent.places(number, key)) if recent else set()
            if number in numbers:
                places |= self._places(_name(stream, number), key, end, limit)
            found += [base + place for place in sorted(places, reverse=True) if first <= place < end]
            if len(found) >= limit:
                break
        return found[:limit]

    def _places(self, table: str, key: str, end: int, limit: int) -> set[int]:
        """The newest places of a key that the runs of a generation have, at least ``limit`` if there are so many."""
        bucket, rest = bucket_and_rest(key)
        places: set[int] = set()
        runs = self._db.execute(
            f"SELECT run FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id DESC",  # noqa: S608
            (bucket << 32, bucket << 32 | min(end, GENERATION)),
        )
        for (run,) in runs:
            places.update(place for place in places_in(run, rest) if place < end)
            if len(places) >= limit:
                break
        return places

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
    return f"runs_{''.join(letter if letter.isalnum() else '_' for letter in stream)}_{number}"


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
