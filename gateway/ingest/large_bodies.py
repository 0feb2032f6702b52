"""Large bodies: read within a bound on their bytes together, and worked on in a thread, one at a time.

What a body of 1 MiB costs is bounded (:mod:`gateway.callbacks.bounds`) and still some hundred milliseconds and some
dozen megabytes if it is hostile. On the event loop all others would wait as long; many at once would fill the memory.
So it is decoded in a thread, which gives the interpreter back every few milliseconds, and the next one begins when
its events are durable. Small bodies, which are nearly all, do not come here.

Decoding is pure, and what is decided about known ids is decided on the event loop afterwards: two equal large bodies
at a time are stored once, and one whose sender went away is stored whole or not at all.

Rejected: decoding as a generator that the event loop takes further between other requests. Every decoder would be
written for it, the user's own too, and single steps (parsing 1 MiB of JSON) would be as long as before.
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

#: Larger bodies are decoded in the thread. The hand-over costs a tenth of a millisecond, which a body of this size
#: costs anyway; a hostile one of this size holds the event loop for 20 ms, ten times more for as long as ten such.
SMALL_BYTES: Final = 16 * 1024
#: Bytes of large bodies held at a time, or one body of ``ingest.max_body_bytes``. A sender waits for room as long as
#: this; then it is answered 503.
MOST_BYTES: Final = 32 * 1024 * 1024
PATIENCE_S: Final = 5.0


class Share:
    """The bytes that one request holds of the room for large bodies."""

    __slots__ = ("_room", "size")

    def __init__(self, room: LargeBodies) -> None:
        self._room = room
        self.size = 0

    async def grow(self, size: int) -> None:
        """Hold more, as soon as there is room; meanwhile nothing is read from this sender.

        Args:
            size: bytes.

        Raises:
            NotNow: no room within some seconds.
        """
        if self._room.held + size > self._room.most_bytes:
            await self._room.has_room(size)
        self._room.held += size
        self.size += size

    def shrink_to(self, size: int) -> None:
        """Hold so many bytes only."""
        if size < self.size:
            self._room.release(self.size - size)
            self.size = size


class LargeBodies:
    """The room for large bodies, and the thread that decodes them.

    Args:
        most_bytes: bytes held at a time; at least the largest single body.
        patience_s: seconds that a sender waits for room.
    """

    def __init__(self, most_bytes: int, patience_s: float = PATIENCE_S) -> None:
        self.most_bytes = most_bytes
        self.held = 0
        self._patience_s = patience_s
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._pool = ThreadPoolExecutor(1, "large-bodies")

    def close(self) -> None:
        """End the thread. What it works on is finished first; this does not wait for that."""
        self._pool.shutdown(wait=False)

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Hold bytes for one request until its answer is made."""
        share = Share(self)
        try:
            yield share
        finally:
            share.shrink_to(0)

    def release(self, size: int) -> None:
        """Give bytes back to those who wait for room."""
        self.held -= size
        self._freed.set()

    async def has_room(self, size: int) -> None:
        """Wait until so many more bytes may be held.

        Raises:
            NotNow: not within ``patience_s``.
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
        """Wait for one's turn; the next one's begins when this block is left."""
        async with self._turn:
            yield

    def work(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """Call a pure function in the thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, without_collections, function)


def without_collections(function: Callable[[], _T]) -> _T:
    """Call a function that makes many objects and no cycles.

    Collections look at all young objects again and again, with the interpreter held: of 350,000 lists for a quarter
    of a second. The functions here hold no cycles, so that their objects go when they return.
    """
    gc.disable()
    try:
        return function()
    finally:
        gc.enable()
