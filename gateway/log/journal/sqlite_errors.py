"""Errors of SQLite as errors of the gateway, sorted by what to do next.

One table has the advice for each result code (https://www.sqlite.org/rescode.html). The extended code is looked up
first, then its low byte, the primary code.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.errors import JournalDamaged, JournalUnavailable
from gateway.log.journal.files import ACCESS

#: Advice for all other codes, and for errors of the Python module itself, such as for a closed connection.
REPORT: Final = "restart the gateway; when it comes again, report it with this line"
_FULL: Final = "the disk is full: free space, or enlarge the volume"
_LOCKED: Final = "another program holds the file locked: end it (a backup, or an sqlite3 shell)"
_MEMORY: Final = "the process or the machine has no memory left: raise the limit"

#: By result code: what to do about an error that may end without a restart, on its own or after that was done.
_PASSING: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: "the disk failed: see the kernel's log, the quota of the volume and the health of the disk",
    sqlite3.SQLITE_IOERR_NOMEM: _MEMORY,
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,
    sqlite3.SQLITE_READONLY: f"the file is read-only: {ACCESS}",
    sqlite3.SQLITE_READONLY_DBMOVED: "the file was moved or deleted under the gateway: put it back",
    sqlite3.SQLITE_CANTOPEN: f"a file cannot be opened: {ACCESS}, and the limit of open files (ulimit -n)",
    sqlite3.SQLITE_PERM: f"the file cannot be used: {ACCESS}",
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: "another program holds the file locked, or the file system has no working locks (NFS)",
    sqlite3.SQLITE_NOMEM: _MEMORY,
}
#: The same for errors that do not end.
_LASTING: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_AUTH: f"the file cannot be used: {ACCESS}",
    sqlite3.SQLITE_NOLFS: "the file system cannot hold files of this size: move the journal to another one",
    sqlite3.SQLITE_TOOBIG: "one commit is too large for a row: lower ingest.max_body_bytes",
    sqlite3.SQLITE_CONSTRAINT: "the file holds rows that this process did not write: see that no other program writes "
    "to it, then restart the gateway",
    sqlite3.SQLITE_SCHEMA: "another program changed the tables of the file: end it, then restart the gateway",
}
ADVICE: Final = {**_PASSING, **_LASTING}


def may_pass(exc: BaseException | None) -> bool:
    """Return whether the same operation may succeed later, so that a retry is useful."""
    return _code(exc) & 0xFF in _PASSING


def advice(exc: sqlite3.Error) -> str:
    """Return what to do about an error of SQLite."""
    code = _code(exc)
    return ADVICE.get(code) or ADVICE.get(code & 0xFF, REPORT)


def is_damage(exc: sqlite3.Error) -> bool:
    """Return whether the file is not sound; otherwise the operation is refused and may succeed later."""
    return _code(exc) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def translated(exc: sqlite3.Error, path: Path) -> JournalUnavailable | JournalDamaged:
    """Return the gateway's error for an error of SQLite.

    Args:
        exc: raised by an operation that stored nothing.
        path: the database file.
    """
    if is_damage(exc):
        return damaged(path, str(exc))
    name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    return JournalUnavailable(f"{path}: SQLite refused: {exc} ({name}); {advice(exc)}")


def damaged(path: Path, reason: str) -> JournalDamaged:
    """Return the error for a damaged file.

    Args:
        path: the database file.
        reason: how the damage was noticed.
    """
    return JournalDamaged(
        f"{path}: the file is damaged ({reason}); stop the gateway, run 'gateway journal check' to see what can be "
        "read and 'gateway journal salvage' to copy that to a new journal"
    )


def _code(exc: BaseException | None) -> int:
    """Return the extended result code of an error of SQLite; 0 if it has none."""
    return getattr(exc, "sqlite_errorcode", None) or 0
