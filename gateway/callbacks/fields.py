"""Converters: what one vendor field becomes, each with its JSON Schema so that code and documents agree.

A converter gets the value as parsed (a field that is absent, null or ``""`` never reaches it) and returns
what goes into ``data``, or None for "nothing said". Vendors send numbers as strings and strings as numbers
(protocol.md, E1), so every converter takes both. It raises ValueError for a value it cannot use; the field
is then left out, ``raw`` has it, and the drift is counted. :class:`Odd` is for a value that is used all the same.

A converter of one's own is a function of two arguments and a schema::

    LEVEL = Converter("level", lambda value, scope: str(value).lower(), {"type": "string"})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final

from gateway.callbacks import bounds, phones, times
from gateway.callbacks import money as _money
from gateway.telemetry import redaction

#: Drift labels of one callback. More say nothing new, and a hostile body could hold millions.
MOST_LABELS: Final = 16

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_LONGEST_INTEGER: Final = 20


@dataclass(slots=True)
class Scope:
    """What converting one callback needs and collects.

    Args:
        zone: of times that carry none.
        max_items: items of the callback; a multiple of it bounds the objects in lists inside them.
        drift: labels of what protocol.md does not know, in the order met, without repeats.
        members: objects in lists inside the items, so far.
    """

    zone: tzinfo
    max_items: int = bounds.MAX_ITEMS
    drift: list[str] = field(default_factory=list)
    members: int = 0

    def count_members(self, count: int) -> None:
        """Count the objects of a list inside an item, before they are read.

        Raises:
            CallbackRejected: the callback has too many.
        """
        self.members += count
        if self.members > self.max_items * bounds.MEMBERS_PER_ITEM:
            raise bounds.too_many_members(self.max_items)

    def note(self, kind: str, value: str, *, below: str = "") -> None:
        """Count the label ``kind:value``, with a value that may be shown in a log.

        Args:
            kind: a word of ours: ``field``, ``value``, or the name of our field.
            value: the vendor's name or code.
            below: the documented path that a name is below of, with its separator.
        """
        if len(self.drift) < MOST_LABELS:
            label = f"{kind}:{below}{redaction.code(value)}"
            if label not in self.drift:
                self.drift.append(label)


class Odd(ValueError):
    """A value never seen in protocol.md that is used all the same.

    Args:
        value: what goes into ``data``.
        code: the vendor's code, for the label ``<field>:<code>``; None makes it ``value:<vendor field>``.
    """

    def __init__(self, value: object, code: str | None = None) -> None:
        super().__init__("never seen before")
        self.value = value
        self.code = code


Convert = Callable[[Any, Scope], Any]


@dataclass(frozen=True, slots=True)
class Converter:
    """One way of reading a vendor field.

    Args:
        name: for documents, such as ``phone``.
        convert: see the module's head.
        schema: JSON Schema of what it returns.
    """

    name: str
    convert: Convert
    schema: Mapping[str, Any]


def written(value: object) -> str:
    """A scalar as the text it would be in a form. Raises ValueError for objects and lists."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return str(int(value)) if value.is_integer() and abs(value) < _INT64_MAX else repr(value)
    raise ValueError("not a scalar")


def _text(value: Any, scope: Scope) -> str:
    return value if type(value) is str else written(value)


def _identifier(value: Any, scope: Scope) -> str | None:
    return (value if type(value) is str else written(value)).strip() or None


def _phone(value: Any, scope: Scope) -> str | None:
    return phones.e164(value if type(value) is str else written(value)) or None


def _time(value: Any, scope: Scope) -> str | None:
    try:
        if type(value) is str and len(value) <= times.MOST_LETTERS:
            return times.from_text(value, scope.zone)
        return times.rfc3339(value, scope.zone)
    except ValueError:
        moment = times.salvaged(value, scope.zone)
        if moment is None:
            raise
        raise Odd(moment) from None


def _money_text(value: Any, scope: Scope) -> str | None:
    return _money.decimal(value)


def _integer(value: Any, scope: Scope) -> int | None:
    if type(value) is str and value.isdecimal() and value.isascii() and len(value) < _LONGEST_INTEGER - 1:
        return int(value)
    if type(value) is not int:
        text = written(value).strip()
        if not text:
            return None
        whole, _, fraction = text.partition(".")
        if len(whole) > _LONGEST_INTEGER or fraction.strip("0"):
            raise ValueError("not an integer")
        value = int(whole)
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise ValueError("beyond 64 bit")
    return int(value)


def _number(value: Any, scope: Scope) -> int | float | None:
    text = written(value).strip()
    if not text:
        return None
    try:
        return _integer(text, scope)
    except ValueError:
        number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _duration(value: Any, scope: Scope) -> int | float | None:
    number = _number(value, scope) if type(value) is not int else _integer(value, scope)
    if number is not None and number < 0:
        raise ValueError("a negative duration")
    return number


def _flag(value: Any, scope: Scope) -> bool | None:
    if type(value) is bool:
        return value
    return _FLAGS[written(value).strip().lower()]


_FLAGS: Final[dict[str, bool | None]] = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
    "": None,
}


def _texts(value: Any, scope: Scope) -> list[str] | None:
    if type(value) is list:
        return [written(one) for one in value if one is not None and one != ""] or None
    return [_text(value, scope)]


def _is_set(value: Any, scope: Scope) -> bool:
    return written(value).strip().strip("0.") != ""


text: Final = Converter("text", _text, {"type": "string"})
identifier: Final = Converter("identifier", _identifier, {"type": "string", "minLength": 1})
phone: Final = Converter(
    "phone", _phone, {"type": "string", "description": "E.164 with + where the country code is known"}
)
money: Final = Converter("money", _money_text, {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"})
integer: Final = Converter("integer", _integer, {"type": "integer"})
number: Final = Converter("number", _number, {"type": "number"})
duration: Final = Converter("duration in seconds", _duration, {"type": "number", "minimum": 0})
flag: Final = Converter("flag", _flag, {"type": "boolean"})
texts: Final = Converter("list of texts", _texts, {"type": "array", "items": {"type": "string"}})
is_set: Final = Converter("not zero", _is_set, {"type": "boolean"})

#: Vendor times. All four take all five forms of E2; the name says which one the vendor documents.
_TIME_SCHEMA: Final = {"type": "string", "format": "date-time"}
local_time: Final = Converter("local time", _time, _TIME_SCHEMA)
seconds: Final = Converter("Unix seconds", _time, _TIME_SCHEMA)
millis: Final = Converter("Unix milliseconds", _time, _TIME_SCHEMA)
micros: Final = Converter("Unix microseconds", _time, _TIME_SCHEMA)


def words(table: Mapping[str, str]) -> Converter:
    """A vendor code as our word. A code that the table lacks is the word ``unknown``, and drift.

    Args:
        table: vendor code, as text, to word. Letter case does not matter.
    """
    folded = {code.lower(): word for code, word in table.items()}
    exact = {**folded, **table}

    def convert(value: Any, scope: Scope) -> str | None:
        code = value if type(value) is str else written(value)
        word = exact.get(code)
        if word is None:
            code = code.strip()
            if not code:
                return None
            word = folded.get(code.lower())
            if word is None:
                raise Odd("unknown", code)
        return word

    return Converter("word", convert, {"type": "string", "enum": sorted({*table.values(), "unknown"})})


def is_one_of(*codes: str) -> Converter:
    """True when the vendor's code is one of these, False for any other."""
    wanted = frozenset(code.lower() for code in codes) | frozenset(codes)

    def convert(value: Any, scope: Scope) -> bool:
        return (type(value) is str and value in wanted) or written(value).strip().lower() in wanted

    return Converter("flag", convert, {"type": "boolean"})
