"""Names, modes and SQLite addresses of files that hold events, and the lock of their folder.

The files are readable by the user of the gateway alone, whatever the umask: SQLite gives a ``-wal`` and a ``-shm``
the mode of their database, so a database is made here before SQLite opens it. A folder that exists keeps its mode:
it may be a volume that Kubernetes opens to a group (``fsGroup``).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import structlog

from gateway.errors import JournalInUse, JournalUnavailable

FILE_NAME: Final = "journal.sqlite"
FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
#: Advice about a file that cannot be used.
ACCESS: Final = "check the owner and the mode of the folder and its files, and whether it is mounted read-only"
#: What SQLite adds to the name of a database.
SUFFIXES: Final = ("", "-wal", "-shm")
#: Between two attempts to lock a folder that another process has; the kernel does not report its release.
_LOCK_LOOK_S: Final = 0.1

_log = structlog.get_logger("gateway.journal")


def old_layout(folder: Path) -> tuple[str, str] | None:
    """Return what is wrong and what to do if a folder has journals of the layout before the first release.

    There was one in each ``worker-<n>``. Their events were answered with success: a start must not ignore them.
    """
    found = sorted(path.parent.name for path in folder.glob(f"worker-*/{FILE_NAME}"))
    advice = (
        "let the version that wrote them publish their events, then move these folders away; without Kafka, move the "
        f"files of the one folder to {folder}"
    )
    names = ", ".join(found)
    text = f"{folder}: {names} hold journals of an earlier layout, which this version does not read"
    return (text, advice) if found else None


def uri(path: Path, mode: Literal["ro", "rw", "rwc"], *, is_immutable: bool = False) -> str:
    """Return the address of a database for ``sqlite3.connect(…, uri=True)``.

    Every character of the path that a URI gives a meaning (``?``, ``#``, ``%``) is quoted: the file is the one that
    the path names to the operating system.

    Args:
        path: the database file; a relative one is taken from the working directory.
        mode: open for reading, for writing, or create.
        is_immutable: promise SQLite that nothing changes the file.
    """
    return f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if is_immutable else ''}"


def make_folder(folder: Path) -> None:
    """Create a folder and its parents with mode 0700; one that exists keeps its mode.

    A folder in which any user may create and delete files is reported: such a user can remove the journal.

    Raises:
        OSError: it cannot be created, or a file has its name.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(FOLDER_MODE, exist_ok=True)
    mode = folder.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(20, "it is not a folder", str(folder))
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        _log.warning(
            "journal.folder_open",
            folder=str(folder),
            mode=f"{stat.S_IMODE(mode):04o}",
            advice="every user of this machine can delete the journal: chmod o-w the folder",
        )


def open_private(path: Path, flags: int = 0) -> int:
    """Open a file for reading and writing, created with mode 0600 if it is missing, and return its descriptor.

    The mode of a file that belongs to this user is narrowed if it is wider: older versions created such files.

    Args:
        path: the file.
        flags: added to ``os.O_RDWR | os.O_CREAT | os.O_CLOEXEC``.

    Raises:
        OSError: the file cannot be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, FILE_MODE)
    with suppress(OSError):
        narrow(fd)
    return fd


def make_database(path: Path) -> None:
    """Create an empty database file with mode 0600; narrow the modes of one that exists, and of its log.

    Call it before SQLite opens the file: closing a descriptor drops the locks that this process holds on the file.

    Raises:
        OSError: the file cannot be created or opened.
    """
    os.close(open_private(path))
    for suffix in SUFFIXES[1:]:
        with suppress(OSError):
            narrow(path.with_name(path.name + suffix))


def open_derived(path: Path | None, application_id: int, version: int, schema: str) -> sqlite3.Connection:
    """Open a database that can be made again, without a sync for each transaction; create it if it is missing.

    Args:
        path: the file; None: everything is in memory.
        application_id: of the files of one kind.
        version: of the schema, its ``user_version``.
        schema: creates what is missing.

    Raises:
        sqlite3.Error: the file cannot be used, or is of another kind or version.
    """
    if path is not None:
        with suppress(OSError):  # SQLite raises its own error for the same reason
            make_database(path)
    address = "file::memory:" if path is None else uri(path, "rw")
    db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        found = (db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0])
        is_new = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if not is_new and found != (application_id, version):
            raise sqlite3.DatabaseError(f"{path}: not a file of this version")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if is_new:
            db.execute(f"PRAGMA application_id={application_id}")
            db.execute(f"PRAGMA user_version={version}")
        db.executescript(schema)
    except BaseException:
        db.close()
        raise
    return db


def narrow(file: int | Path) -> None:
    """Remove the rights of group and others from a regular file that belongs to the user of this process.

    Raises:
        OSError: there is no such file, or the file system has no modes.
    """
    found = os.stat(file)
    is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
    if is_ours and stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(file, stat.S_IMODE(found.st_mode) & ~0o077)


class FolderLock:
    """An exclusive lock on a folder, by a file ``lock`` in it that has the process id of the holder.

    By ``flock``: the kernel releases it when the process dies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        #: The descriptor that holds the lock; -1 without it.
        self.fd = -1

    def acquire(self) -> None:
        """Acquire the lock; create the folder if it is missing.

        Raises:
            JournalInUse: another process has it.
            JournalUnavailable: the folder cannot be created or written.
        """
        try:
            make_folder(self.path.parent)
            fd = open_private(self.path)
        except OSError as exc:
            raise JournalUnavailable(f"{self.path.parent}: cannot be written: {exc.strerror}; {ACCESS}") from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise JournalInUse(
                f"{self.path.parent}: in use by another gateway (process {holder}); "
                "stop that one, or give this one a journal.dir of its own"
            ) from exc
        self.fd = fd
        with suppress(OSError):  # a full disk: the lock is held, but the file does not name its holder
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())

    async def acquire_within(self, seconds: float) -> None:
        """Acquire the lock as :meth:`acquire` does; wait for another process that has it, at most so long."""
        deadline = time.monotonic() + seconds
        is_said = False
        while True:
            try:
                self.acquire()
            except JournalInUse as exc:
                if time.monotonic() >= deadline:
                    raise
                if not is_said:
                    is_said = True
                    _log.warning("journal.locked", reason=str(exc), waits_s=seconds)
                await asyncio.sleep(_LOCK_LOOK_S)
            else:
                return

    def release(self) -> None:
        """Release the lock. May be called twice, or before :meth:`acquire`."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
