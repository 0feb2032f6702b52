"""The journal's file: SQLite, used from one thread per connection. Nothing here knows of asyncio.

Layout. ``segment`` has one row per stream and commit. Its key packs the stream's number above the offset of
its first record (``stream << 44 | base``), so one table is a set of sequences, each read by a range scan.
``topics`` counts the records by topic, so that what expires can be named without reading it. ``cursor`` holds the
durable positions, ``stream`` the names and how far each was trimmed (offsets must never come back, even when
all records of a stream are gone).

Durability. WAL with ``synchronous=FULL``: COMMIT returns after the WAL's sync, so a power cut keeps it
(https://www.sqlite.org/pragma.html#pragma_synchronous). A torn tail of the WAL is a commit that never returned.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.log import Record
from gateway.log.journal import segment
from gateway.log.journal.streams import MASK, SHIFT

FILE_NAME: Final = "journal.sqlite"
#: "NXGW" in ASCII: tells our file from any other SQLite file that may lie in the folder.
_APPLICATION_ID: Final = 0x4E584757
_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, floor INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (
  name TEXT NOT NULL, stream TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (name, stream)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segment (
  id INTEGER PRIMARY KEY, count INTEGER NOT NULL, appended_at REAL NOT NULL, topics TEXT NOT NULL,
  crc INTEGER NOT NULL, records BLOB NOT NULL
);
"""


@dataclass(slots=True)
class Stream:
    """One sequence: its number, the first offset still kept and the offset the next record gets."""

    id: int
    name: str
    floor: int
    head: int

    @property
    def _low(self) -> int:
        return self.id << SHIFT

    @property
    def _high(self) -> int:
        return (self.id + 1) << SHIFT


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment without its records."""

    base: int
    count: int
    appended_at: float
    topics: Mapping[str, int]


class Store:
    """One connection to the file. Every method blocks; errors of SQLite come out as ours.

    Args:
        folder: the journal's folder.
        is_writer: False opens for reading only and never creates anything.
    """

    def __init__(self, folder: Path, *, is_writer: bool) -> None:
        self.path = folder / FILE_NAME
        self.streams: dict[str, Stream] = {}
        self.last_appended_at = 0.0
        try:
            mode = "rwc" if is_writer else "rw"  # a reader of a WAL file may have to make its -shm
            self._db = sqlite3.connect(
                f"file:{self.path}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
            )
        except sqlite3.Error as exc:
            raise JournalUnavailable(f"{self.path}: cannot be opened: {exc}") from exc
        try:
            if is_writer:
                self._prepare()
            else:
                self._db.execute("PRAGMA query_only=1")
                self._db.execute("PRAGMA synchronous=FULL")  # of what checkpoints through it write
                self.refresh()
        except sqlite3.DatabaseError as exc:
            self._db.close()
            raise translated(exc, self.path) from exc
        except JournalDamaged:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        is_new = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if not is_new and (application_id != _APPLICATION_ID or version != _VERSION):
            raise JournalDamaged(
                f"{self.path}: not a journal of this version (application id {application_id:#x}, version {version}); "
                "give the gateway an empty journal.dir, or the version that wrote this one"
            )
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=0")  # the journal does it, beside the commits
        if is_new:
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
        db.executescript(_SCHEMA)
        self.refresh()

    def refresh(self) -> None:
        """Read names and bounds of all streams from the file."""
        for number, name, floor in self._db.execute("SELECT id, name, floor FROM stream"):
            stream = Stream(number, name, floor, floor)
            last = self._last(stream)
            if last is not None:
                stream.head = last.base + last.count
                self.last_appended_at = max(self.last_appended_at, last.appended_at)
            self.streams[name] = stream

    def close(self) -> None:
        """Close the connection; a writer's last close folds the WAL into the file."""
        self._db.close()

    # -- writing ------------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Copy from the WAL into the file what nobody reads there any more; commits of others go on meanwhile.

        Raises:
            JournalUnavailable: it could not be copied; it is safe in the WAL.
            JournalDamaged: the file is not sound any more.
        """
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as exc:
            raise translated(exc, self.path) from exc

    def commit(
        self, appends: Mapping[str, segment.Draft], cursors: Mapping[tuple[str, str], int], now: float
    ) -> dict[str, int]:
        """One transaction: a segment for each stream, and positions. Returns the first offset of each stream.

        Times never run backward, whatever the clock does, so that a time can be searched for.

        Raises:
            JournalUnavailable: nothing was stored.
            JournalDamaged: the file is not sound any more.
        """
        now = max(now, self.last_appended_at)
        bases: dict[str, int] = {}
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            for name, draft in appends.items():
                stream = self.streams.get(name) or self._create(name)
                blob = b"".join(draft.parts)
                row_id = stream.id << SHIFT | stream.head
                topics = orjson.dumps(draft.topics).decode()
                db.execute(
                    "INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        row_id,
                        draft.count,
                        now,
                        topics,
                        segment.checksum(blob, row_id, draft.count, now, topics),
                        blob,
                    ),
                )
                bases[name] = stream.head
            if cursors:
                db.executemany(
                    "INSERT INTO cursor VALUES (?, ?, ?) "
                    "ON CONFLICT (name, stream) DO UPDATE SET position = excluded.position",
                    [(name, stream_name, position) for (name, stream_name), position in cursors.items()],
                )
            db.execute("COMMIT")
        except sqlite3.Error as exc:
            self._rollback(set(appends))
            raise translated(exc, self.path) from exc
        for name, draft in appends.items():
            self.streams[name].head += draft.count
        if appends:
            self.last_appended_at = now
        return bases

    def _create(self, name: str) -> Stream:
        cursor = self._db.execute("INSERT INTO stream (name, floor) VALUES (?, 0)", (name,))
        assert cursor.lastrowid is not None
        self.streams[name] = Stream(cursor.lastrowid, name, 0, 0)
        return self.streams[name]

    def _rollback(self, touched: set[str]) -> None:
        """Undo, and forget streams whose creation was undone. SQLite may have rolled back by itself already."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            known = {name for (name,) in self._db.execute("SELECT name FROM stream")}
        except sqlite3.Error:
            known = {name for name in touched if self.streams.get(name) and self.streams[name].head > 0}
        for name in touched - known:
            self.streams.pop(name, None)

    def trim(self, name: str, below: int) -> int:
        """Drop whole segments that end at or below offset ``below``; returns the stream's new first offset.

        Raises: as :meth:`commit`.
        """
        stream = self.streams[name]
        last = self._at_or_before(stream, below)
        if last is None:
            return stream.floor
        floor = last.base + last.count if last.base + last.count <= below else last.base
        if floor <= stream.floor:
            return stream.floor
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM segment WHERE id >= ? AND id < ?", (stream._low, stream._low | floor))
            self._db.execute("UPDATE stream SET floor = ? WHERE id = ?", (floor, stream.id))
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            self._rollback(set())
            raise translated(exc, self.path) from exc
        stream.floor = floor
        return floor

    # -- reading ------------------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Bytes of the file that hold something; what was trimmed is reused before the file grows."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def cursors(self) -> dict[tuple[str, str], int]:
        """All durable positions by (reader, stream)."""
        return {(name, stream): position for name, stream, position in self._db.execute("SELECT * FROM cursor")}

    def read(self, name: str, position: int, max_bytes: int) -> list[SegmentInfo | tuple[SegmentInfo, list[Record]]]:
        """Segments from the one that holds ``position``, at least one if there is any, up to about ``max_bytes``.

        A segment that fails its checksum comes without records: the caller tells of it and goes on behind it.

        Raises:
            JournalDamaged, JournalUnavailable: SQLite cannot read the file.
        """
        stream = self.streams.get(name)
        if stream is None:
            return []
        try:
            first = self._at_or_before(stream, position)
            low = first.base if first is not None and first.base + first.count > position else position
            found: list[SegmentInfo | tuple[SegmentInfo, list[Record]]] = []
            size = 0
            for row in self._db.execute(
                "SELECT id, count, appended_at, topics, crc, records FROM segment WHERE id >= ? AND id < ? ORDER BY id",
                (stream._low | low, stream._high),
            ):
                info = _info(row)
                records = _records(row, name, info)
                found.append(info if records is None else (info, records))
                size += len(row[5])
                if size >= max_bytes:
                    break
        except sqlite3.Error as exc:
            raise translated(exc, self.path) from exc
        return found

    def infos(self, name: str, position: int, below: int) -> Iterator[SegmentInfo]:
        """Heads of the segments that overlap offsets ``position`` up to ``below``, oldest first."""
        stream = self.streams[name]
        first = self._at_or_before(stream, position)
        low = first.base if first is not None else position
        try:
            rows = self._db.execute(
                "SELECT id, count, appended_at, topics FROM segment WHERE id >= ? AND id < ? ORDER BY id",
                (stream._low | low, stream._low | below),
            )
            for row in rows:
                info = _info(row)
                if info.base + info.count > position:
                    yield info
        except sqlite3.Error as exc:
            raise translated(exc, self.path) from exc

    def offset_at(self, name: str, unix_s: float) -> int:
        """Offset of the first record appended at or after a time; the head when there is none.

        Times in a stream never run backward, so this is a binary search over the offsets.
        """
        stream = self.streams.get(name)
        if stream is None:
            return 0
        low, high = stream.floor, stream.head
        while low < high:
            middle = (low + high) // 2
            info = self._at_or_before(stream, middle)
            if info is None or info.appended_at < unix_s:
                low = (info.base + info.count) if info is not None else middle + 1
            else:
                high = info.base
        return low

    def oldest(self, name: str) -> SegmentInfo | None:
        """The first segment kept."""
        stream = self.streams[name]
        row = self._db.execute(
            "SELECT id, count, appended_at, topics FROM segment WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (stream._low, stream._high),
        ).fetchone()
        return _info(row) if row else None

    def _last(self, stream: Stream) -> SegmentInfo | None:
        return self._at_or_before(stream, MASK)

    def _at_or_before(self, stream: Stream, offset: int) -> SegmentInfo | None:
        row = self._db.execute(
            "SELECT id, count, appended_at, topics FROM segment WHERE id >= ? AND id <= ? ORDER BY id DESC LIMIT 1",
            (stream._low, stream._low | offset),
        ).fetchone()
        return _info(row) if row else None


def _info(row: tuple[int, int, float, str]) -> SegmentInfo:
    try:
        topics = {str(topic): int(count) for topic, count in orjson.loads(row[3]).items()}
        return SegmentInfo(row[0] & MASK, int(row[1]), float(row[2]), topics)
    except (ValueError, TypeError, AttributeError) as exc:
        raise JournalDamaged(f"the segment at offset {row[0] & MASK} cannot be parsed: {exc}") from exc


def _records(row: tuple[int, int, float, str, int, bytes], name: str, info: SegmentInfo) -> list[Record] | None:
    """The records of a row; None when its bytes are not what was written."""
    row_id, count, appended_at, topics, crc, blob = row
    try:
        if segment.checksum(blob, row_id, count, appended_at, topics) != crc:
            return None
        return segment.decode(blob, partition=name, base=info.base, count=count, appended_at=appended_at)
    except (JournalDamaged, TypeError):
        return None


def translated(exc: sqlite3.Error, path: Path) -> JournalUnavailable | JournalDamaged:
    """What an error of SQLite means for us: the disk refuses for now, or the file is not sound."""
    code = getattr(exc, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalDamaged(
            f"{path}: the file is damaged ({exc}); stop the gateway, run 'gateway journal check' to see what can be "
            "read and 'gateway journal salvage' to copy that to a new journal"
        )
    return JournalUnavailable(f"{path}: the disk refused: {exc}; free space or look at the disk, nothing was stored")
