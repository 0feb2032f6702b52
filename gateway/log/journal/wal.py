"""What SQLite's recovery leaves behind in the write-ahead log, and says nothing of.

After a crash SQLite takes up the log to the last commit before the first frame whose checksum is wrong
(https://www.sqlite.org/fileformat2.html#walformat). For a torn end that is right: that commit never returned. But one
flipped bit in the middle drops every commit behind it, which were acknowledged, without a word.

The checksum of a frame goes on from that of the frame before it, as stored. So frames behind a bad one can still be
told sound from garbage, each held against its predecessor. A run of sound frames that holds

* two commits or more was written by transactions that followed each other: they are lost for certain;
* one commit may be lost, or may be what a failed transaction left: after an error SQLite writes the next one over
  the frames of the failed one, and those of a longer one stick out behind it. Such a commit was never acknowledged.

How far SQLite got stands in the head of the ``-shm`` file (https://www.sqlite.org/walformat.html#the_wal_index_header),
so only what is behind it is read, which is nothing but after trouble.
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
#: Frames that are looked at behind the last good one; SQLite folds the log at a thousand.
_MOST_FRAMES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Leftover:
    """Sound frames behind a bad one.

    Args:
        pages: how many.
        commits: transactions that end among them.
        mark: tells this log and place from any other.
    """

    pages: int
    commits: int
    mark: str

    @property
    def is_certain(self) -> bool:
        """Acknowledged commits are lost; otherwise it may be the rest of one that failed."""
        return self.commits > 1


def examine(database: Path) -> tuple[Leftover, Path | str] | None:
    """What recovery drops though it is sound, and where a copy of it is; None when there is nothing, as it should be.

    Call it before the database is opened for writing, with nobody else at it: its own connection makes SQLite recover,
    and closing that folds the log into the file. Instead of a copy there is a reason when there is no room for one.
    Never raises: a file that cannot be read is told of by whoever opens it next.
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
    """What recovery will drop though it is sound, by the log's bytes alone: nothing is opened as a database or changed.

    Reads the whole log, where :func:`examine` is told by SQLite how far it got.
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
    """Frames up to the last commit before the first one that is not sound: what SQLite takes up."""
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
    """Put the log aside, for a person. Trouble found again by a gateway that is started over makes no second copy."""
    copy = log.with_name(f"{log.name}.damaged-{found.mark}")
    try:
        if not copy.exists():
            shutil.copyfile(log, copy)
            files.narrow(copy)
    except OSError as exc:
        return f"none: {exc.strerror}"
    return copy


def _page_size(database: Path, log: BinaryIO) -> int:
    """By the file's head; a file that has had no checkpoint yet is empty, and the log's head must do."""
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
    if _sum(head[:24], (0, 0), order) != _WAL_HEAD.unpack(head)[6:]:  # then SQLite has taken nothing at all
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
        if frame_salts != salts:  # of an earlier round, and so are all behind it; or a single one whose salt is damaged
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
