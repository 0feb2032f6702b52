"""What was sent and what was answered: a file of lines, the only thing the checker believes about the load.

A line is written before the request leaves (``S number at``) and after its answer is read (``A number at status``,
status 0 for no answer). The kernel has each line before we go on; the disk has it within ``SYNC_S`` and when the
history is closed. Times are of one monotonic clock, in microseconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.waiting import pause

#: Between two fsyncs; each costs the disk that the gateway commits to.
SYNC_S: Final = 0.25


class History:
    """Writes. One event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._syncing: asyncio.Task[None] | None = None
        self.accepted = 0

    def start(self) -> None:
        """Begin to sync."""
        self._syncing = asyncio.create_task(self._sync(), name="history")

    def sent(self, number: int) -> None:
        """About to be sent."""
        os.write(self._file, b"S %d %d\n" % (number, now()))

    def answered(self, number: int, status: int) -> None:
        """An answer was read whole, or there was none (0)."""
        os.write(self._file, b"A %d %d %d\n" % (number, now(), status))

    async def close(self) -> None:
        """Everything is on the disk when this returns."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
        os.fsync(self._file)
        os.close(self._file)

    async def _sync(self) -> None:
        while True:
            await pause(SYNC_S, "its period")
            await asyncio.to_thread(os.fsync, self._file)


@dataclass(slots=True)
class Told:
    """One request as the history has it.

    Args:
        first_sent_at: of the first attempt, microseconds.
        last_sent_at: of the last.
        answers: status of each answer and when; no answer is none.
    """

    first_sent_at: int
    last_sent_at: int
    answers: list[tuple[int, int]] = field(default_factory=list)

    def answered_at(self, status: int) -> int | None:
        """When it was first answered so."""
        return min((at for at, got in self.answers if got == status), default=None)

    def last_answered_at(self, status: int) -> int | None:
        """Return when it was last answered so."""
        return max((at for at, got in self.answers if got == status), default=None)

    @property
    def last_seen_at(self) -> int:
        """Return when it was last sent or answered."""
        return max(self.last_sent_at, *(at for at, _ in self.answers), 0)


def now() -> int:
    """Return the time as the history has it."""
    return time.monotonic_ns() // 1000


def read(path: Path) -> dict[int, Told]:
    """The whole file, by number. A line cut short at the end was never acted upon."""
    found: dict[int, Told] = {}
    for line in path.read_bytes().split(b"\n")[:-1]:
        kind, number, at, *status = line.split(b" ")
        if kind == b"S":
            told = found.get(int(number))
            if told is None:
                found[int(number)] = Told(int(at), int(at))
            else:
                told.last_sent_at = int(at)
        elif int(status[0]):
            found[int(number)].answers.append((int(at), int(status[0])))
    return found
