"""Hide the values of a subscriber's own headers where an answer repeats them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

HIDDEN: Final = "(hidden)"
#: A shorter value, such as ``1`` or ``json``, is no secret, and many texts contain it.
_LEAST: Final = 6


def secrets_of(values: Iterable[str]) -> tuple[bytes, ...]:
    """Return what must not be shown of the values of headers: each value, and each word of it. The longest first.

    Args:
        values: of headers, such as ``Bearer …``.
    """
    words = {word for value in values for word in (value, *value.split()) if len(word) >= _LEAST}
    return tuple(word.encode() for word in sorted(words, key=len, reverse=True))


def without(data: bytes, secrets: Sequence[bytes]) -> bytes:
    """Return bytes without secrets, and without the beginning of a secret at the end, where they may have been cut.

    Args:
        data: of an answer.
        secrets: see :func:`secrets_of`.
    """
    hidden = HIDDEN.encode()
    for secret in secrets:
        data = data.replace(secret, hidden)
        for length in range(min(len(secret) - 1, len(data)), _LEAST - 1, -1):
            if data.endswith(secret[:length]):
                data = data[:-length] + hidden
                break
    return data
