"""A subscriber that is a file: one event a line (JSON Lines), put aside when it is large.

``events.jsonl`` is the one being written; ``events.jsonl.1`` the last put aside, and so on up to ``keep``.
Attempts that come while one write is under way share the next one and its sync: an event counts as delivered
when its line is on disk. After a crash the last lines may come twice, and the very last may be cut off; it
ends without a line break then, and the next start completes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.clock import Clock
from gateway.fanout.transform import Transform
from gateway.log import Record


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
        """See :class:`~gateway.fanout.attempt.Sink`. 200 stands for a line on disk."""
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
                    continue  # its attempt was cancelled; the line may stand there all the same
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    def _append(self, lines: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        size = self._path.stat().st_size if self._path.exists() else 0
        if size and size + len(lines) > self._max_bytes:
            self._put_aside()
            size = 0
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                lines = b"\n" + lines
            view = memoryview(lines)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _put_aside(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._aside(self._keep).unlink()
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._aside(number).rename(self._aside(number + 1))
        self._path.rename(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
