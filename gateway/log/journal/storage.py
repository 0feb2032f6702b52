"""The journal's file: SQLite, with one thread for each connection. This module does not use asyncio.

Layout. ``segment`` has one row for each stream and commit. Its key packs the stream's number above the offset of
its first record (``stream << 44 | base``), so one table is a set of sequences, each read by a range scan.
``topics`` has the number of records by topic, so that expired records are reported without reading them. ``cursor`` has
the durable positions, ``stream`` the names and the first kept offset of each (offsets must never be used again, even
if all records of a stream are gone).

Durability. WAL with ``synchronous=FULL``: COMMIT returns after the WAL's sync, so a power cut keeps it
(https://www.sqlite.org/pragma.html#pragma_synchronous). A torn tail of the WAL is a commit that never returned.
"""

from __future__ import annotations

import ctypes
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson
import structlog

from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.log import Gap, gaps
from gateway.log.journal import batch_format, files
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.rows import Rows, Segment, SegmentInfo, Stream, tolerant
from gateway.log.journal.sqlite_errors import damaged, translated

#: "NXGW" in ASCII: distinguishes the journal from any other SQLite file in the folder.
_APPLICATION_ID: Final = 0x4E584757
_VERSION: Final = 1

#: If the clock is set back by at most this, new times continue from the newest one, so that small steps of a clock keep
#: their order; beyond it the clock was wrong before and is trusted now. With ten times more, a clock that was hours
#: ahead for a moment stops retention by age for as long; with ten times less, a host that returns from the wrong summer
#: time breaks the order.
_MAX_CARRY_S: Final = 3600.0
#: Bytes read at once to find ids.
_IDS_BYTES: Final = 4 * 1024 * 1024

_log = structlog.get_logger("gateway.journal")

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


class Store:
    """One connection to the file. Every method blocks; errors of SQLite are raised as the gateway's.

    Args:
        folder: the journal's folder.
        is_writer: False opens for reading only and never creates a file.
    """

    def __init__(self, folder: Path, *, is_writer: bool) -> None:
        self.path = folder / FILE_NAME
        self._is_writer = is_writer
        self.streams: dict[str, Stream] = {}
        self._last_keys: dict[str, int | None] = {}
        self.last_appended_at = 0.0
        try:
            if is_writer:
                files.make_database(self.path)
            address = files.uri(self.path, "rw")  # for a reader too: it may have to create the -shm of a WAL file
            self._db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
        except OSError as exc:
            raise JournalUnavailable(f"{self.path}: cannot be opened: {exc.strerror}; {files.ACCESS}") from exc
        except sqlite3.Error as exc:
            raise translated(exc, self.path) from exc
        self._db.text_factory = tolerant
        try:
            with self._translated():
                if is_writer:
                    self._prepare()
                else:
                    self._db.execute("PRAGMA query_only=1")
                    self._db.execute("PRAGMA synchronous=FULL")  # for the checkpoints of this connection
                    self.refresh()
        except BaseException:
            self._db.close()
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise errors of SQLite within as the gateway's."""
        try:
            yield
        except sqlite3.Error as exc:
            raise translated(exc, self.path) from exc

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold one snapshot of the file for several dependent queries.

        Another process may trim in between. The writer sees its own changes anyway.
        """
        with self._translated():
            if self._is_writer or self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                with suppress(sqlite3.Error):  # a read has nothing to lose
                    self._db.execute("ROLLBACK")

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
        db.execute("PRAGMA wal_autocheckpoint=0")  # the journal does it, concurrently with commits
        if is_new:
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
        db.executescript(_SCHEMA)
        newest = [key for (key,) in db.execute("SELECT id FROM segment ORDER BY id DESC LIMIT 2")]
        if newest != sorted(newest, reverse=True):  # new rows would be stored at keys that exist
            raise damaged(self.path, "its rows end in no order")
        self._read_streams()

    def refresh(self) -> None:
        """Read names and bounds of all streams from the file.

        Raises: as :meth:`commit`.
        """
        with self._reading():
            self._read_streams()

    def _read_streams(self) -> None:
        for number, name, floor in self._db.execute("SELECT id, name, floor FROM stream").fetchall():
            stream = self.streams.setdefault(name, Stream(number, name, floor, floor))
            stream.floor, stream.head = floor, max(floor, stream.head)
            rows = self._rows(stream)
            last_key = rows.last_key()
            if last_key == self._last_keys.get(name):
                continue  # a row never changes, and its bytes need not be read again
            last = rows.last()
            if last is not None:
                stream.head, stream.newest_at = max(floor, last[0]), last[1]
                self.last_appended_at = max(self.last_appended_at, last[1])
            self._last_keys[name] = last_key

    def close(self) -> None:
        """Close the connection; the last close of a writer copies the WAL into the file."""
        with self._translated():
            self._db.close()

    def abandon(self) -> None:
        """Leave the connection open until the process ends, so that no close copies a damaged WAL into the file."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))

    # -- writing ------------------------------------------------------------------------------------------------

    def checkpoint(self) -> bool:
        """Copy those pages of the WAL into the file that no reader needs; other connections may commit meanwhile.

        Return whether all pages were copied.

        Raises:
            JournalUnavailable: they could not be copied; they are safe in the WAL.
            JournalDamaged: the file is damaged.
        """
        with self._translated():
            is_busy, in_wal, copied = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return not is_busy and in_wal == copied

    def probe(self) -> None:
        """Commit a transaction that changes nothing, to check whether the disk accepts one.

        Raises: as :meth:`commit`.
        """
        with self._translated():
            self._db.execute(f"PRAGMA user_version={_VERSION}")

    def commit(
        self, appends: Mapping[str, batch_format.Draft], cursors: Mapping[tuple[str, str], int], now: float
    ) -> dict[str, int]:
        """Store a segment for each stream, and positions, in one transaction. Return the first offset of each stream.

        Times do not decrease if the clock is set back by less than an hour, so that times can be searched.

        Args:
            appends: records by stream.
            cursors: positions by (reader, stream).
            now: Unix seconds.

        Raises:
            JournalUnavailable: nothing was stored.
            JournalDamaged: the file is damaged.
        """
        now = self._carried(now)
        bases: dict[str, int] = {}
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for name, draft in appends.items():
                stream = self.streams.get(name) or self._create(name)
                self._insert(stream, draft, now)
                bases[name] = stream.head
            if cursors:
                self._db.executemany(
                    "INSERT INTO cursor VALUES (?, ?, ?) "
                    "ON CONFLICT (name, stream) DO UPDATE SET position = excluded.position",
                    [(name, stream_name, position) for (name, stream_name), position in cursors.items()],
                )
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            self._rollback(set(appends))
            raise translated(exc, self.path) from exc
        for name, draft in appends.items():
            self.streams[name].head += draft.count
            self.streams[name].newest_at = now
        if appends:
            self._note_time(now)
        return bases

    def _insert(self, stream: Stream, draft: batch_format.Draft, now: float) -> None:
        blob = b"".join(draft.parts)
        draft.parts = [blob]
        row_id = stream.id << batch_format.SHIFT | stream.head
        topics = orjson.dumps(draft.topics).decode()
        crc = batch_format.checksum(blob, row_id, draft.count, now, topics)
        self._db.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)", (row_id, draft.count, now, topics, crc, blob))

    def _carried(self, now: float) -> float:
        """Return the time of a commit: not before the newest one, unless that is too far ahead to be right."""
        ahead_s = self.last_appended_at - now
        return self.last_appended_at if 0 < ahead_s <= _MAX_CARRY_S else now

    def _note_time(self, now: float) -> None:
        ahead_s = self.last_appended_at - now
        self.last_appended_at = now
        if ahead_s > 0:
            _log.warning(
                "journal.clock_set_back",
                seconds=round(ahead_s),
                advice="events stored while the clock was ahead carry its times; retention by age and searches for a "
                "time go by the events behind them",
            )

    def _create(self, name: str) -> Stream:
        cursor = self._db.execute("INSERT INTO stream (name, floor) VALUES (?, 0)", (name,))
        assert cursor.lastrowid is not None
        stream = self.streams[name] = Stream(cursor.lastrowid, name, 0, 0)
        # A row with a damaged key may be in the range of keys of the new stream.
        self._db.execute("DELETE FROM segment WHERE id >= ? AND id < ?", (stream.low, stream.high))
        return stream

    def _rollback(self, touched: set[str]) -> None:
        """Roll back, and forget streams whose creation was undone. SQLite may have rolled back already."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            known = {name for (name,) in self._db.execute("SELECT name FROM stream")}
        except sqlite3.Error:
            known = {name for name in touched if self.streams.get(name) and self.streams[name].head > 0}
        for name in touched - known:
            self.streams.pop(name, None)

    def trim(self, name: str, below: int) -> int:
        """Remove whole segments that end at or below an offset; return the stream's new first offset.

        Args:
            name: name of the stream.
            below: the offset.

        Raises: as :meth:`commit`.
        """
        stream = self.streams[name]
        below = min(below, stream.head)
        with self._translated():
            holder = next(self._rows(stream).infos(below, below + 1), None)
            floor = below if holder is None else min(below, holder.base)
            if floor <= stream.floor:
                return stream.floor
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("DELETE FROM segment WHERE id >= ? AND id < ?", (stream.low, stream.low | floor))
                self._db.execute("UPDATE stream SET floor = ? WHERE id = ?", (floor, stream.id))
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._rollback(set())
                raise
        stream.floor = floor
        return floor

    # -- reading ------------------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """Return the used bytes of the file; trimmed pages are reused before the file grows.

        Raises: as :meth:`commit`, as all methods below.
        """
        with self._translated():
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
            (size,) = self._db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def cursors(self) -> dict[tuple[str, str], int]:
        """Return all durable positions by (reader, stream)."""
        with self._translated():
            return {(name, stream): position for name, stream, position in self._db.execute("SELECT * FROM cursor")}

    def read(self, name: str, position: int, max_bytes: int, head: int | None = None) -> list[Segment]:
        """Return segments from the one with ``position`` on; at least one if there is any.

        The caller reports a segment without records and continues behind it. Each segment begins where the previous one
        ends, except for records that were trimmed meanwhile.

        Args:
            name: name of the stream.
            position: offset in the first segment.
            max_bytes: about so many bytes of records.
            head: offset behind the last record, if the caller knows it better than the last :meth:`refresh`.
        """
        stream = self.streams.get(name)
        if stream is None:
            return []
        with self._reading():
            return self._rows(stream).read(position, max_bytes, stream.head if head is None else head)

    def newest_ids(self, limit: int) -> Iterator[bytes]:
        """Yield the ids of the newest vendor events, oldest first; those of damaged ones are reported and missing.

        Args:
            limit: number of events that are read.
        """
        stream = self.streams.get(batch_format.EVENTS)
        if stream is None:
            return
        position = max(stream.floor, stream.head - limit)
        while position < stream.head and (segments := self.read(stream.name, position, _IDS_BYTES)):
            for base, end, records in segments:
                if records is None:
                    gaps.report("journal", ["start"], Gap(stream.name, base, end - 1, "damaged"))
                else:
                    yield from (bytes.fromhex(record.id) for record in records if record.offset >= position)
                position = end

    def infos(self, name: str, position: int, below: int) -> Iterator[SegmentInfo]:
        """Yield the heads of the segments that overlap a range, oldest first.

        Args:
            name: name of the stream.
            position: the first offset of the range.
            below: the offset behind the range.
        """
        with self._translated():
            yield from self._rows(self.streams[name]).infos(position, below)

    def offset_at(self, name: str, unix_s: float) -> int:
        """Return the offset of the first record appended at or after a time; the head if there is none.

        After a clock that was far ahead was corrected, it may be too early, never too late; see :mod:`.rows`.

        Args:
            name: name of the stream.
            unix_s: Unix seconds.
        """
        stream = self.streams.get(name)
        if stream is None:
            return 0
        with self._reading():
            return self._rows(stream).offset_at(unix_s)

    def oldest(self, name: str) -> SegmentInfo | None:
        """Return the head of the first kept segment; None if there is none."""
        stream = self.streams[name]
        return next(self.infos(name, stream.floor, stream.head), None)

    def _rows(self, stream: Stream) -> Rows:
        return Rows(self._db, stream)
