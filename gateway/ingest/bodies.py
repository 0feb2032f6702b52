"""Bodies: read and decompress them, within a limit of memory; a thread decodes the large ones, one at a time.

The cost of a body of 1 MiB is bounded (:class:`gateway.callbacks.DecodeContext`), but a hostile one takes some hundred
milliseconds and some dozen megabytes. On the event loop all other requests would wait for it, and many at a time would
exhaust the memory. Therefore a thread decodes large bodies; it releases the interpreter every few milliseconds, and
starts with the next body when the events of the last one are durable. Small bodies use neither thread nor limit.

Decoding is pure. The log checks for repeats afterwards: of two equal bodies at a time one is stored, and a body whose
sender has disconnected is stored completely or not at all.

Bodies are decompressed (RFC 9110, 8.4.1) after they were read. aiohttp would decompress a body while it reads it; one
that cannot be decompressed would then be lost before the gateway could store it.

Rejected: decoding as a generator that the event loop continues between other requests. Every decoder, the user's
included, would have to be written for it, and single steps (parsing 1 MiB of JSON) would take as long as before.
"""

from __future__ import annotations

import asyncio
import gc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from aiohttp import HttpVersion11
from aiohttp.web_request import BaseRequest

from gateway.errors import NotNow

_T = TypeVar("_T")

#: Bytes above which the thread decodes a body. The hand-over costs 0.1 ms, as much as a body of this size. A hostile
#: body of this size blocks the event loop for 20 ms; with a limit ten times higher, for ten times as long.
SMALL_BYTES: Final = 16 * 1024
#: Total bytes of large bodies in memory, or one body of ``ingest.max_body_bytes``. A sender waits this time, in
#: seconds, for free space and is then answered 503.
_MOST_BYTES: Final = 32 * 1024 * 1024
_PATIENCE_S: Final = 5.0
#: Bodies that may be larger after decompression are decompressed in the thread; 1 MiB takes three milliseconds.
_MOST_DECOMPRESSED_HERE: Final = 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS
#: Method in the first byte of a zlib stream (RFC 1950, 2.2). Some senders of "deflate" omit this header.
_METHOD, _DEFLATE = 0x0F, 8
#: Largest ratio of deflate (zlib's technical notes, "Maximum Compression Factor").
_MOST_RATIO: Final = 1032
#: Members in one gzip body (RFC 1952, 2.2); most bodies have one. Each costs a copy of the remaining bytes.
_MEMBERS: Final = 8


class BodyTooLarge(Exception):
    """The body is larger than ``max_body_bytes``, as received or decompressed."""


class MemoryShare:
    """The part of the memory for large bodies that one request uses."""

    __slots__ = ("_room", "size")

    def __init__(self, room: Bodies) -> None:
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


class Bodies:
    """Reads bodies, limits the memory for large ones, and owns the thread that decodes those.

    Args:
        max_body: largest body, bytes.
        read_timeout_s: time for the arrival of a body, seconds.
    """

    def __init__(self, max_body: int, read_timeout_s: float) -> None:
        self.most_bytes = max(_MOST_BYTES, max_body)
        self.held = 0
        #: Held while a large body is decoded and stored.
        self.turn = asyncio.Lock()
        self._max_body = max_body
        self._read_timeout_s = read_timeout_s
        # Shorter than the time-out of a read: the sender waits for the gateway's memory here.
        self._patience_s = min(_PATIENCE_S, read_timeout_s / 2)
        self._freed = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, "large-bodies")

    def close(self) -> None:
        """End the thread after its current task, without waiting for it."""
        self._pool.shutdown(wait=False)

    async def read(self, request: BaseRequest, share: MemoryShare) -> bytes:
        """Return the whole body of a request, decompressed.

        Args:
            request: whose body was not read.
            share: of the memory; reserved for a large body.

        Raises:
            BodyTooLarge: it is larger than ``max_body``, as received or decompressed.
            TimeoutError: it did not arrive within ``read_timeout_s``.
            NotNow: too many large bodies are in memory.
        """
        body = await self._received(request, share)
        coding = request.headers.get("Content-Encoding")
        if not coding:
            return body
        most = _most_decompressed(body, self._max_body)
        await share.grow(max(0, most - share.size))
        decompress = partial(decompressed, body, coding, self._max_body)
        body = decompress() if most <= _MOST_DECOMPRESSED_HERE else await self.work(decompress)
        share.shrink_to(len(body) if len(body) > SMALL_BYTES else 0)
        return body

    async def _received(self, request: BaseRequest, share: MemoryShare) -> bytes:
        if not request.body_exists:
            return b""
        if request.content_length is not None and request.content_length > self._max_body:
            raise BodyTooLarge
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # an interim answer does not count: the final one may still be written
        if request.content.is_eof():  # the usual case: it arrived with its head
            body = request.content.read_nowait()
            if len(body) > self._max_body:
                raise BodyTooLarge
            if len(body) > SMALL_BYTES:
                await share.grow(len(body))
            return body
        async with asyncio.timeout(self._read_timeout_s):
            return await self._read_up_to_limit(request, share)

    async def _read_up_to_limit(self, request: BaseRequest, share: MemoryShare) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while chunk := await request.content.readany():
            size += len(chunk)
            if size > self._max_body:
                raise BodyTooLarge
            if size > SMALL_BYTES:
                await share.grow(size - share.size)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

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


def _most_decompressed(body: bytes, most: int) -> int:
    """Return an upper bound of the bytes that :func:`decompressed` returns.

    Args:
        body: the compressed body.
        most: upper limit of the result, bytes.
    """
    return min(most, len(body) * _MOST_RATIO)


def decompressed(body: bytes, coding: str, most: int) -> bytes:
    """Return the decompressed body; the body as received if the header is wrong or has another coding.

    Args:
        body: as received.
        coding: value of the header ``Content-Encoding``.
        most: largest size after decompression, bytes. A decompression bomb costs one byte more.

    Raises:
        BodyTooLarge: the decompressed body is larger than ``most``.
    """
    match coding.strip().lower():
        case "gzip" | "x-gzip":
            wbits = _GZIP
        case "deflate":
            wbits = _ZLIB if body[:1] and body[0] & _METHOD == _DEFLATE else _BARE
        case _:
            return body
    whole, rest = b"", body
    for _ in range(_MEMBERS):
        stream = zlib.decompressobj(wbits)
        try:
            whole += stream.decompress(rest, most + 1 - len(whole))
        except zlib.error:
            return body
        if len(whole) > most:
            raise BodyTooLarge
        if not stream.eof:
            return body  # truncated
        rest = stream.unused_data
        if not rest:
            return whole
    return body
