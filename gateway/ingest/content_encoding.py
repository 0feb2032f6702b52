"""Decompress bodies (RFC 9110, 8.4.1) after they were read.

aiohttp would decompress a body while it reads it. A body that cannot be decompressed would then be lost before the
gateway could store it.
"""

from __future__ import annotations

import zlib
from typing import Final

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


def most_decompressed(body: bytes, most: int) -> int:
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
