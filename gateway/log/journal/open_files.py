"""The open files of a journal, compared with the names that the next start will open.

An open descriptor outlives its name. After ``rm -rf`` of the folder, or when another folder replaces it, SQLite
commits into files that no start will ever find, without an error. So the journal compares device, inode and size of
the open files with those of the files that have their names:

* before a commit and before a checkpoint, if the newest comparison is older than :data:`CHECK_INTERVAL_S`, and always
  after a comparison that failed;
* every second, for the readiness of an idle gateway.

A file that shrank was truncated by another program: SQLite never shortens the database (nothing is vacuumed) or the log
(no checkpoint truncates it). A log that was truncated and has grown since has a hole, which ``SEEK_HOLE`` finds where
the file system reports holes. A file that was overwritten in place has other bytes in the constant part of its header.

The ``-shm`` file is not compared: the next start creates its contents again. Modes are not compared either: they do
not prevent storing here, and a start that they prevent reports it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from gateway.errors import GatewayError, JournalUnavailable
from gateway.telemetry.metrics import METRICS

#: Between two comparisons while commits follow each other. A comparison costs about 20 µs; with a tenth, busy threads
#: pass the interpreter lock 600 times a second for it; with ten times more, the callbacks of a second can be lost.
CHECK_INTERVAL_S: Final = 0.1
_FIXED_HEADER_BYTES: Final = 24
_WAL_HEADER_BYTES: Final = 32
#: The first three bytes of a WAL's header, whatever its byte order (https://www.sqlite.org/fileformat2.html#walformat).
_WAL_MAGIC: Final = b"\x37\x7f\x06"

_log = structlog.get_logger("gateway.journal")


class JournalMoved(JournalUnavailable):
    """The journal's files are not where the next start looks for them. The message says how to save what they hold."""


@dataclass(slots=True)
class OpenFile:
    """One open file.

    Args:
        path: its absolute name.
        fd: a descriptor of it, open as long as SQLite has the file open.
        identity: device and inode.
        size: bytes at the newest comparison.
    """

    path: Path
    fd: int
    identity: tuple[int, int]
    size: int

    @classmethod
    def of(cls, path: Path, fd: int) -> OpenFile:
        """Return the description of a file that was just opened.

        Its identity is that of the name: some network file systems number a name and an open file differently, so names
        are compared with names.

        Args:
            path: its name.
            fd: a descriptor of it.
        """
        found = os.stat(path)
        return cls(path.absolute(), fd, (found.st_dev, found.st_ino), found.st_size)

    def problem(self) -> str:
        """Return how the name and the open file differ; empty if they do not."""
        try:
            found = os.stat(self.path)
        except OSError as exc:
            return f"{self.path} is gone: {exc.strerror}"
        if (found.st_dev, found.st_ino) != self.identity:
            return f"{self.path} is another file than the one that is open"
        return ""

    def cut(self) -> str:
        """Return by how much the file has shrunk since the newest comparison; empty if it has not."""
        size = os.fstat(self.fd).st_size
        if size < self.size:
            return f"{self.path} was cut from {self.size} to {size} bytes"
        self.size = size
        return ""


class OpenFiles:
    """Compares the files of one open journal with their names.

    Args:
        database: the database file; SQLite has already opened it and its log.
        lock: the lock file.
        lock_fd: the descriptor that holds the lock.
        fold: copies the commits of the log into the database; returns whether all of them were copied.

    Raises:
        JournalUnavailable: a file cannot be opened a second time.
    """

    def __init__(self, database: Path, lock: Path, lock_fd: int, *, fold: Callable[[], bool]) -> None:
        #: What is wrong and what to do; empty if the names are those of the open files.
        self.problem = ""
        #: Whether another program changed the bytes of an open file: then nothing may be copied from the log.
        self.is_damaged = False
        self._is_folded = False
        self._fold = fold
        self._checked_at = time.monotonic()
        wal = database.with_name(database.name + "-wal")
        self._database = OpenFile.of(database, _opened(database))
        try:
            self._wal = OpenFile.of(wal, _opened(wal))
        except BaseException:
            os.close(self._database.fd)
            raise
        self._lock = OpenFile.of(lock, lock_fd)
        self._header = self._fixed_header()
        self._is_wal_whole = not self._has_hole()  # otherwise a power cut caused the hole, which recovery ignores

    def close(self) -> None:
        """Close the descriptors. Call it after SQLite closed the file: closing one drops the locks of this process."""
        for file in (self._database, self._wal):
            if file.fd >= 0:
                os.close(file.fd)
                file.fd = -1

    def check_due(self) -> None:
        """Call :meth:`check` if it is due.

        Raises:
            JournalMoved: see :meth:`check`.
        """
        if self.problem or time.monotonic() - self._checked_at >= CHECK_INTERVAL_S:
            self.check()

    def committed(self) -> None:
        """Note the size of the log after a commit: a later truncation below it is noticed."""
        self._wal.size = os.fstat(self._wal.fd).st_size

    def check(self) -> None:
        """Compare now.

        Raises:
            JournalMoved: the next start would not find what is stored now. The first time, a log line reports it.
        """
        self._checked_at = time.monotonic()
        try:
            what, advice = self._different()
        except OSError as exc:
            what, advice = f"{self._database.path.parent}: {exc.strerror}", "check the disk and the kernel's log"
        before, self.problem = self.problem, f"{what}; {advice}" if what else ""
        if what and not before:
            METRICS.counter("gateway_journal_failures").labels("moved").inc()
            _log.error("journal.moved", reason=what, advice=advice)
        elif before and not what:
            _log.warning("journal.moved_back", folder=str(self._database.path.parent))
        if what:
            raise JournalMoved(self.problem)

    def _different(self) -> tuple[str, str]:
        """Return what is wrong and what to do; empty texts if nothing is wrong."""
        what = self._damage()
        self.is_damaged = self.is_damaged or bool(what)
        if self.is_damaged:
            return what or self.problem.partition("; ")[0], (
                "another program changed the file: stop the gateway, copy the folder, run 'gateway journal check' and "
                "'gateway journal salvage'"
            )
        what = self._database.problem()
        if what:
            return what, self._rescue()
        what = self._wal.problem()
        if what:
            return what, self._folded()
        what = self._lock.problem()
        if what:
            return what, "a second gateway could use the folder: make sure that none does, then restart this one"
        return "", ""

    def _damage(self) -> str:
        """Return how another program changed the bytes of the open files; empty if none did."""
        what = self._database.cut() or self._wal.cut()
        if what:
            return what
        if self._fixed_header() != self._header:
            return f"{self._database.path} was overwritten"
        if self._wal.size < _WAL_HEADER_BYTES:
            return ""
        if os.pread(self._wal.fd, 3, 0) != _WAL_MAGIC or (self._is_wal_whole and self._has_hole()):
            return f"{self._wal.path} was cut off or overwritten"
        return ""

    def _has_hole(self) -> bool:
        """Return whether the log has a hole; False if the file system does not report holes."""
        try:
            return os.lseek(self._wal.fd, 0, os.SEEK_HOLE) < self._wal.size
        except OSError:  # raised for an empty file too
            return False

    def _fixed_header(self) -> bytes:
        """Return the part of the database's header that no commit changes: format, page size, WAL mode."""
        return os.pread(self._database.fd, _FIXED_HEADER_BYTES, 0)

    def _folded(self) -> str:
        """Save the commits of a log whose name is gone, and return what to do."""
        if not self._is_folded:
            with suppress(GatewayError):
                self._is_folded = self._fold()
        if self._is_folded:
            return f"its commits are saved in the database: stop the gateway, delete {self._wal.path}, and start again"
        return self._rescue()

    def _rescue(self) -> str:
        """Return how to save the contents of the open files while this process has them open."""
        descriptors = f"/proc/{os.getpid()}/fd"
        return (
            "do not stop the gateway yet, its open files hold what was answered with success. Put the folder back and "
            f"the gateway continues; or copy {descriptors}/{self._database.fd} to NEW/journal.sqlite and "
            f"{descriptors}/{self._wal.fd} to NEW/journal.sqlite-wal, then restart with NEW as journal.dir"
        )


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise JournalUnavailable(f"{path}: cannot be opened: {exc.strerror}") from exc
