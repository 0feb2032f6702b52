"""A subscriber that is a file: one event a line (JSON Lines), put aside when it is large.

``events.jsonl`` is the one being written; ``events.jsonl.1`` the last put aside, and so on up to ``keep``.
Attempts that come while one write is under way share the next one and its sync: an event counts as delivered
when its line is on disk. After a crash the last lines may come twice, and the very last may be cut off; it
ends without a line break then, and the next start completes it.

The file is opened by its name for each write, so a log rotation that renames it takes effect with the next write. It is
created with mode 0600; a mode that an operator gives it is kept when the next file is begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

from gateway.clock import Clock
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.transform import Transform
from gateway.log import Record

#: Readable by the user of the gateway alone: events hold phone numbers and texts.
_MODE: Final = 0o600
#: Times that a write is repeated because the file was deleted before its sync. Who deletes it that often is at fault.
_TRIES: Final = 3


class FileSink:
    """Appends events to one file. One sink per file.

    Args:
        max_bytes: a file is put aside before the write that would make it larger.
        keep: files put aside that are kept.
    """

    def __init__(
        self, path: str, *, max_bytes: int, keep: int, clock: Clock, transform: Transform | None = None
    ) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        self._transform = transform
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
        """See :class:`~gateway.fanout.attempt.Sink`. 200 means a line on disk."""
        started = self._clock.monotonic()
        line = record.value if self._transform is None else self._transform.apply(record.value)
        if b"\n" in line or b"\r" in line:  # of another producer: in JSON a raw line end is space between tokens
            line = line.replace(b"\n", b" ").replace(b"\r", b" ")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name=f"fanout:file:{self._path.name}")
        try:
            await written
        except OSError as exc:
            return AttemptResult(
                error="io", detail=f"cannot write: {exc.strerror}", duration_s=self._clock.monotonic() - started
            )
        return AttemptResult(200, duration_s=self._clock.monotonic() - started)

    async def close(self) -> None:
        """Wait until everything asked for is written. May be called twice."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            failure: OSError | None = None
            try:
                await asyncio.to_thread(self._append, b"".join(line + b"\n" for line, _ in batch))
            except OSError as exc:
                failure = exc
            for _, written in batch:
                if written.done():
                    continue  # its attempt was cancelled; the line may be written anyway
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    def _append(self, lines: bytes) -> None:
        """Write lines durably to the file that has the name. One deleted meanwhile keeps nothing: write them again."""
        self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
        if not any(self._appended(lines) for _ in range(_TRIES)):
            raise FileNotFoundError(errno.ENOENT, "the file is deleted repeatedly", str(self._path))

    def _appended(self, lines: bytes) -> bool:
        """Write lines durably, and return whether the file has a name still; one that was renamed has."""
        found = self._path.stat() if self._path.exists() else None
        size, mode = (found.st_size, stat.S_IMODE(found.st_mode)) if found is not None else (0, _MODE)
        if size and size + len(lines) > self._max_bytes:
            self._put_aside()
            size, found = 0, None
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        try:
            if found is None:
                os.fchmod(descriptor, mode)
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                lines = b"\n" + lines
            view = memoryview(lines)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
            has_name = os.fstat(descriptor).st_nlink > 0
        finally:
            os.close(descriptor)
        if found is None and has_name:
            _sync(self._path.parent)
        return has_name

    def _put_aside(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._aside(self._keep).unlink()
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._aside(number).rename(self._aside(number + 1))
        self._path.rename(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _sync(folder: Path) -> None:
    """Make the name of a new file durable: the sync of the file alone does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
