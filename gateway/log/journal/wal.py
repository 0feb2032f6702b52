"""Sound commits in the write-ahead log that SQLite's recovery drops without a report.

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
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gateway.log.journal import files

_WAL_HEAD: Final = struct.Struct(">8I")
_FRAME_HEAD: Final = struct.Struct(">6I")
#: The index header in the machine's byte order: the number of the last valid frame, then its two checksums.
_SHM_MX_FRAME: Final = struct.Struct("=16xI")
#: At most so many frames are read behind the last good one; SQLite makes a checkpoint at a thousand.
_MOST_FRAMES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Leftover:
    """Sound frames behind a bad one.

    Args:
        pages: number of frames.
        commits: number of transactions that end among them.
        mark: identifies this log and place.
    """

    pages: int
    commits: int
    mark: str

    @property
    def is_certain(self) -> bool:
        """Whether acknowledged commits are lost; otherwise it may be the remains of a failed one."""
        return self.commits > 1


def examine(database: Path) -> tuple[Leftover, Path | str] | None:
    """Return the sound frames that recovery drops, and the path of a copy of the log; None if it drops none.

    Call it before the database is opened for writing, without another connection: its own connection makes SQLite
    recover, and closing that copies the log into the file. If there is no room for a copy, the reason is returned
    instead of the path. Never raises: the next open reports a file that cannot be read.
    """
    log = database.with_name(database.name + "-wal")
    if not log.exists() or log.stat().st_size <= _WAL_HEAD.size:
        return None
    try:
        with closing(sqlite3.connect(files.uri(database, "rw"), uri=True)) as db:
            db.execute("PRAGMA query_only=1")
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with log.open("rb") as file, database.with_name(database.name + "-shm").open("rb") as shm:
                (taken,) = _SHM_MX_FRAME.unpack(shm.read(_SHM_MX_FRAME.size))
                found = _behind(file, taken, _page_size(database, file))
            return None if found is None else (found, _kept(log, found))
    except (OSError, struct.error, sqlite3.Error):
        return None


def read(log: Path) -> Leftover | None:
    """Return the sound frames that recovery will drop, from the bytes of the log alone; nothing is changed.

    It reads the whole log, whereas :func:`examine` gets the last applied frame from SQLite.
    """
    if not log.exists() or log.stat().st_size <= _WAL_HEAD.size:
        return None
    with log.open("rb") as file:
        page_size = _WAL_HEAD.unpack(file.read(_WAL_HEAD.size))[2]
        if page_size == 1 or page_size & (page_size - 1) or not 512 <= page_size <= 32768:
            page_size = 65536 if page_size == 1 else 4096  # the head is damaged: SQLite's own default
        file.seek(0)
        taken = _taken(file, page_size)
        file.seek(0)
        return _behind(file, taken, page_size)


def _taken(file: BinaryIO, page_size: int) -> int:
    """Return the number of frames that SQLite applies: up to the last commit before the first bad frame."""
    head = file.read(_WAL_HEAD.size)
    magic, _, _, _, *salts, _, _ = _WAL_HEAD.unpack(head)
    order = ">" if magic & 1 else "<"
    sums = _sum(head[:24], (0, 0), order)
    if sums != _WAL_HEAD.unpack(head)[6:]:
        return 0
    taken, size = 0, _FRAME_HEAD.size + page_size
    for number in range(1, _MOST_FRAMES + 1):
        frame = file.read(size)
        if len(frame) < size:
            break
        _, truncated_to, *frame_salts, first, second = _FRAME_HEAD.unpack_from(frame)
        sums = _sum(frame[_FRAME_HEAD.size :], _sum(frame[:8], sums, order), order)
        if frame_salts != salts or sums != (first, second):
            break
        if truncated_to:
            taken = number
    return taken


def _kept(log: Path, found: Leftover) -> Path | str:
    """Copy the log for an operator. A restarted gateway that finds the same damage makes no second copy."""
    copy = log.with_name(f"{log.name}.damaged-{found.mark}")
    try:
        if not copy.exists():
            shutil.copyfile(log, copy)
            files.narrow(copy)
    except OSError as exc:
        return f"none: {exc.strerror}"
    return copy


def _page_size(database: Path, log: BinaryIO) -> int:
    """Return the page size from the file's head, or from the log's head if the file is still empty."""
    with database.open("rb") as file:
        head = file.read(18)
    size = int.from_bytes(head[16:], "big") if len(head) == 18 else _WAL_HEAD.unpack(log.read(_WAL_HEAD.size))[2]
    log.seek(0)
    return 65536 if size == 1 else size


def _behind(file: BinaryIO, taken: int, page_size: int) -> Leftover | None:
    head = file.read(_WAL_HEAD.size)
    magic, _, _, _, *salts, _, _ = _WAL_HEAD.unpack(head)
    order = ">" if magic & 1 else "<"
    size = _FRAME_HEAD.size + page_size
    if _sum(head[:24], (0, 0), order) != _WAL_HEAD.unpack(head)[6:]:  # then SQLite has applied nothing
        salts = list(_FRAME_HEAD.unpack(file.read(_FRAME_HEAD.size))[2:4])
    file.seek(_WAL_HEAD.size + taken * size)
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
    return Leftover(pages, commits, f"{salts[0]:08x}-{taken}") if commits else None


def _sum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
