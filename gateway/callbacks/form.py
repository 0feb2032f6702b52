"""Parse form fields from raw bytes: ``application/x-www-form-urlencoded``, in a body or in a query.

The result is that of the standard library (``+`` is a space, ``%XX`` a byte, then UTF-8, empty values kept), several
times faster. Vendors write raw spaces, raw UTF-8 and wrong escapes into queries (protocol.md, E3): they are accepted as
text, and no input is an error. The :class:`Decoding` decodes bytes that are not UTF-8; without one they become
``\\xNN``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import orjson

from gateway.callbacks.charset import PIECE, Decoding, lenient_text, unescaped_bytes

#: Name and value of a non-empty part.
_PART: Final = re.compile(r"(?=[^&])([^&=]*)=?([^&]*)")

#: The header of a part that names its field (RFC 7578, 4.2), folded or not, and its parameters (RFC 2045, 5.1), quoted
#: or not.
_DISPOSITION: Final = re.compile(rb"^content-disposition:(.*+(?:\n[ \t].*+)*+)", re.IGNORECASE | re.MULTILINE)
_PARAMETER: Final = re.compile(rb';\s*+([^\s=;]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;]*+))')
#: A comma or white space before a name and a colon; text has none, or an address. White space is matched from its first
#: character only: matching from each would cost the square of its length.
_LISTED: Final = re.compile(r"(?:,|(?<!\s)(?=\s))\s*(?=([A-Za-z_]+):(?!//))")
_BORDERS: Final = frozenset(",\r\n")
#: The text field of a listing, and the fields that may follow it; other parts belong to the text.
_WRITTEN: Final = "content"
_BEHIND_TEXT: Final = frozenset({"type", "toPhone", "fromPhone", "size", "price", "receiveTime", "smsStatus"})
#: Begin of a DID callback's listing. No form begins like it, because a form's name has no colon.
_LISTING: Final = b"messageId:"


def pairs(data: bytes, decoding: Decoding | None = None) -> list[tuple[str, str]]:
    """Return the fields in the order sent; a part without ``=`` has an empty value, and empty parts are skipped.

    Args:
        data: the form.
        decoding: decodes bytes that are not UTF-8.
    """
    plain = _unescaped_at_once(data)
    text = None if plain is None else _decoded(plain)
    if text is None or (decoding is not None and decoding.concerns(text)):
        return _part_by_part(data, decoding)
    return _split(text)


def _split(text: str) -> list[tuple[str, str]]:
    """Return the fields of a form's text."""
    if "&&" in text:  # a match is tried at each; empty parts are sooner left out like this
        text = "&".join(filter(None, text.split("&")))
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):  # in pieces that end before a "&": the interpreter is held during each
        end = text.find("&", at + PIECE)
        end = len(text) if end < 0 else end
        found += _PART.findall(text, at, end)
        at = end
    return found


def _part_by_part(data: bytes, decoding: Decoding | None) -> list[tuple[str, str]]:
    parts = data.replace(b"+", b" ").split(b"&")
    if decoding is None:
        return [_pair(part, _unescaped) for part in parts if part]
    decoding.form(data)
    found: list[tuple[str, str]] = []
    for at, part in enumerate(parts):
        if decoding.is_past_guesses and decoding.codecs is None and b"%" not in data:
            return found + _split(lenient_text(b"&".join(parts[at:])))  # what each part would become, in one step
        if part:
            found.append(_pair(part, decoding.unescaped))
    return found


def _pair(part: bytes, unescaped: Callable[[bytes], str]) -> tuple[str, str]:
    name, _, value = part.partition(b"=")
    return unescaped(name), unescaped(value) if value else ""


def mapping(data: bytes) -> dict[str, str] | None:
    """Return the fields by name in a third of the time, by rewriting the form as JSON for a parser in C.

    The result is None if a name is repeated, a part has no ``=`` or two, the form is not plain UTF-8 or too long, or
    its separators were escaped for HTML.
    """
    plain = _unescaped_at_once(data) if len(data) <= PIECE else None
    if plain is None:
        return None
    if b'"' in plain or b"\\" in plain:
        plain = plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    try:
        fields: dict[str, str] = orjson.loads(b'{"' + plain.replace(b"=", b'":"').replace(b"&", b'","') + b'"}')
    except orjson.JSONDecodeError:
        return None
    is_whole = len(fields) == plain.count(b"&") + 1 and next(reversed(fields))[:4] != "amp;"
    return fields if is_whole else None


def _unescaped_at_once(data: bytes) -> bytes | None:
    """Return a form without escapes.

    The result is None if an escaped ``&`` or ``=`` would change the fields, or a field may declare a character set.
    """
    if b"+" in data:
        data = data.replace(b"+", b" ")
    if b"%" in data:
        # The escapes of a date are replaced first: a colon or a space cannot complete another escape.
        data = data.replace(b"%3A", b":").replace(b"%20", b" ")
        if b"%" in data:
            if b"%26" in data or b"%3D" in data or b"%3d" in data:
                return None
            data = unescaped_bytes(data)
    return data if data.isascii() or b"_charset_=" not in data else None


def _decoded(plain: bytes) -> str | None:
    try:
        return plain.decode()
    except UnicodeDecodeError:
        return None


def _unescaped(part: bytes) -> str:
    return lenient_text(unescaped_bytes(part) if b"%" in part else part)


def multipart(body: bytes, decoding: Decoding | None = None) -> list[tuple[str, str]]:
    """Return the fields of ``multipart/form-data``; the first line is the boundary.

    The boundary separates parts only as a complete line (RFC 2046, 5.1.1); otherwise it is text. The head of a part may
    declare a character set (RFC 7578, 4.4), and a part named ``_charset_`` declares that of all others (4.6).

    Args:
        body: the form.
        decoding: decodes bytes that are not UTF-8.
    """
    decoding = decoding or Decoding()
    parts = []
    for part in _parts(body):
        head, _, value = part.replace(b"\r\n", b"\n").partition(b"\n\n")
        name = _part_name(head)
        if name is not None:
            parts.append((head, name, value))
    decoding.parts(parts)
    return [(decoding.text(name), decoding.of_part(head).text(value)) for head, name, value in parts]


def _parts(body: bytes) -> Iterator[bytes]:
    """Yield the bytes between boundaries. The boundary after the last part may be missing."""
    delimiter = b"\n" + body.partition(b"\n")[0].rstrip()
    body = b"\n" + body
    begins, at = -1, 0
    while (at := body.find(delimiter, at)) >= 0:
        line_end = body.find(b"\n", at + 1)
        if line_end < 0:
            line_end = len(body)
        behind = body[at + len(delimiter) : line_end].rstrip(b" \t\r")
        if behind in (b"", b"--"):
            if begins >= 0:
                yield body[begins:at].removesuffix(b"\r")
            if behind:
                return
            begins = line_end
        at = line_end
    if begins >= 0:
        yield body[begins:].removesuffix(b"\n").removesuffix(b"\r")


def _part_name(head: bytes) -> bytes | None:
    """Return the field name of a part; None if its head has none."""
    disposition = _DISPOSITION.search(head)
    if disposition is None:
        return None
    for parameter in _PARAMETER.finditer(disposition[1]):
        name, quoted, plain = parameter.groups(default=b"")
        if name.lower() == b"name":
            found: bytes = quoted.replace(b'\\"', b'"') or plain
            return found
    return None


def is_listing(body: bytes) -> bool:
    """Return whether :func:`listing` has to parse a body, even if its text contains ``=`` and ``&``."""
    return body.startswith(_LISTING)


def listing(body: bytes, decoding: Decoding | None = None) -> list[tuple[str, str]]:
    """Return the fields of ``name:value,name:value``; ``+`` is a plus.

    Some DID pages print their example in this form (protocol.md, section 2), or with one field a line. Spaces around a
    value are not part of it. A part of the text that looks like a field is a field only if the page lists its name and
    the name has not occurred before.

    Args:
        body: the listing.
        decoding: decodes bytes that are not UTF-8.
    """
    text = decoding.unescaped(body) if decoding is not None else _unescaped(body)
    parts = (part.partition(":") for part in _listed(text))
    return [(name.strip(), value.strip()) for name, _, value in parts if name.strip()]


def _listed(text: str) -> Iterator[str]:
    """Yield the fields of a listing, each with name and value in one text."""
    name = text.partition(":")[0]
    names = {name}
    begins = 0
    for border in _LISTED.finditer(text):
        if _BORDERS.isdisjoint(border[0]):
            continue
        if name == _WRITTEN and (border[1] not in _BEHIND_TEXT or border[1] in names):
            continue
        yield text[begins : border.start()]
        begins = border.end()
        name = border[1]
        names.add(name)
    yield text[begins:]


def without(data: bytes, names: frozenset[str]) -> bytes:
    """Return a form without the fields of some names, otherwise unchanged.

    Args:
        data: the form.
        names: of the removed fields.
    """
    if not names:
        return data
    # The usual form has none of these names; testing each part costs many times more. (A byte that is not UTF-8 has a
    # backslash in a part's name.)
    whole = unescaped_bytes(data.replace(b"+", b" "))
    if not any(name.encode() in whole or "\\" in name for name in names):
        return data
    shortest, longest = min(map(len, names)), 3 * max(map(len, names))  # a byte is one character, or three escaped

    def is_named(part: bytes) -> bool:
        name = part.partition(b"=")[0]
        return shortest <= len(name) <= longest and _unescaped(name.replace(b"+", b" ")) in names

    return b"&".join([part for part in data.split(b"&") if not is_named(part)])
