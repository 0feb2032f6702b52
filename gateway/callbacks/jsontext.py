"""JSON bytes to fields without losing a digit.

orjson is the parser: strict and fast. It reads integers beyond 64 bit and long fractions as floats, so a
text that holds such a number is parsed again, with every number as the text it was written as; the
converters of ``fields`` take numbers as text anyway.

What is kept of a body (``data.raw``) is its own bytes, so ``0.0360``, ``1.0`` and twenty digits survive.
A string may hold half of a surrogate pair (a sender that cut an emoji in two): grammatically JSON, but no
strict reader takes it, ours of the next stage included. Its ``\\ud83d`` is kept as that very text.

A name that an object has twice is legal JSON, and readers differ in the value they use (RFC 8259, section 4). Here the
last one counts, for fields, keys and ids alike; ``data.raw`` holds both where it is the body itself, and the name is
reported in :attr:`JsonText.duplicates`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from gateway.callbacks.charset import UTF_8_MARK as _BOM
from gateway.callbacks.charset import NotUtf8
from gateway.errors import CallbackRejected

_BLANK: Final = b" \t\r\n"
#: First bytes of a body that may be an object: a look at one byte spares forms the rest of the question.
BEFORE_OBJECT: Final = frozenset({b"{", b" ", b"\t", b"\r", b"\n", b"\xef"})

#: A double holds any 15 digits; 16 characters with a point, or 20 digits, may be more than orjson keeps.
_DIGITS: Final = bytes(48 if chr(byte) in "0123456789." else byte for byte in range(256))
_LONG_RUN: Final = b"0" * 17
_LONG_NUMBER: Final = re.compile(rb"[:,\[]\s*-?(?:\d{20}|(?=[\d.]{17})\d+\.)")
_FRACTION: Final = re.compile(rb"[:,\[]\s*-?\d+[.eE]")
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)

_KINDS: Final[dict[type, str]] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}

#: orjson writes at most 254 levels. Four of them are left for the event that the fields go into.
SPARE_LEVELS: Final = 4

#: Names that are reported. More say nothing new, and a hostile body could hold any number.
_MOST_DUPLICATES: Final = 16
#: Bytes of a body that is parsed again for the names that it has twice, in ten times the time of the first parse. Of a
#: longer body only the fact is reported.
_MOST_NAMED_BYTES: Final = 65_536


class JsonText(NamedTuple):
    """One parsed body. (A tuple: a frozen dataclass takes three times as long to make.)

    Args:
        fields: the object. Numbers that a double cannot hold are text, in that case all numbers are.
        text: the object's own bytes on one line, for ``orjson.Fragment``.
        canonical: equal for equal values, whatever the order of keys and the blanks between them.
        duplicates: names that an object in it has more than once; ``?`` for those of a body over 64 KiB.
    """

    fields: dict[str, Any]
    text: bytes
    canonical: bytes
    duplicates: tuple[str, ...] = ()


def is_object(body: bytes) -> bool:
    """Whether this looks like a JSON object, whatever the content type says."""
    return body.removeprefix(_BOM).lstrip(_BLANK)[:1] == b"{"


def kind(body: bytes) -> str | None:
    """What JSON value this is, such as ``array``; None for what is not JSON."""
    try:
        return _KINDS[type(orjson.loads(body.removeprefix(_BOM).strip(_BLANK)))]
    except orjson.JSONDecodeError:
        return None


def in_text(text: str) -> Any:
    """Return the value of a JSON text that stands in a field; None where it is none, or could not be written again.

    Such a value is nested on its own, so a callback with it may be deeper than the limit of :func:`parse`.
    """
    try:
        value = orjson.loads(text)
        orjson.dumps([[[[[[[[[[[[value]]]]]]]]]]]])  # as deep as any path to such a field
    except (orjson.JSONDecodeError, TypeError):
        return None
    return value


def parse(body: bytes) -> JsonText:
    """Read one JSON object.

    Raises:
        NotUtf8: another character set.
        CallbackRejected: not JSON, not an object, or nested more than 250 levels deep.
    """
    text = received = body.removeprefix(_BOM).strip(_BLANK)
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        fields, text = _halves_kept(text, exc)
    if type(fields) is not dict:
        raise CallbackRejected("a JSON object is expected")
    try:
        canonical = orjson.dumps([[[[fields]]]], option=orjson.OPT_SORT_KEYS)[SPARE_LEVELS:-SPARE_LEVELS]
    except TypeError as exc:
        raise CallbackRejected("nested more than 250 levels deep") from exc
    # As long as before: nothing was left out. It spares the usual body, which is compact, the count (0.3 µs).
    is_whole = len(text) == len(canonical) or _quotes(text) == _quotes(canonical)
    if _LONG_RUN in text.translate(_DIGITS) and _LONG_NUMBER.search(text):
        fields = json.loads(text, parse_float=str, parse_int=str)
        canonical = received
    return JsonText(
        fields, _on_one_line(text), canonical if text is received else received, () if is_whole else _duplicates(text)
    )


def lossless(text: bytes) -> dict[str, Any]:
    """The object for taking it apart and writing parts of it again: numbers keep the way they were written.

    Args:
        text: the text of a :class:`JsonText`, so it is known to be an object.
    """
    if _FRACTION.search(text) or _LONG_NUMBER.search(text):
        parsed: dict[str, Any] = json.loads(text, parse_float=orjson.Fragment, parse_int=orjson.Fragment)
        return parsed
    loaded: dict[str, Any] = orjson.loads(text)
    return loaded


def _quotes(text: bytes) -> int:
    """Count the quotes around names and strings. A name that is there twice has left two of them behind when the object
    is written again; nothing else changes their number.
    """
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def _duplicates(text: bytes) -> tuple[str, ...]:
    """Return the names that an object has more than once, in the order met, without repeats."""
    if len(text) > _MOST_NAMED_BYTES:
        return ("?",)
    found: dict[str, None] = {}

    def note(pairs: list[tuple[str, Any]]) -> None:
        names = Counter(name for name, _ in pairs)
        if len(names) < len(pairs):
            found.update(dict.fromkeys(name for name, count in names.items() if count > 1))

    json.loads(text, object_pairs_hook=note, parse_int=str, parse_float=str)
    return tuple(islice(found, _MOST_DUPLICATES))


def _halves_kept(text: bytes, failure: orjson.JSONDecodeError) -> tuple[Any, bytes]:
    """The second try, with lone surrogates as text. What still fails is not JSON."""
    kept = _ESCAPE.sub(lambda found: b"\\" + found[0] if found[1] else found[0], text)
    if kept != text:
        try:
            return orjson.loads(kept), kept
        except orjson.JSONDecodeError:
            pass
    try:
        text.decode()
    except UnicodeDecodeError:
        raise NotUtf8("not UTF-8") from failure
    raise CallbackRejected(f"not JSON: {failure.msg}") from failure


def _on_one_line(text: bytes) -> bytes:
    """A line break can only stand between values, since a JSON string holds none: a blank says the same."""
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text
