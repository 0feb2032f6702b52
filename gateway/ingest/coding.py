"""Compressed bodies (RFC 9110, 8.4.1), unfolded after they were read.

aiohttp would do it while it reads; then a body that does not unfold is lost before anybody could keep it.
"""

from __future__ import annotations

import zlib
from typing import Final

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS
#: Of the first byte of a zlib stream (RFC 1950, 2.2). Some senders of "deflate" leave that header out.
_METHOD, _DEFLATE = 0x0F, 8
#: Bytes that deflate can make of one, at most (zlib's technical notes, "Maximum Compression Factor").
_MOST_RATIO: Final = 1032
#: Of one gzip body (RFC 1952, 2.2), which mostly has one. Each costs a copy of what stands behind it.
_MEMBERS: Final = 8


class BodyTooLarge(Exception):
    """The body, compressed or not, is past ``max_body_bytes``."""


def most_unfolded(body: bytes, most: int) -> int:
    """Return how many bytes :func:`unfolded` may make of a body, ``most`` at the most."""
    return min(most, len(body) * _MOST_RATIO)


def unfolded(body: bytes, coding: str, most: int) -> bytes:
    """The body as it was before it was compressed; as it came where the header is wrong or names another coding.

    Args:
        coding: the header ``Content-Encoding``.
        most: bytes that it may become. A bomb costs one byte more.

    Raises:
        BodyTooLarge: it becomes more.
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
            return body  # cut short
        rest = stream.unused_data
        if not rest:
            return whole
    return body
