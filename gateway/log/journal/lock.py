"""One process per journal folder, held by ``flock``: the kernel lets go of it when the process dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from gateway.errors import JournalInUse, JournalUnavailable


class FolderLock:
    """An exclusive lock on a folder, by a file ``lock`` in it that names the holder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, creating the folder if needed.

        Raises:
            JournalInUse: another process has it.
            JournalUnavailable: the folder cannot be made or written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise JournalUnavailable(f"{self._path.parent}: cannot be written: {exc.strerror}") from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise JournalInUse(
                f"{self._path.parent}: in use by another gateway (process {holder}); "
                "stop that one, or give this one a journal.dir of its own"
            ) from exc
        self._fd = fd
        with suppress(OSError):  # a full disk: the lock is held all the same, and only its holder has no name
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back. May be called twice, or before :meth:`acquire`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
