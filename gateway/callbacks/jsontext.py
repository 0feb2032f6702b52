"""JSON of a callback: parse its bytes to fields without loss of digits, and find one value by its path.

orjson is the parser: strict and fast. It reads integers beyond 64 bit and long fractions as floats, so a
text that holds such a number is parsed again, with every number as the text it was written as; the
converters of ``fields`` take numbers as text anyway.

What is kept of a body (``data.raw``) is its own bytes, so ``0.0360``, ``1.0`` and twenty digits survive.
A string may contain half of a surrogate pair, from a sender that cut an emoji. This is valid JSON by its grammar, but
strict parsers refuse it, the next stage of the gateway included. Its ``\\ud83d`` is kept as this text.

A repeated name in an object is legal JSON, and parsers differ in the value that they use (RFC 8259, section 4). This
module uses the last value, for fields, keys and ids. ``data.raw`` has both if it is the body itself, and
:attr:`JsonText.duplicates` has the name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from gateway.callbacks.charset import UTF_8_MARK as _BOM
from gateway.callbacks.charset import NotUtf8
from gateway.errors import CallbackRejected

_BLANK: Final = b" \t\r\n"
#: First bytes of a body that may be an object; the test of one byte excludes forms.
BEFORE_OBJECT: Final = frozenset({b"{", b" ", b"\t", b"\r", b"\n", b"\xef"})

#: A double represents any 15 digits; 16 characters with a point, or 20 digits, may exceed the precision of orjson.
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

#: From here on a float has no fraction, and is written as it is.
_WHOLE: Final = 2**63 - 1

#: orjson serialises at most 254 levels; four of them are reserved for the event around the fields.
SPARE_LEVELS: Final = 4

#: Reported names, at most; a hostile body could have any number.
_MOST_DUPLICATES: Final = 16
#: Largest body, in bytes, that is parsed again for its repeated names, in ten times the time of the first parse. For a
#: larger body only the fact is reported.
_MOST_NAMED_BYTES: Final = 65_536


class JsonText(NamedTuple):
    """One parsed body. (A tuple: creating a frozen dataclass takes three times as long.)

    Args:
        fields: the object. If a double cannot represent one of its numbers, all numbers are text.
        text: bytes of the object on one line, for ``orjson.Fragment``.
        canonical: equal for equal values, independent of the order of keys and of white space.
        duplicates: names that an object in it has more than once; ``?`` in a body over 64 KiB.
    """

    fields: dict[str, Any]
    text: bytes
    canonical: bytes
    duplicates: tuple[str, ...] = ()


def is_object(body: bytes) -> bool:
    """Return whether a body looks like a JSON object, independent of the content type."""
    return body.removeprefix(_BOM).lstrip(_BLANK)[:1] == b"{"


def kind(body: bytes) -> str | None:
    """Return the kind of a JSON value, such as ``array``; None if the body is not JSON."""
    try:
        return _KINDS[type(orjson.loads(body.removeprefix(_BOM).strip(_BLANK)))]
    except orjson.JSONDecodeError:
        return None


def in_text(text: str) -> Any:
    """Return the value of a JSON text in a field; None if it is not JSON, or cannot be serialised again.

    The depth of such a value is counted separately, so a callback with it may be deeper than the limit of
    :func:`parse`.
    """
    try:
        value = orjson.loads(text)
        orjson.dumps([[[[[[[[[[[[value]]]]]]]]]]]])  # as deep as any path to such a field
    except (orjson.JSONDecodeError, TypeError):
        return None
    return value


def parse(body: bytes) -> JsonText:
    """Parse one JSON object.

    Raises:
        NotUtf8: the body has another character set.
        CallbackRejected: the body is not JSON, not an object, or nested more than 250 levels deep.
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
    # The same length: no name was lost. This avoids the count (0.3 µs) for the usual, compact body.
    is_whole = len(text) == len(canonical) or _quotes(text) == _quotes(canonical)
    if _LONG_RUN in text.translate(_DIGITS) and _LONG_NUMBER.search(text):
        fields = json.loads(text, parse_float=str, parse_int=str)
        canonical = received
    return JsonText(
        fields, _on_one_line(text), canonical if text is received else received, () if is_whole else _duplicates(text)
    )


def lossless(text: bytes) -> dict[str, Any]:
    """Return the object for splitting and serialising parts of it, with numbers as written.

    Args:
        text: the text of a :class:`JsonText`, which is an object.
    """
    if _FRACTION.search(text) or _LONG_NUMBER.search(text):
        parsed: dict[str, Any] = json.loads(text, parse_float=orjson.Fragment, parse_int=orjson.Fragment)
        return parsed
    loaded: dict[str, Any] = orjson.loads(text)
    return loaded


def _quotes(text: bytes) -> int:
    """Count the quotes around names and strings.

    A repeated name loses two of them when the object is serialised again; nothing else changes their number.
    """
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def _duplicates(text: bytes) -> tuple[str, ...]:
    """Return the names that an object has more than once, in the order found, without repeats."""
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
    """Parse again with lone surrogates as text. A body that fails again is not JSON."""
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
    """Return a JSON text on one line. A line break can only be between values, where a space is equivalent."""
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


_STEP: Final = re.compile(r"""\.([^.\[\]'"\s]+)|\[(\d{1,6})\]|\['([^']+)'\]|\["([^"]+)"\]""")


def as_text(value: object) -> str:
    """Return a scalar as the text that a form would have.

    Raises:
        ValueError: the value is an object or a list.
    """
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return str(int(value)) if value.is_integer() and abs(value) < _WHOLE else repr(value)
    raise ValueError("not a scalar")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path to one value: ``$.order.id``, ``$.items[0].sku``, ``$['order id']``. No wildcards, no filters.

    With a list of items (``each``), ``$`` is the item and ``$$`` the whole body: ``$$.account``.

    Raises:
        ValueError: the text is not such a path.
    """

    text: str
    steps: tuple[str | int, ...] = field(init=False, repr=False)
    is_of_body: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        steps: list[str | int] = []
        is_of_body = self.text.startswith("$$")
        at = 2 if is_of_body else 1
        while at < len(self.text) and (step := _STEP.match(self.text, at)):
            name, index, single, double = step.groups()
            steps.append(int(index) if index is not None else name or single or double)
            at = step.end()
        if not self.text.startswith("$") or at != len(self.text) or not steps:
            raise ValueError(f"{self.text!r} is not a path such as $.order.id")
        object.__setattr__(self, "steps", tuple(steps))
        object.__setattr__(self, "is_of_body", is_of_body)

    @property
    def name(self) -> str:
        """The path without the root, in the sender's notation: ``order.id``."""
        return self.text.lstrip("$").removeprefix(".")

    def value(self, fields: Any) -> Any:
        """Return the value; None if it is absent."""
        for step in self.steps:
            if isinstance(step, int) and isinstance(fields, list):
                fields = fields[step] if step < len(fields) else None
            elif isinstance(fields, dict):
                fields = fields.get(str(step))
            else:
                return None
        return fields

    def find(self, fields: Any) -> str:
        """Return the value as text; empty if it is absent, null, an object or a list."""
        try:
            return as_text(self.value(fields))
        except ValueError:
            return ""
