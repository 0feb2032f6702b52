"""Form fields from raw bytes: ``application/x-www-form-urlencoded``, in a body or in a query.

The result is what the standard library gives (``+`` is a blank, ``%XX`` a byte, then UTF-8, blank values
kept), several times faster. Vendors write raw blanks, raw UTF-8 and wrong escapes into queries (protocol.md,
E3): all of them are text here, nothing is an error. Bytes that are not UTF-8 become ``\\xNN`` so that a
receipt is never lost for one letter.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

#: The escapes that nearly every receipt holds. None of them makes a hex digit, ``%``, ``&`` or ``=``, so
#: replacing them first can neither complete another escape nor move the border of a field.
_FREQUENT: Final = ((b"%20", b" "), (b"%3A", b":"), (b"%3a", b":"), (b"%2B", b"+"), (b"%2b", b"+"), (b"%2F", b"/"))
#: Name and value of one part that is not empty.
_PART: Final = re.compile(r"(?=[^&])([^&=]*)=?([^&]*)")


def pairs(data: bytes) -> list[tuple[str, str]]:
    """The fields in the order sent; a part without ``=`` is a name with an empty value; empty parts are skipped."""
    if b"+" in data:
        data = data.replace(b"+", b" ")
    if b"%" in data:
        for escape, letter in _FREQUENT:
            data = data.replace(escape, letter)
        if b"%" in data:
            return [_unescaped(part) for part in data.split(b"&") if part]
    found: list[tuple[str, str]] = _PART.findall(data.decode("utf-8", "backslashreplace"))
    return found


def _unescaped(part: bytes) -> tuple[str, str]:
    name, _, value = part.partition(b"=")
    if b"%" in part:
        name = unquote_to_bytes(name)
        value = unquote_to_bytes(value)
    return name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace")


def without(data: bytes, names: frozenset[str]) -> bytes:
    """The same bytes, with the fields of these names cut out and nothing else changed."""
    kept = [part for part in data.split(b"&") if not (part and _unescaped(part.replace(b"+", b" "))[0] in names)]
    return b"&".join(kept)
