"""The files of a journal that is open for writing: compared with the names that the next start will open, and copied
from the write-ahead log into the database concurrently with commits.

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

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from gateway.errors import GatewayError, JournalUnavailable
from gateway.eventloop import give_way
from gateway.log.journal.files import FILE_NAME, FolderLock
from gateway.log.journal.storage import Store
from gateway.log.journal.wal import report_dropped
from gateway.telemetry.metrics import METRICS

#: Between two comparisons while commits follow each other. A comparison costs about 20 µs; with a tenth, busy threads
#: pass the interpreter lock 600 times a second for it; with ten times more, the callbacks of a second can be lost.
CHECK_INTERVAL_S: Final = 0.1
_FIXED_HEADER_BYTES: Final = 24
_WAL_HEADER_BYTES: Final = 32
#: The first three bytes of a WAL's header, whatever its byte order (https://www.sqlite.org/fileformat2.html#walformat).
_WAL_MAGIC: Final = b"\x37\x7f\x06"
#: Bytes in the log from which a checkpoint pays. With ten times more, a start after a crash reads for seconds.
_WORTH_BYTES: Final = 8 * 1024 * 1024
#: Minimum size of a commit, for any number of events: some pages of the tree and of positions.
_COMMIT_BYTES: Final = 8 * 1024

_T = TypeVar("_T")
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
    """The files of one journal that is open for writing.

    Args:
        folder: the journal's folder.
        lock: of the folder, acquired.

    Raises:
        JournalDamaged, JournalUnavailable: a file cannot be opened.
    """

    def __init__(self, folder: Path, lock: FolderLock) -> None:
        #: What is wrong and what to do; empty if the names are those of the open files.
        self.problem = ""
        #: Whether another program changed the bytes of an open file: then nothing may be copied from the log.
        self._is_damaged = False
        self._is_folded = False
        self._checked_at = time.monotonic()
        self._descriptors: list[int] = []
        self._pool = ThreadPoolExecutor(1, "journal-checkpoint", initializer=give_way)
        self._copying: Store | None = None
        self._written = 0
        self._checkpoint: asyncio.Task[None] | None = None
        report_dropped(folder / FILE_NAME)
        #: The writing connection.
        self.store = Store(folder, is_writer=True)
        try:
            self._database = self._described(self.store.path)
            self._wal = self._described(self.store.path.with_name(f"{FILE_NAME}-wal"))
            self._lock = OpenFile.of(lock.path, lock.fd)
            self._header = self._fixed_header()
            self._is_wal_whole = not self._has_hole()  # otherwise a power cut caused the hole, which recovery ignores
        except BaseException:
            self._close()
            raise

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the database."""
        return self._database.identity

    async def close(self) -> None:
        """Wait for a running checkpoint and close the files. The last connection copies the log into the database."""
        try:
            if self._checkpoint is not None:
                await asyncio.wait([self._checkpoint])
            if self._copying is not None:
                await self._in_pool(self._copying.abandon if self._is_damaged else self._copying.close)
            self._pool.shutdown(wait=True)
        finally:
            self._close()

    def _close(self) -> None:
        """Close the database, then the descriptors: closing one drops the locks of this process."""
        try:
            (self.store.abandon if self._is_damaged else self.store.close)()
        finally:
            while self._descriptors:
                os.close(self._descriptors.pop())

    def _described(self, path: Path) -> OpenFile:
        """Open a file a second time; SQLite has already opened it."""
        try:
            self._descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as exc:
            raise JournalUnavailable(f"{path}: cannot be opened: {exc.strerror}") from exc
        return OpenFile.of(path, self._descriptors[-1])

    # -- comparisons --------------------------------------------------------------------------------------------

    def check_due(self) -> None:
        """Call :meth:`check` if it is due.

        Raises:
            JournalMoved: see :meth:`check`.
        """
        if self.problem or time.monotonic() - self._checked_at >= CHECK_INTERVAL_S:
            self.check()

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
        self._is_damaged = self._is_damaged or bool(what)
        if self._is_damaged:
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
                self._is_folded = self.store.checkpoint()
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

    # -- checkpoints --------------------------------------------------------------------------------------------

    def committed(self, size: int) -> None:
        """Note a commit: a later truncation of the log below its present size is noticed; begin a checkpoint if due.

        Args:
            size: bytes of its records.
        """
        self._wal.size = os.fstat(self._wal.fd).st_size
        self._written += size + _COMMIT_BYTES
        if self._written >= _WORTH_BYTES and self._checkpoint is None:
            self._written = 0
            self._checkpoint = asyncio.get_running_loop().create_task(self._copy(), name="journal-checkpoint")

    async def _copy(self) -> None:
        """Copy most of the log while commits continue, and the remainder between two commits, so that it restarts.

        A commit would wait tens of milliseconds for one copy of the whole log. A checkpoint spreads the damage of a log
        to the database: the files are compared before each part.
        """
        try:
            self.check()
            if self._copying is None:
                self._copying = await self._in_pool(partial(Store, self.store.path.parent, is_writer=False))
            await self._in_pool(self._copying.checkpoint)
            self.check()
            self.store.checkpoint()
        except GatewayError as exc:
            _log.warning("journal.checkpoint_failed", error=str(exc))
        finally:
            self._checkpoint = None

    def _in_pool(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, work)
