"""Commits in the write-ahead log that SQLite drops silently.

After a crash SQLite applies the log up to the last commit before the first frame whose checksum is wrong
(https://www.sqlite.org/fileformat2.html#walformat). For a torn end that is right: that commit never returned. But one
flipped bit in the middle silently drops every commit behind it, which were acknowledged.

The checksum of a frame continues that of the previous frame, as stored. So sound frames behind a bad one can still be
distinguished from garbage by a comparison of each with its predecessor. A run of sound frames that contains

* two commits or more was written by consecutive transactions: they are certainly lost;
* one commit may be lost, or may be the remains of a failed transaction: after an error SQLite writes the next one over
  the frames of the failed one, and the last frames of a longer one remain behind it. Such a commit was never
  acknowledged.

The head of the ``-shm`` file has the last frame that SQLite applied
(https://www.sqlite.org/walformat.html#the_wal_index_header), so only frames behind it are read; normally there is none.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final, NamedTuple

import structlog

from gateway.log.journal import files
from gateway.telemetry.metrics import METRICS

_HEAD: Final = struct.Struct(">8I")
_FRAME_HEAD: Final = struct.Struct(">6I")
#: The index header in the machine's byte order: the number of the last valid frame.
_LAST_FRAME: Final = struct.Struct("=16xI")
#: At most so many frames are read behind the last good one; SQLite makes a checkpoint at a thousand.
_MOST_FRAMES: Final = 100_000
_PAGE_SIZE_AT: Final = 16
_FILE_HEAD_BYTES: Final = 65536

_log = structlog.get_logger("gateway.journal")


class Dropped(NamedTuple):
    """Sound frames behind a bad one.

    Args:
        pages: number of frames.
        commits: number of transactions that end among them.
        mark: identifies this log and place.
        copy: path of a copy of the log, or the reason why there is none; empty if none was asked for.
    """

    pages: int
    commits: int
    mark: str
    copy: str = ""

    @property
    def is_certain(self) -> bool:
        """Whether acknowledged commits are lost; otherwise it may be the remains of a failed one."""
        return self.commits > 1


def report_dropped(database: Path) -> None:
    """Count and log what recovery drops, and keep a copy of the log. Call it before the database is opened."""
    found = dropped(database, keeps_log=True)
    if found is None:
        return
    about = {"commits": found.commits, "pages": found.pages, "copy": found.copy}
    if not found.is_certain:
        _log.warning(
            "journal.commit_dropped",
            **about,
            advice="one commit is behind damage in the write-ahead log: one that failed and was answered 503, "
            "or one that a disk or memory fault has cost",
        )
        return
    METRICS.counter("gateway_journal_damaged_segments").inc(found.commits)
    _log.error(
        "journal.commits_lost",
        **about,
        advice="commits are behind damage in the write-ahead log and cannot be read; the copy keeps them for "
        "salvage by hand; replace the disk or memory at fault",
    )


def dropped(database: Path, *, keeps_log: bool = False) -> Dropped | None:
    """Return what recovery drops; None if nothing.

    Its connection must be the only one: it makes SQLite recover, and closing it copies the log into the file. Never
    raises: the next open reports a file that cannot be read.

    Args:
        database: the database file.
        keeps_log: copy a log of which something is dropped.
    """
    log = _log_of(database)
    try:
        if log.stat().st_size <= _HEAD.size:
            return None
        with closing(sqlite3.connect(files.uri(database, "rw"), uri=True)) as db:
            with suppress(sqlite3.Error):  # the file is damaged too; the log was recovered nevertheless
                db.execute("PRAGMA query_only=1")
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with log.open("rb") as file, database.with_name(f"{database.name}-shm").open("rb") as index:
                (applied,) = _LAST_FRAME.unpack(index.read(_LAST_FRAME.size))
                found = _behind(file, applied, _page_size(database))
            return found._replace(copy=_kept(log, found)) if found is not None and keeps_log else found
    except (OSError, struct.error, sqlite3.Error):
        return None


def dropped_in_copy(database: Path) -> Dropped | None:
    """Return what recovery would drop, without a change: SQLite recovers a copy of the log and of the file's head.

    Raises:
        OSError: the log cannot be copied.
    """
    if not _log_of(database).exists():
        return None
    with TemporaryDirectory() as folder:
        copy = Path(folder, database.name)
        shutil.copyfile(_log_of(database), _log_of(copy))
        with database.open("rb") as file:
            copy.write_bytes(file.read(_FILE_HEAD_BYTES))
        return dropped(copy)


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _kept(log: Path, found: Dropped) -> str:
    """Copy the log for an operator; return the path. A restart that finds the same damage makes no second copy."""
    copy = log.with_name(f"{log.name}.damaged-{found.mark}")
    try:
        if not copy.exists():
            shutil.copyfile(log, copy)
            files.narrow(copy)
    except OSError as exc:
        return f"none: {exc.strerror}"
    return str(copy)


def _page_size(database: Path) -> int:
    with database.open("rb") as file:
        file.seek(_PAGE_SIZE_AT)
        size = int.from_bytes(file.read(2), "big")
    return 65536 if size == 1 else size


def _behind(file: BinaryIO, applied: int, page_size: int) -> Dropped | None:
    """Return the sound frames behind the applied ones."""
    head = file.read(_HEAD.size)
    magic, _, _, _, *salts, _, _ = _HEAD.unpack(head)
    order = ">" if magic & 1 else "<"
    size = _FRAME_HEAD.size + page_size
    if _sum(head[:24], (0, 0), order) != _HEAD.unpack(head)[6:]:  # then SQLite has applied nothing
        salts = list(_FRAME_HEAD.unpack(file.read(_FRAME_HEAD.size))[2:4])
    file.seek(_HEAD.size + applied * size)
    before: tuple[int, int] | None = None
    pages = commits = 0
    has_stranger = False
    for _ in range(_MOST_FRAMES):
        frame = file.read(size)
        if len(frame) < size:
            break
        _, truncated_to, *frame_salts, first, second = _FRAME_HEAD.unpack_from(frame)
        if frame_salts != salts:  # of an earlier round, as all behind it; or a single frame with a damaged salt
            if has_stranger:
                break
            has_stranger = True
        elif before is not None:
            sums = _sum(frame[_FRAME_HEAD.size :], _sum(frame[:8], before, order), order)
            if sums == (first, second):
                pages += 1
                commits += truncated_to > 0
            elif commits:
                break
        before = (first, second)
    return Dropped(pages, commits, f"{salts[0]:08x}-{applied}") if commits else None


def _sum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
