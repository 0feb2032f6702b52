"""Form fields from raw bytes: ``application/x-www-form-urlencoded``, in a body or in a query.

The result is what the standard library gives (``+`` is a blank, ``%XX`` a byte, then UTF-8, blank values
kept), several times faster. Vendors write raw blanks, raw UTF-8 and wrong escapes into queries (protocol.md,
E3): all of them are text here, nothing is an error. Bytes that are not UTF-8 become ``\\xNN`` so that a
receipt is never lost for one letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

#: Name and value of one part that is not empty.
_PART: Final = re.compile(r"(?=[^&])([^&=]*)=?([^&]*)")

#: The header of a part that names its field (RFC 7578, 4.2), folded or not, and its parameters (RFC 2045, 5.1), quoted
#: or not.
_DISPOSITION: Final = re.compile(rb"^content-disposition:(.*+(?:\n[ \t].*+)*+)", re.IGNORECASE | re.MULTILINE)
_PARAMETER: Final = re.compile(rb';\s*+([^\s=;]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;]*+))')
#: A comma or a line's end with a name and a colon behind it; in a text there is none behind them, or an address.
_LISTED: Final = re.compile(r"[,\r\n]\s*(?=([A-Za-z_]+):(?!//))")
#: The field of a listing that people write, and what may stand behind it: in a text all else is the text's.
_WRITTEN: Final = "content"
_BEHIND_TEXT: Final = frozenset({"type", "toPhone", "fromPhone", "size", "price", "receiveTime", "smsStatus"})
#: How the listing of a DID callback begins. Nothing else does: a form's name has no colon.
_LISTING: Final = b"messageId:"


def pairs(data: bytes) -> list[tuple[str, str]]:
    """The fields in the order sent; a part without ``=`` is a name with an empty value; empty parts are skipped."""
    text = _unescaped_at_once(data)
    if text is None:
        return [_unescaped(part) for part in data.replace(b"+", b" ").split(b"&") if part]
    found: list[tuple[str, str]] = _PART.findall(text)
    return found


def mapping(data: bytes) -> dict[str, str] | None:
    """The fields by name, in two thirds of the time; None where a name repeats or a part has no ``=``."""
    text = _unescaped_at_once(data)
    if text is None:
        return None
    parts = text.split("&")
    try:
        fields = dict([part.split("=", 1) for part in parts])
    except ValueError:
        return None
    return fields if len(fields) == len(parts) else None


def _unescaped_at_once(data: bytes) -> str | None:
    """The text of a whole form; None where an escape stands for ``&`` or ``=`` and would move a field's border."""
    if b"+" in data:
        data = data.replace(b"+", b" ")
    if b"%" in data:
        # The escapes of a date first, cheaply: a colon or a blank cannot complete another escape.
        data = data.replace(b"%3A", b":").replace(b"%20", b" ")
        if b"%" in data:
            if b"%26" in data or b"%3D" in data or b"%3d" in data:
                return None
            data = unquote_to_bytes(data)
    return data.decode("utf-8", "backslashreplace")


def _unescaped(part: bytes) -> tuple[str, str]:
    name, _, value = part.partition(b"=")
    if b"%" in part:
        name = unquote_to_bytes(name)
        value = unquote_to_bytes(value)
    return name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace")


def multipart(body: bytes) -> list[tuple[str, str]]:
    """The fields of ``multipart/form-data``, another way to submit a form; the first line is the boundary.

    The boundary separates parts where it fills a line (RFC 2046, 5.1.1). In the middle of a line, or with more behind
    it, it is text.
    """
    found = []
    for part in _parts(body):
        head, _, value = part.replace(b"\r\n", b"\n").partition(b"\n\n")
        name = _part_name(head)
        if name is not None:
            found.append((name.decode("utf-8", "backslashreplace"), value.decode("utf-8", "backslashreplace")))
    return found


def _parts(body: bytes) -> Iterator[bytes]:
    """Yield the bytes between boundaries. The last part may lack a boundary behind it."""
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
    """Return the field that a part is for; None where its head does not say."""
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
    """Whether this is :func:`listing`'s to read, whatever ``=`` and ``&`` the text in it holds."""
    return body.startswith(_LISTING)


def listing(body: bytes) -> list[tuple[str, str]]:
    """``name:value,name:value``, as some DID pages print their example (protocol.md, section 2); ``+`` is a plus.

    Or with each in a line of its own. Blanks around a value are the listing's, not the value's. A line or a clause of
    the text that looks like a field is one only where the page lists it and it has not come yet.
    """
    text = unquote_to_bytes(body).decode("utf-8", "backslashreplace")
    parts = (part.partition(":") for part in _listed(text))
    return [(name.strip(), value.strip()) for name, _, value in parts if name.strip()]


def _listed(text: str) -> Iterator[str]:
    """The fields of a listing, name and value together."""
    name = text.partition(":")[0]
    names = {name}
    begins = 0
    for border in _LISTED.finditer(text):
        if name == _WRITTEN and (border[1] not in _BEHIND_TEXT or border[1] in names):
            continue
        yield text[begins : border.start()]
        begins = border.end()
        name = border[1]
        names.add(name)
    yield text[begins:]


def without(data: bytes, names: frozenset[str]) -> bytes:
    """The same bytes, with the fields of these names cut out and nothing else changed."""
    kept = [part for part in data.split(b"&") if not (part and _unescaped(part.replace(b"+", b" "))[0] in names)]
    return b"&".join(kept)
