"""Copying out of a damaged journal what can be read, into a new one; how it is read says :mod:`.inspection`."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from gateway.errors import Broken, JournalUnavailable
from gateway.log.journal import files
from gateway.log.journal.inspection import Source
from gateway.log.journal.report import Report
from gateway.log.journal.sqlite_errors import translated
from gateway.log.journal.store import FILE_NAME, Store

#: What is not whole yet has a folder of its own in the new one, so that a journal is there when all of it is.
_UNFINISHED: Final = "salvage.unfinished"


def salvage(folder: Path, to: Path) -> Report:
    """Copy what can be read into a new journal. Offsets, times and positions stay; the original is not touched.

    Args:
        folder: the damaged journal; its gateway must be stopped, or what arrives meanwhile is missing.
        to: made if it is not there; must not hold a journal.

    Raises:
        Broken: ``to`` holds a journal already. Else as :func:`inspect`; JournalUnavailable also when ``to`` cannot be
            written. Then nothing is left in it that refuses a second try.
    """
    if (to / FILE_NAME).exists():
        raise Broken(f"{to}: there is a journal already; give a folder without one")
    with closing(Source(folder)) as source:
        unfinished = to / _UNFINISHED
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of one that was killed
            files.make_folder(unfinished)
            _copy(source, unfinished)
            os.replace(unfinished / FILE_NAME, to / FILE_NAME)
            _sync(to)
        except OSError as exc:
            raise JournalUnavailable(f"{to}: cannot be written: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            raise translated(exc, to / FILE_NAME) from exc
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return source.report


def _copy(source: Source, to: Path) -> None:
    """Write all that can be read into a journal in ``to``, durably, with nothing left in its log."""
    Store(to, is_writer=True).close()
    with closing(sqlite3.connect(files.uri(to / FILE_NAME, "rw"), uri=True, isolation_level=None)) as target:
        target.execute("BEGIN")
        for row in source.rows():
            target.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)", row)
        target.executemany(
            "INSERT INTO stream VALUES (?, ?, ?)",
            [(number, stream.name, stream.floor) for number, stream in source.by_number.items()],
        )
        target.executemany(
            "INSERT INTO cursor VALUES (?, ?, ?)",
            [(name, stream, position) for (name, stream), position in (source.report.cursors or {}).items()],
        )
        target.execute("COMMIT")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _sync(folder: Path) -> None:
    """Make the names in a folder durable: a power cut may undo a rename."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
