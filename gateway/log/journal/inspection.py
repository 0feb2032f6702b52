"""Inspection of a journal that may be damaged. It never writes to the journal.

SQLite does not verify its pages, and one damaged page makes it refuse every query that touches it. So the rows are read
one by one by their keys, and if a query fails, the next reachable key is searched. Each row is then compared with its
checksum (:mod:`.batch_format`). Offsets within an undamaged stream have no gaps, so offsets between two readable rows
that were not trimmed are damage: they are known even if their bytes are gone.

The write-ahead log is examined too: SQLite applies it up to the first frame with a wrong checksum and silently drops
the remaining frames, which is right for a torn end and a silent loss for a flipped bit in the middle (:mod:`.wal`).

Beside a running gateway, :func:`inspect` reads in sections, each as of the newest commit: a checkpoint copies nothing
that is newer than the snapshot of a reader, so a snapshot that is held for long makes the log grow. Within one
snapshot, rows and floors are of the same commit, so that records which retention removes meanwhile are no damage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.errors import Broken, JournalDamaged
from gateway.log.journal import batch_format, files, wal
from gateway.log.journal.report import Damage, Report, StreamReport
from gateway.log.journal.rows import decoded, tolerant, topics_of
from gateway.log.journal.sqlite_errors import cannot_open
from gateway.log.journal.store import FILE_NAME
from gateway.log.journal.streams import EVENTS, MASK, SHIFT, stream_of

#: Bytes read of one snapshot. With ten times more, on a slow disk, the log grows for seconds; ten times less gains
#: nothing, because checkpoints are further apart.
_SNAPSHOT_BYTES: Final = 16 * 1024 * 1024
_STREAMS: Final = "SELECT id, name, floor FROM stream ORDER BY id"


class Row(NamedTuple):
    """One segment as stored."""

    id: int
    records_count: int
    appended_at: float
    topics: str
    crc: int
    records: bytes


#: A key, and the row if it can be read.
_Place = tuple[int, Row | None]


def inspect(folder: Path, on_read: Callable[[int], object] | None = None) -> Report:
    """Read everything once and return a report of it.

    Args:
        folder: folder of the journal.
        on_read: called with the number of bytes of each row that was read, to show progress.

    Raises:
        Broken: there is no journal in the folder.
        JournalDamaged: the file cannot be opened as a journal at all.
        JournalUnavailable: the disk refuses.
    """
    with closing(Source(folder, is_live=True)) as source:
        for row in source.rows():
            if on_read is not None:
                on_read(len(row.records))
        return source.report


class Source:
    """One journal, opened for reading only.

    Args:
        folder: folder of the journal.
        is_live: its gateway may run, and is not disturbed. If a damaged page has the content of another page, the
            report may then name rows between the two that a salvage still finds.
    """

    def __init__(self, folder: Path, *, is_live: bool = False) -> None:
        path = folder / FILE_NAME
        if not path.exists():
            raise Broken(f"{folder}: there is no journal; name its folder, the one with {FILE_NAME}")
        self._db = _open(path)
        self._db.text_factory = tolerant
        self._is_live = is_live
        self.report = Report()
        self.by_number: dict[int, StreamReport] = {}
        self._floors: dict[int, int] = {}  # as of the newest snapshot
        self._met: list[tuple[int, int]] = []  # ranges of keys whose rows were handed out
        try:
            self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as exc:
            self._db.close()
            raise JournalDamaged(f"{path}: nothing can be read: {exc}; restore the file from a copy") from exc
        log = path.with_name(path.name + "-wal")
        found = wal.read(log)
        if found is not None and found.is_certain:
            self.report.problems.append(
                f"{log.name}: {found.commits} commits ({found.pages} pages) stand behind a damaged one, unreadable"
            )
        elif found is not None:
            self.report.notes.append(
                f"{log.name}: one commit in {found.pages} pages stands behind damage: one that failed and was answered "
                "503, or one that a disk or memory fault has cost"
            )
        self._db.execute("BEGIN")
        self._read_small_tables()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self) -> Iterator[Row]:
        """Yield every sound row, in the order of streams and offsets, and complete the report meanwhile."""
        expected: dict[int, int] = {number: stream.floor for number, stream in self.by_number.items()}
        previous = -1
        for (row_id, row), behind in _pairs(self._scan()):
            if row_id <= previous and (row is None or self._is_met(row_id) or _fault(row, "") is not None):
                continue  # out of order, which the report states: it exists twice, or its true key is unknown
            previous = row_id
            number, base = row_id >> SHIFT, row_id & MASK
            following = behind[0] if behind is not None and behind[0] >> SHIFT == number else None
            stream = self.by_number.get(number)
            if stream is None:
                stream = self._unnamed(number, base, row)
            expected[number] = max(expected.get(number, stream.floor), self._floors.get(number, 0))
            reason = "the pages cannot be read" if row is None else _fault(row, stream.name)
            end = _end(row, row_id, following, is_sound=reason is None)
            if reason is not None and end <= max(base, expected[number]):
                where = f"{stream.name} at offset {base}"
                self.report.problems.append(f"{where}: a row that is out of place; its key is damaged: {reason}")
                continue
            if base > expected[number]:
                stream.damages.append(Damage(stream.name, expected[number], base - 1, "the pages cannot be read"))
            if reason is not None:
                stream.damages.append(Damage(stream.name, max(base, expected[number]), end - 1, reason))
            expected[number] = stream.head = end
            if row is not None and reason is None:
                stream.records += row.records_count
                stream.size_bytes += len(row.records)
                self._meet(row)
                yield row
        for number, stream in self.by_number.items():
            reached = max((p for (_, name), p in (self.report.cursors or {}).items() if name == stream.name), default=0)
            end = max(expected.get(number, stream.floor), self._floors.get(number, 0))
            if reached > end:  # a reader has been beyond the last record that is left
                stream.damages.append(Damage(stream.name, end, reached - 1, "missing at the end"))
                stream.head = reached

    def _meet(self, row: Row) -> None:
        first = row.id
        if self._met and self._met[-1][1] == row.id:
            first, _ = self._met.pop()
        self._met.append((first, row.id + row.records_count))

    def _is_met(self, row_id: int) -> bool:
        return any(first <= row_id < behind for first, behind in self._met)

    def _scan(self) -> Iterator[_Place]:
        """Yield every reachable row in the order of the file; None as the row if only its key can be read."""
        at, before = 0, -1
        while True:
            try:
                for values in self._values(at):
                    if values[0] <= before:
                        where = f"offset {before & MASK} and {values[0] & MASK}"
                        self.report.problems.append(
                            f"rows stand in no order: the key of one is damaged, or one stands twice, {where}"
                        )
                    yield values[0], Row(*values)
                    before = values[0]
                    at = max(at, before + 1)
                return
            except sqlite3.DatabaseError:
                found = self._key_behind(at)
            if found is None:
                return
            yield found, self._row(found)
            at = found + 1

    def _values(self, at: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows from a key on."""
        following: int | None = at
        while following is not None:
            following = yield from self._of_one_snapshot(following)

    def _of_one_snapshot(self, at: int) -> Generator[tuple[Any, ...], None, int | None]:
        """Yield rows from a key on; return the key at which to continue, None at the end.

        A snapshot ends only behind a row that begins where the previous one ends: its key is certainly right.
        """
        size, behind = 0, -1
        with closing(self._db.execute("SELECT * FROM segment WHERE id >= ? ORDER BY id", (at,))) as rows:
            for values in rows:
                yield values
                key, count, records = values[0], values[1], values[5]
                size += len(records) if isinstance(records, bytes) else 1
                if self._is_live and size >= _SNAPSHOT_BYTES and key == behind:
                    break
                behind = key + count if isinstance(count, int) else -1
            else:
                return None
        self._renew()
        return int(key) + 1

    def _renew(self) -> None:
        """Replace the snapshot by the newest one: records that retention removed meanwhile are no damage."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        with suppress(sqlite3.DatabaseError):  # reported when it was read first
            for number, name, floor in self._db.execute(_STREAMS):
                self._floors[number] = floor
                if number not in self.by_number:
                    self._add(number, StreamReport(str(name), floor, floor))

    def _add(self, number: int, stream: StreamReport) -> None:
        self.by_number[number] = stream
        self.report.streams.append(stream)

    def _key_behind(self, at: int) -> int | None:
        """Return the next reachable key behind a page that cannot be read; None if there is none."""
        try:
            return self._next_key(at)
        except sqlite3.DatabaseError:
            found = self._behind_damage(at)
        if found is None or found >> SHIFT != at >> SHIFT:
            self._note_lost_end(at)
        return found

    def _note_lost_end(self, at: int) -> None:
        """Report damage up to the end of a stream: no row behind it shows how many records there were."""
        stream = self.by_number.get(at >> SHIFT)
        where = f"{stream.name} from offset {at & MASK} on" if stream is not None else "the table of records"
        self.report.problems.append(f"{where}: the pages cannot be read, and how many records they held is not known")

    def _next_key(self, at: int) -> int | None:
        row = self._db.execute("SELECT id FROM segment WHERE id >= ? ORDER BY id LIMIT 1", (at,)).fetchone()
        return int(row[0]) if row is not None else None

    def _behind_damage(self, at: int) -> int | None:
        """Return the first key behind pages that cannot be read, by doubling steps and then bisection."""
        failing, step = at, 1
        while True:
            probe = at + step
            if probe >> SHIFT > (1 << 19):
                return None
            try:
                found = self._next_key(probe)
                break
            except sqlite3.DatabaseError:
                failing, step = probe, step * 2
        while probe - failing > 1:
            middle = (probe + failing) // 2
            try:
                nearer = self._next_key(middle)
            except sqlite3.DatabaseError:
                failing = middle
            else:
                found, probe = nearer, middle
        return found

    def _row(self, row_id: int) -> Row | None:
        try:
            values = self._db.execute("SELECT * FROM segment WHERE id = ?", (row_id,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return Row(*values) if values is not None else None

    def _unnamed(self, number: int, base: int, row: Row | None) -> StreamReport:
        """Return a report for a stream whose name is lost; its records show whether it was an internal one."""
        topic = _only_topic(row)
        name = stream_of(topic) if topic is not None else EVENTS
        if any(stream.name == name for stream in self.by_number.values()):
            name = f"internal.salvaged-{number}"
        self.report.problems.append(f"the name of stream {number} is lost; by its records it is {name}")
        stream = StreamReport(name, base, base)
        self._add(number, stream)
        return stream

    def _read_small_tables(self) -> None:
        problems = self.report.problems
        try:
            for number, name, floor in self._db.execute(_STREAMS):
                self._add(number, StreamReport(str(name), floor, floor))
        except sqlite3.DatabaseError as exc:
            problems.append(f"the table of streams cannot be read: {exc}")
        try:
            self.report.cursors = {
                (str(name), str(stream)): int(position)
                for name, stream, position in self._db.execute("SELECT name, stream, position FROM cursor")
            }
        except (sqlite3.DatabaseError, ValueError) as exc:
            problems.append(f"the readers' positions cannot be read: {exc}; they begin anew")


def _open(path: Path) -> sqlite3.Connection:
    """Open a journal read-only, so that not even a checkpoint changes it; also a single file on a read-only disk."""
    for is_immutable in (False, True):
        db = sqlite3.connect(files.uri(path, "ro", is_immutable=is_immutable), uri=True, isolation_level=None)
        try:
            # Otherwise SQLite refuses a file that is shorter than its header says. Nothing is written: mode=ro.
            db.execute("PRAGMA writable_schema=1")
            db.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as exc:
            db.close()
            error = exc
        except sqlite3.DatabaseError:
            return db  # damaged: the caller examines how much
        else:
            return db
    raise cannot_open(error, path)


def _pairs(rows: Iterator[_Place]) -> Iterator[tuple[_Place, _Place | None]]:
    """Yield each row with the next one; None as the next of the last row."""
    row = next(rows, None)
    while row is not None:
        following = next(rows, None)
        yield row, following
        row = following


def _end(row: Row | None, row_id: int, following: int | None, *, is_sound: bool) -> int:
    """Return the offset behind a row. The count of a damaged row is not trusted: the next row's key decides."""
    base = row_id & MASK
    if row is not None and is_sound:
        return base + row.records_count
    if following is not None:
        return following & MASK
    return base + (
        1 if row is None else batch_format.likely_count(row.records_count, topics_of(row.topics), row.records)
    )


def _fault(row: Row, stream: str) -> str | None:
    """Return what is wrong with a readable row; None if it is as it was written."""
    if decoded(row, stream) is not None:
        return None
    try:
        crc = batch_format.checksum(row.records, row.id, row.records_count, row.appended_at, row.topics)
    except TypeError:  # a column of another kind than was written
        crc = None
    return "the checksum is wrong" if crc != row.crc else "the records cannot be parsed"


def _only_topic(row: Row | None) -> str | None:
    topics = list(topics_of(row.topics)) if row is not None else []
    return topics[0] if len(topics) == 1 else None
