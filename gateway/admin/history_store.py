"""The file of the charts: SQLite in the journal's folder, a row for each point, used from one thread, without asyncio.

A row has the values of a point as two columns: numbers of names (16 bits) and values (32-bit floats). Names are stored
once. An hour in steps of 10 s, a day in minutes and a week in quarters of an hour are 2,472 points: 1 MB with ten
subscribers, 15 MB at the bound of :data:`MOST_SERIES`. Older rows are deleted.

The file holds nothing essential: one that is damaged, or of another version, is deleted and created again.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from gateway.log.journal import files

FILE_NAME: Final = "history.sqlite"
_APPLICATION_ID: Final = 0x4E584849  # "NXHI"
_VERSION: Final = 1
#: Values of one point; the most important ones are kept.
MOST_SERIES: Final = 1000
#: Names in the file: what 16 bits can number.
_MOST_NAMES: Final = 65_535
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS point (
  step REAL NOT NULL, at REAL NOT NULL, took REAL NOT NULL, names BLOB NOT NULL, vals BLOB NOT NULL,
  PRIMARY KEY (step, at)
) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """One point.

    Args:
        step_s: of its ring.
        at: when it begins, Unix seconds.
        took_s: how long it lasted, in seconds.
        values: by name of the series.
    """

    step_s: float
    at: float
    took_s: float
    values: Mapping[str, float]


class HistoryStore:
    """One connection to the file. Every method blocks, and may raise :class:`sqlite3.Error`.

    Args:
        folder: of the file; None: everything is in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            path = folder / FILE_NAME
            with suppress(OSError):  # SQLite raises its own error for the same reason
                files.make_database(path)
            address = files.uri(path, "rw")
        self._db = sqlite3.connect(
            "file::memory:" if folder is None else address,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5.0,
        )
        try:
            self._prepare()
            self._names = {str(name): int(number) for number, name in self._db.execute("SELECT id, name FROM name")}
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        found = (db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0])
        is_new = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if not is_new and found != (_APPLICATION_ID, _VERSION):
            raise sqlite3.DatabaseError("it is not of this version")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if is_new:
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_VERSION}")
        db.executescript(_SCHEMA)
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("it is damaged")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(self, rows: Sequence[Row], keep_s: Mapping[float, float]) -> None:
        """Store points, in place of those with the same step and beginning, and delete old ones.

        Args:
            rows: the points.
            keep_s: how long the points of each step are kept.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for row in rows:
                known = ((self._number(name), value) for name, value in row.values.items())
                numbers = {number: value for number, value in known if number is not None}
                packed = array("H", numbers).tobytes(), array("f", numbers.values()).tobytes()
                db.execute("INSERT OR REPLACE INTO point VALUES (?, ?, ?, ?, ?)", (*row[:3], *packed))
                oldest = row.at + row.took_s - keep_s[row.step_s]
                db.execute("DELETE FROM point WHERE step = ? AND at < ?", (row.step_s, oldest))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._names = {str(name): int(number) for number, name in db.execute("SELECT id, name FROM name")}
            raise

    def read(self, step_s: float, since: float) -> list[Row]:
        """Return the points of a step that begin after a time (Unix seconds), oldest first."""
        names = {number: name for name, number in self._names.items()}
        return [
            Row(step_s, at, took, dict(zip(map(names.__getitem__, array("H", keys)), array("f", vals), strict=True)))
            for at, took, keys, vals in self._db.execute(
                "SELECT at, took, names, vals FROM point WHERE step = ? AND at > ? ORDER BY at", (step_s, since)
            )
        ]

    def _number(self, name: str) -> int | None:
        """Return the number of a name; None if there is no room for another one."""
        number = self._names.get(name)
        if number is None and len(self._names) < _MOST_NAMES:
            number = self._names[name] = max(self._names.values(), default=0) + 1
            self._db.execute("INSERT INTO name VALUES (?, ?)", (number, name))
        return number


def remove(folder: Path) -> None:
    """Delete the file; no process may have it open."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
