"""One process for each journal folder, by ``flock``: the kernel releases the lock when the process dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from gateway.errors import JournalInUse, JournalUnavailable
from gateway.log.journal import files
from gateway.log.journal.sqlite_errors import ACCESS


class FolderLock:
    """An exclusive lock on a folder, by a file ``lock`` in it that has the process id of the holder."""

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
            files.make_folder(self.path.parent)
            fd = files.open_private(self.path)
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

    def release(self) -> None:
        """Release the lock. May be called twice, or before :meth:`acquire`."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
