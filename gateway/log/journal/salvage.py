"""Salvage: copies what :mod:`.check` can read of a damaged journal to a new one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from gateway.errors import Broken, JournalUnavailable
from gateway.log.journal import files
from gateway.log.journal.check import CheckedJournal, JournalReport
from gateway.log.journal.files import FILE_NAME
from gateway.log.journal.sqlite_errors import translated
from gateway.log.journal.storage import Store

#: Folder of the unfinished copy within the new one, so that a journal appears only when it is complete.
_UNFINISHED: Final = "salvage.unfinished"


def salvage(folder: Path, to: Path) -> JournalReport:
    """Copy the readable records into a new journal. Offsets, times and positions stay; the original is not changed.

    Args:
        folder: the damaged journal; its gateway must be stopped, otherwise records that arrive meanwhile are missing.
        to: created if it is missing; must not contain a journal.

    Raises:
        Broken: ``to`` contains a journal already. Otherwise as :func:`.check.check`; JournalUnavailable also if ``to``
            cannot be written. Then nothing is left in it that prevents a second try.
    """
    if (to / FILE_NAME).exists():
        raise Broken(f"{to}: there is a journal already; give a folder without one")
    with closing(CheckedJournal(folder)) as source:
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


def _copy(source: CheckedJournal, to: Path) -> None:
    """Write all readable records into a journal in ``to``, durably, with an empty write-ahead log."""
    Store(to, is_writer=True).close()
    with closing(sqlite3.connect(files.uri(to / FILE_NAME, "rw"), uri=True, isolation_level=None)) as target:
        target.execute("BEGIN")
        target.executemany("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?)", source.rows())
        streams = [(number, stream.name, stream.floor) for number, stream in source.by_number.items()]
        target.executemany("INSERT INTO stream VALUES (?, ?, ?)", streams)
        positions = [(*place, position) for place, position in (source.report.cursors or {}).items()]
        target.executemany("INSERT INTO cursor VALUES (?, ?, ?)", positions)
        target.execute("COMMIT")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _sync(folder: Path) -> None:
    """Make the names in a folder durable: a power cut may undo a rename."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
