"""Read the readable parts of a journal, for a report or a copy. The journal itself is never written.

SQLite does not verify its pages. Each row has a checksum, which covers its key too: a sound row belongs where its key
says, wherever it is found. Offsets of a stream have no gaps, so damage is what is missing between its first kept offset
and its head, also if the bytes are gone. If SQLite refuses a page, reading continues at the next key that it reaches;
its trees are not repaired here: ``sqlite3 .recover`` may find more. Commits that SQLite drops from the write-ahead log
without a word are counted (:mod:`.wal`).

While a gateway runs, :func:`check` reads in sections, each as of the newest commit: a checkpoint copies nothing
that is newer than the snapshot of a reader, so a snapshot that is held for long makes the log grow. Within one
snapshot, rows and floors are of the same commit, so records which retention removes meanwhile are no damage.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.errors import Broken, JournalDamaged
from gateway.log.journal import batch_format, files, wal
from gateway.log.journal.batch_format import EVENTS, MASK, SHIFT, stream_of
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.rows import decoded, tolerant, topics_of
from gateway.log.journal.sqlite_errors import translated

#: Bytes read of one snapshot. With ten times more, on a slow disk, the log grows for seconds; ten times less gains
#: nothing, because checkpoints are further apart.
_SNAPSHOT_BYTES: Final = 16 * 1024 * 1024
#: The key behind all streams.
_END: Final = 1 << 63

#: A row of the table ``segment``, in the order of its columns.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """Offsets that cannot be read, first to last, and what is wrong with them."""

    stream: str
    first: int
    last: int
    reason: str

    def __str__(self) -> str:
        return f"{self.stream} offsets {self.first} to {self.last}: {self.reason}"


@dataclass(slots=True)
class StreamReport:
    """One stream.

    Args:
        name: its name; derived from its records if the table of names is damaged.
        floor: first offset that was not trimmed.
        head: offset behind the last known record.
        records: number of readable records.
        size_bytes: bytes of the readable records.
        damages: damaged ranges in the order of offsets.
    """

    name: str
    floor: int
    head: int
    records: int = 0
    size_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)


@dataclass(slots=True)
class JournalReport:
    """A whole journal.

    Args:
        streams: in the order of their numbers.
        problems: what is wrong with the file beyond single records, one sentence each.
        notes: findings that may be damage, or remains of a failed commit, whose callbacks were not answered with
            success.
        cursors: durable positions, or None if they cannot be read.
    """

    streams: list[StreamReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cursors: dict[tuple[str, str], int] | None = None

    @property
    def damages(self) -> list[Damage]:
        """Damaged ranges of all streams."""
        return [damage for stream in self.streams for damage in stream.damages]

    @property
    def is_sound(self) -> bool:
        """Whether everything that was stored can be read."""
        return not self.problems and not self.damages


def check(folder: Path, on_read: Callable[[int], object] = lambda size: None) -> JournalReport:
    """Read everything once and return a report of it.

    Args:
        folder: folder of the journal; its gateway may run, and is not disturbed.
        on_read: called with the number of bytes of each row that was read, to show progress.

    Raises:
        Broken: there is no journal in the folder.
        JournalDamaged: the file cannot be opened as a journal at all.
        JournalUnavailable: the disk refuses.
    """
    with closing(CheckedJournal(folder, is_live=True)) as source:
        for row in source.rows():
            on_read(len(row[5]))
        return source.report


class CheckedJournal:
    """One journal, opened for reading only.

    Args:
        folder: folder of the journal.
        is_live: its gateway may run, and is not disturbed.

    Raises: as :func:`check`.
    """

    def __init__(self, folder: Path, *, is_live: bool = False) -> None:
        path = folder / FILE_NAME
        if not path.exists():
            raise Broken(f"{folder}: there is no journal; name its folder, the one with {FILE_NAME}")
        self._db = _open(path)
        self._db.text_factory = tolerant
        self._is_live = is_live
        self.report = JournalReport()
        self.by_number: dict[int, StreamReport] = {}
        self._floors: dict[int, int] = {}  # as of the newest snapshot
        self._sound: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # ranges of offsets that were read
        self._doubtful: list[tuple[int, int, str]] = []  # first key of a row that is not sound, key behind it, reason
        try:
            self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as exc:
            self._db.close()
            raise JournalDamaged(f"{path}: nothing can be read: {exc}; restore the file from a copy") from exc
        self._note_dropped(path)
        self._db.execute("BEGIN")
        self._read_small_tables()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self) -> Iterator[Row]:
        """Yield each sound row once, in the order of the file, and complete the report at the end."""
        before = -1
        for key, row in self._scan():
            if key <= before:
                where = f"offset {before & MASK} and {key & MASK}"
                self.report.problems.append(
                    f"rows are not in order: the key of one is damaged, or one is duplicated, {where}"
                )
            before = key
            reason = "the pages cannot be read" if row is None else _fault(row)
            if row is None or reason:
                self._doubtful.append((key, key + _likely_count(row), reason))
            elif self._is_new(row):
                yield row
        for number, stream in self.by_number.items():
            self._complete(number, stream)
        for key, _, reason in self._doubtful:
            if not self._is_named(key >> SHIFT, key & MASK):
                where = f"stream {key >> SHIFT} at offset {key & MASK}"
                self.report.problems.append(f"{where}: a row that is out of place; its key is damaged: {reason}")

    def _is_new(self, row: Row) -> bool:
        """Count a sound row; return False if it was read before."""
        number, first, end = row[0] >> SHIFT, row[0] & MASK, (row[0] & MASK) + row[1]
        known = self._sound[number]
        if any(start <= first < behind for start, behind in known):
            return False
        if known and known[-1][1] == first:
            first, _ = known.pop()
        known.append((first, end))
        stream = self.by_number.get(number) or self._unnamed(number, row)
        stream.records += row[1]
        stream.size_bytes += len(row[5])
        return True

    def _complete(self, number: int, stream: StreamReport) -> None:
        """Name what is missing in a stream."""
        at = max(stream.floor, self._floors.get(number, 0))
        known = [(first, behind) for first, behind in sorted(self._sound[number]) if behind > at]
        last = max((behind for _, behind in known), default=at)
        beyond = range(number << SHIFT | last, (number + 1) << SHIFT)
        stream.head = max([last, *(end & MASK for key, end, _ in self._doubtful if key in beyond)])
        for first, behind in (*known, (stream.head, stream.head)):
            if first > at:
                keys = range(number << SHIFT | at, number << SHIFT | first)
                reasons = (reason for key, _, reason in self._doubtful if key in keys)
                reason = next(reasons, "the pages cannot be read")
                stream.damages.append(Damage(stream.name, at, first - 1, reason))
            at = max(at, behind)
        positions = [at for (_, name), at in (self.report.cursors or {}).items() if name == stream.name]
        reached = max(positions, default=0)
        if reached > stream.head:  # a reader has been beyond the last record that is left
            stream.damages.append(Damage(stream.name, stream.head, reached - 1, "missing at the end"))
            stream.head = reached

    def _is_named(self, number: int, offset: int) -> bool:
        """Return whether an offset is among the damages, or was trimmed meanwhile."""
        stream = self.by_number.get(number)
        if stream is None:
            return False
        is_trimmed = stream.floor <= offset < self._floors.get(number, 0)
        return is_trimmed or any(one.first <= offset <= one.last for one in stream.damages)

    # -- rows ---------------------------------------------------------------------------------------------------

    def _scan(self) -> Iterator[tuple[int, Row | None]]:
        """Yield every reachable row in the order of the file, with its key; None if only the key can be read."""
        at: int | None = 0
        while at is not None:
            try:
                for row in self._sections(at):
                    yield row[0], row
                    at = max(at, row[0] + 1)
                return
            except sqlite3.DatabaseError:
                at = self._key_behind(at)
            if at is not None:
                yield at, self._row(at)
                at += 1

    def _sections(self, at: int) -> Iterator[Row]:
        """Yield the rows from a key on, in sections of one snapshot each.

        A section ends only behind a row that begins where the previous one ends: its key is certainly right.
        """
        is_more = True
        while is_more:
            is_more, size, behind = False, 0, -1
            with closing(self._db.execute("SELECT * FROM segment WHERE id >= ? ORDER BY id", (at,))) as rows:
                for row in rows:
                    yield row
                    key, count, *_, records = row
                    size += len(records) if isinstance(records, bytes) else 1
                    if self._is_live and size >= _SNAPSHOT_BYTES and key == behind:
                        is_more, at = True, key + 1
                        break
                    behind = key + count if isinstance(count, int) else -1
            if is_more:
                self._renew()

    def _renew(self) -> None:
        """Replace the snapshot by the newest one: records that retention removed meanwhile are no damage."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.execute("BEGIN")
        with suppress(sqlite3.DatabaseError):  # reported when it was read first
            self._read_streams()

    def _key_behind(self, at: int) -> int | None:
        """Return the next reachable key behind a page that cannot be read; None if there is none.

        Doubling steps, then bisection.
        """
        failing, probe, found = at - 1, at, None
        while probe < _END:
            try:
                found = self._next_key(probe)
                break
            except sqlite3.DatabaseError:
                failing, probe = probe, probe + 2 * (probe - failing)
        while found is not None and probe - failing > 1:
            middle = (probe + failing) // 2
            try:
                found, probe = self._next_key(middle), middle
            except sqlite3.DatabaseError:
                failing = middle
        if found is None or found >> SHIFT != at >> SHIFT:  # no row behind shows how many records there were
            stream = self.by_number.get(at >> SHIFT)
            where = f"{stream.name} from offset {at & MASK} on" if stream is not None else "the table of records"
            problem = f"{where}: the pages cannot be read, and how many records they held is not known"
            self.report.problems.append(problem)
        return found

    def _next_key(self, at: int) -> int | None:
        row = self._db.execute("SELECT id FROM segment WHERE id >= ? ORDER BY id LIMIT 1", (at,)).fetchone()
        return int(row[0]) if row is not None else None

    def _row(self, key: int) -> Row | None:
        with suppress(sqlite3.DatabaseError):
            row: Row | None = self._db.execute("SELECT * FROM segment WHERE id = ?", (key,)).fetchone()
            return row
        return None

    # -- small tables -------------------------------------------------------------------------------------------

    def _read_small_tables(self) -> None:
        problems = self.report.problems
        try:
            self._read_streams()
        except sqlite3.DatabaseError as exc:
            problems.append(f"the table of streams cannot be read: {exc}")
        try:
            rows = self._db.execute("SELECT name, stream, position FROM cursor")
            self.report.cursors = {(str(name), str(stream)): int(position) for name, stream, position in rows}
        except (sqlite3.DatabaseError, ValueError) as exc:
            problems.append(f"the readers' positions cannot be read: {exc}; they start over")

    def _read_streams(self) -> None:
        for number, name, floor in self._db.execute("SELECT id, name, floor FROM stream ORDER BY id"):
            self._floors[number] = floor
            if number not in self.by_number:
                self._add(number, StreamReport(str(name), floor, floor))

    def _add(self, number: int, stream: StreamReport) -> StreamReport:
        self.by_number[number] = stream
        self.report.streams.append(stream)
        return stream

    def _unnamed(self, number: int, row: Row) -> StreamReport:
        """Return a report for a stream whose name is lost; its records show whether it was an internal one."""
        topics = list(topics_of(row[3]))
        name = stream_of(topics[0]) if len(topics) == 1 else EVENTS
        if any(stream.name == name for stream in self.by_number.values()):
            name = f"internal.salvaged-{number}"
        self.report.problems.append(f"the name of stream {number} is lost; by its records it is {name}")
        return self._add(number, StreamReport(name, row[0] & MASK, row[0] & MASK))

    def _note_dropped(self, path: Path) -> None:
        try:
            found = wal.dropped_in_copy(path)
        except OSError as exc:
            self.report.notes.append(f"{path.name}-wal: it cannot be examined: {exc.strerror}")
            return
        if found is not None and found.is_certain:
            self.report.problems.append(
                f"{path.name}-wal: {found.commits} commits ({found.pages} pages) are unreadable, behind a damaged one"
            )
        elif found is not None:
            self.report.notes.append(
                f"{path.name}-wal: one commit in {found.pages} pages is behind damage: one that failed and was "
                "answered 503, or one that a disk or memory fault has cost"
            )


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
    raise translated(error, path)


def _likely_count(row: Row | None) -> int:
    """Return how many records a row that is not sound probably has, at least one."""
    return 1 if row is None else batch_format.likely_count(row[1], topics_of(row[3]), row[5])


def _fault(row: Row) -> str:
    """Return what is wrong with a row; empty if it is as it was written."""
    if decoded(row, "") is not None:
        return ""
    row_id, count, appended_at, topics, crc, records = row
    with suppress(TypeError):  # a column of another kind than was written
        if batch_format.checksum(records, row_id, count, appended_at, topics) == crc:
            return "the records cannot be parsed"
    return "the checksum is wrong"
