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

ACCESS: Final = "check the owner and the mode of the folder and its files, and whether it is mounted read-only"
_REPORT: Final = "restart the gateway; when it comes again, report it with this line"

#: Advice by result code. CORRUPT and NOTADB are missing: :func:`damaged` has theirs.
ADVICE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: "the disk is full: free space, or enlarge the volume",
    sqlite3.SQLITE_IOERR: "the disk failed: see the kernel's log, the quota of the volume and the health of the disk",
    sqlite3.SQLITE_IOERR_NOMEM: "the process or the machine has no memory left: raise the limit",
    sqlite3.SQLITE_IOERR_SHMSIZE: "the disk is full: free space, or enlarge the volume",
    sqlite3.SQLITE_READONLY: f"the file is read-only: {ACCESS}",
    sqlite3.SQLITE_READONLY_DBMOVED: "the file was moved or deleted under the gateway: put it back",
    sqlite3.SQLITE_CANTOPEN: f"a file cannot be opened: {ACCESS}, and the limit of open files (ulimit -n)",
    sqlite3.SQLITE_PERM: f"the file cannot be used: {ACCESS}",
    sqlite3.SQLITE_AUTH: f"the file cannot be used: {ACCESS}",
    sqlite3.SQLITE_BUSY: "another program holds the file locked: end it (a backup, or an sqlite3 shell)",
    sqlite3.SQLITE_LOCKED: "another program holds the file locked: end it (a backup, or an sqlite3 shell)",
    sqlite3.SQLITE_PROTOCOL: "another program holds the file locked, or the file system has no working locks (NFS)",
    sqlite3.SQLITE_NOLFS: "the file system cannot hold files of this size: move the journal to another one",
    sqlite3.SQLITE_NOMEM: "the process or the machine has no memory left: raise the limit",
    sqlite3.SQLITE_TOOBIG: "one commit is too large for a row: lower ingest.max_body_bytes",
    sqlite3.SQLITE_CONSTRAINT: "the file holds rows that this process did not write: see that no other program writes "
    "to it, then restart the gateway",
    sqlite3.SQLITE_SCHEMA: "another program changed the tables of the file: end it, then restart the gateway",
    sqlite3.SQLITE_MISMATCH: _REPORT,
    sqlite3.SQLITE_MISUSE: _REPORT,
    sqlite3.SQLITE_INTERNAL: _REPORT,
    sqlite3.SQLITE_ERROR: _REPORT,
}

#: Primary codes of errors that may end without a restart: on their own, or after an operator changed the disk.
_PASSING: Final = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
}


def may_pass(exc: BaseException | None) -> bool:
    """Return whether the same operation may succeed later, so that a retry is useful."""
    code = getattr(exc, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _PASSING


def advice(exc: sqlite3.Error) -> str:
    """Return what to do about an error of SQLite."""
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:  # raised by the Python module itself, such as for a closed connection
        return _REPORT
    return ADVICE.get(code) or ADVICE.get(code & 0xFF, _REPORT)


def is_damage(exc: sqlite3.Error) -> bool:
    """Return whether the file is not sound; otherwise the operation is refused and may succeed later."""
    code = getattr(exc, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def translated(exc: sqlite3.Error, path: Path) -> JournalUnavailable | JournalDamaged:
    """Return the gateway's error for an error of SQLite.

    Args:
        exc: raised by an operation that stored nothing.
        path: the database file.
    """
    if is_damage(exc):
        return damaged(path, str(exc))
    return JournalUnavailable(f"{path}: SQLite refused: {exc} ({name(exc)}); {advice(exc)}")


def cannot_open(exc: sqlite3.Error, path: Path) -> JournalUnavailable:
    """Return the error for a database file that SQLite does not open.

    Args:
        exc: raised by SQLite.
        path: the database file.
    """
    return JournalUnavailable(f"{path}: cannot be opened: {exc} ({name(exc)}); {advice(exc)}")


def name(exc: sqlite3.Error) -> str:
    """Return the name of the result code, such as ``SQLITE_FULL``."""
    return getattr(exc, "sqlite_errorname", None) or type(exc).__name__


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
