"""Large bodies: limit their total size, and decode them in a thread, one at a time.

The cost of a body of 1 MiB is bounded (:mod:`gateway.callbacks.bounds`), but a hostile one takes some hundred
milliseconds and some dozen megabytes. On the event loop all other requests would wait for it, and many at a time would
exhaust the memory. Therefore a thread decodes large bodies; it releases the interpreter every few milliseconds, and
starts with the next body when the events of the last one are durable. Small bodies do not use this module.

Decoding is pure. The log checks for repeats afterwards: of two equal bodies at a time one is stored, and a body whose
sender has disconnected is stored completely or not at all.

Rejected: decoding as a generator that the event loop continues between other requests. Every decoder, the user's
included, would have to be written for it, and single steps (parsing 1 MiB of JSON) would take as long as before.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeVar

from gateway.errors import NotNow

_T = TypeVar("_T")

#: Bytes above which the thread decodes a body. The hand-over costs 0.1 ms, as much as a body of this size. A hostile
#: body of this size blocks the event loop for 20 ms; with a limit ten times higher, for ten times as long.
SMALL_BYTES: Final = 16 * 1024
#: Total bytes of large bodies in memory, or one body of ``ingest.max_body_bytes``. A sender waits this time, in
#: seconds, for free space and is then answered 503.
MOST_BYTES: Final = 32 * 1024 * 1024
PATIENCE_S: Final = 5.0


class MemoryShare:
    """The part of the memory for large bodies that one request uses."""

    __slots__ = ("_room", "size")

    def __init__(self, room: LargeBodies) -> None:
        self._room = room
        self.size = 0

    async def grow(self, size: int) -> None:
        """Reserve more bytes, as soon as they are free; meanwhile the sender's socket is not read.

        Args:
            size: additional bytes.

        Raises:
            NotNow: no free space within the time limit.
        """
        if self._room.held + size > self._room.most_bytes:
            await self._room.has_room(size)
        self._room.held += size
        self.size += size

    def shrink_to(self, size: int) -> None:
        """Reduce the reservation to ``size`` bytes."""
        if size < self.size:
            self._room.release(self.size - size)
            self.size = size


class LargeBodies:
    """Limits the memory for large bodies, and owns the thread that decodes them.

    Args:
        most_bytes: total limit, bytes; at least the largest single body.
        patience_s: time that a sender waits for free space, seconds.
    """

    def __init__(self, most_bytes: int, patience_s: float = PATIENCE_S) -> None:
        self.most_bytes = most_bytes
        self.held = 0
        self._patience_s = patience_s
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, "large-bodies")

    def close(self) -> None:
        """End the thread after its current task, without waiting for it."""
        self._pool.shutdown(wait=False)

    @contextmanager
    def share(self) -> Iterator[MemoryShare]:
        """Return a context in which one request may reserve bytes; they are released at its end."""
        share = MemoryShare(self)
        try:
            yield share
        finally:
            share.shrink_to(0)

    def release(self, size: int) -> None:
        """Release ``size`` bytes and wake the waiting requests."""
        self.held -= size
        self._freed.set()

    async def has_room(self, size: int) -> None:
        """Wait until ``size`` more bytes are free.

        Raises:
            NotNow: they are not free within ``patience_s``.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                while self.held + size > self.most_bytes:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise NotNow("too many large callbacks at a time") from None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Return a context that one request at a time may enter."""
        async with self._turn:
            yield

    def work(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Call a pure function in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, without_collections, function)


def without_collections(function: Callable[[], _T]) -> _T:
    """Call a function that creates many objects and no reference cycles, with garbage collection disabled.

    The collector would scan all young objects repeatedly with the interpreter locked: 350,000 lists for a quarter of a
    second. Without cycles the objects are freed when the function returns.
    """
    gc.disable()
    try:
        return function()
    finally:
        gc.enable()
