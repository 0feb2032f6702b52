"""Converters of vendor fields, each with its JSON Schema, so that code and documents agree.

A converter gets the parsed value (absent, null and ``""`` are skipped) and returns the value in ``data``, or None for
no value. Vendors send numbers as strings and strings as numbers (protocol.md, E1), so every converter accepts both. It
raises ValueError for an unusable value; the field is then omitted, ``raw`` has it, and the drift is counted.
:class:`UnknownValue` is for an unknown value that is used all the same.

A further converter is a function of two arguments and a schema::

    LEVEL = Converter("level", lambda value, scope: str(value).lower(), {"type": "string"})
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Final

from gateway.callbacks import money as _money
from gateway.callbacks import phones, times
from gateway.callbacks.jsontext import as_text, in_text
from gateway.callbacks.vocabulary import Vocabulary
from gateway.errors import CallbackRejected
from gateway.telemetry import redaction

#: Default of ``ingest.max_items``. The platform sends one item, or some dozen.
MAX_ITEMS: Final = 1000
#: Objects in lists inside the items (costs, contacts, products) of a callback, as a multiple of ``max_items``. A
#: message has one or two; with ten times more, one body could use the processor for a second.
_MEMBERS_PER_ITEM: Final = 4
#: Drift labels of one callback, at most; a hostile body could have millions.
MOST_LABELS: Final = 16

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_LONGEST_INTEGER: Final = 20


#: Names in ``data``: of an object (or empty), of a flag in it, and of the flag's number.
Flag = tuple[str, str, str]


@dataclass(slots=True)
class Scope:
    """State of the conversion of one callback.

    Args:
        zone: time zone of times without one.
        max_items: limit of items; a multiple of it limits the objects in lists inside them.
        country: configured country code of phone numbers without one; empty: not known.
        drift: labels of undocumented data, in the order found, without repeats.
        national: flags to set for numbers whose country is not certain; None if there are none, which avoids a list for
            each callback.
        members: objects found in lists inside the items.
    """

    zone: tzinfo
    max_items: int = MAX_ITEMS
    country: str = ""
    drift: list[str] = field(default_factory=list)
    national: list[Flag] | None = None
    members: int = 0

    def count_members(self, count: int) -> None:
        """Count the objects of a list inside an item, before they are converted.

        Raises:
            CallbackRejected: the callback has too many of them.
        """
        self.members += count
        most = self.max_items * _MEMBERS_PER_ITEM
        if self.members > most:
            raise CallbackRejected(f"more than {most} objects inside the items, see the setting ingest.max_items")

    def mark_national(self, flag: Flag) -> None:
        """Request a flag for a number whose country is not certain."""
        if self.national is None:
            self.national = [flag]
        else:
            self.national.append(flag)

    def note(self, kind: str, value: str, *, below: str = "") -> None:
        """Count the label ``kind:value``; the value is made safe for a log.

        Args:
            kind: ``field``, ``value``, or the name of a field in ``data``.
            value: the vendor's name or code.
            below: documented path above the name, with its separator.
        """
        if len(self.drift) < MOST_LABELS:
            label = f"{kind}:{below}{redaction.code(value)}"
            if label not in self.drift:
                self.drift.append(label)


class UnknownValue(ValueError):
    """A value that protocol.md does not have and that is used all the same.

    Args:
        value: the value in ``data``.
        code: the vendor's code, for the label ``<field>:<code>``; with None the label is ``value:<vendor field>``.
    """

    def __init__(self, value: object, code: str | None = None) -> None:
        super().__init__("never seen before")
        self.value = value
        self.code = code


Convert = Callable[[Any, Scope], Any]


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts a vendor field.

    Args:
        name: name in documents, such as ``phone``.
        convert: see the module.
        schema: JSON Schema of the result.
    """

    name: str
    convert: Convert
    schema: Mapping[str, Any]


def _written(value: Any, scope: Scope) -> str:
    return value if type(value) is str else as_text(value)


#: Texts for a missing value in several languages. Only a text that a person has written may consist of one of them.
NULL_WORDS: Final = frozenset({"null", "NULL", "Null", "undefined", "UNDEFINED", "Undefined"})


def _identifier(value: Any, scope: Scope) -> str | None:
    if type(value) is int:
        return str(value)
    said = (value if type(value) is str else as_text(value)).strip()
    return None if said in NULL_WORDS else said or None


def _text(value: Any, scope: Scope) -> str | None:
    said = value if type(value) is str else as_text(value)
    return None if said in NULL_WORDS else said


def _time(value: Any, scope: Scope) -> str | None:
    try:
        if type(value) is str and len(value) <= times.MOST_LETTERS:
            return times.from_text(value, scope.zone)
        if type(value) is int:
            return times.from_text(str(value), scope.zone)
        return times.rfc3339(value, scope.zone)
    except ValueError:
        if type(value) is str and value.strip() in NULL_WORDS:
            return None
        moment = times.salvaged(value, scope.zone)
        if moment is None:
            raise
        raise UnknownValue(moment) from None


def _money_text(value: Any, scope: Scope) -> str | None:
    return None if type(value) is str and value in NULL_WORDS else _money.decimal(value)


def _integer(value: Any, scope: Scope) -> int | None:
    if type(value) is str and value.isdecimal() and value.isascii() and len(value) < _LONGEST_INTEGER - 1:
        return int(value)
    if type(value) is not int:
        text = as_text(value).strip()
        if not text or text in NULL_WORDS:
            return None
        whole, _, fraction = text.partition(".")
        if len(whole) > _LONGEST_INTEGER or fraction.strip("0") or "_" in whole:
            raise ValueError("not an integer")
        value = int(whole)
    if not _INT64_MIN <= value <= _INT64_MAX:
        raise ValueError("beyond 64 bit")
    return int(value)


def _number(value: Any, scope: Scope) -> int | float | None:
    text = value if type(value) is str else as_text(value)
    try:
        return _integer(text, scope)
    except ValueError:
        number = float(text)
    if not math.isfinite(number) or "_" in text:
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
    return _FLAGS[as_text(value).strip().lower()]


_FLAGS: Final[dict[str, bool | None]] = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
    "": None,
    "null": None,
    "undefined": None,
}


def _texts(value: Any, scope: Scope) -> list[str] | None:
    if type(value) is str and value[:1] == "[":
        value = in_text(value) or value
    listed = value if type(value) is list else (value,)
    return [said for said in (_text(one, scope) for one in listed if one is not None) if said] or None


def _is_time(value: Any, scope: Scope) -> bool | None:
    """Return whether a value is a time; 0 means that there is none. A value that cannot be right decides nothing."""
    try:
        return True if _time(value, scope) else None if value in NULL_WORDS else False
    except UnknownValue:
        return True


text: Final = Converter("text", _text, {"type": "string"})
#: A text that a person has written. It may be a word of :data:`NULL_WORDS`.
written: Final = Converter("text", _written, {"type": "string"})
identifier: Final = Converter("identifier", _identifier, {"type": "string", "minLength": 1})
code: Final = Converter("code", _identifier, {"type": "string", "minLength": 1})
money: Final = Converter("money", _money_text, {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"})
integer: Final = Converter("integer", _integer, {"type": "integer"})
number: Final = Converter("number", _number, {"type": "number"})
duration: Final = Converter("duration in seconds", _duration, {"type": "number", "minimum": 0})
flag: Final = Converter("flag", _flag, {"type": "boolean"})
texts: Final = Converter("list of texts", _texts, {"type": "array", "items": {"type": "string"}})
is_time: Final = Converter("a time", _is_time, {"type": "boolean"})

#: Vendor times. All four accept all five forms of E2; the name is that of the documented form.
_TIME_SCHEMA: Final = {"type": "string", "format": "date-time"}
local_time: Final = Converter("local time", _time, _TIME_SCHEMA)
seconds: Final = Converter("Unix seconds", _time, _TIME_SCHEMA)
millis: Final = Converter("Unix milliseconds", _time, _TIME_SCHEMA)
micros: Final = Converter("Unix microseconds", _time, _TIME_SCHEMA)


def phone(flag_name: str, read: phones.Read) -> Converter:
    """Return the converter of a phone number; see :func:`gateway.callbacks.field_mapping.phone_number`."""
    is_stated = read is phones.certain
    group, _, member = flag_name.rpartition(".")
    flag = (group, member, member.removesuffix("_national"))

    def convert(value: Any, scope: Scope) -> str | None:
        text = value if type(value) is str else as_text(value)
        if text.isdigit():  # nearly all; what is said here saves two calls and says what `read` says
            if is_stated and phones.has_country(text):
                return "+" + text
            if not (is_stated or scope.country or text[:2] == "00") and text.isascii():
                scope.mark_national(flag)
                return text
        elif text[:1] == "+" and text[1:].isdigit() and phones.has_country(text[1:]):
            return text
        if text in NULL_WORDS:
            return None
        number = read(text, scope.country)
        if number.is_national:
            scope.mark_national(flag)
        return number.text or None

    return Converter("phone", convert, {"type": "string"})


#: A code as a number: leading zeros, a sign and an empty fraction are ignored.
_NUMERIC: Final = re.compile(r"\+?0*(\d{1,18})(?:\.0+)?", re.ASCII)


def canonical(code: str) -> str:
    """Return a code in the form of the tables: a number in its shortest form, other text in lower case."""
    number = _NUMERIC.fullmatch(code)
    return number[1] if number else code.lower()


def by_code(table: Mapping[str, Any], schema: Mapping[str, Any], otherwise: Callable[[str], Any]) -> Converter:
    """Return a converter by a table of the vendor's codes.

    Args:
        table: vendor code as text → value in ``data``. Case, surrounding spaces and leading zeros are ignored.
        schema: JSON Schema of the values.
        otherwise: returns the value of a code that the table does not have; may raise :class:`UnknownValue`.
    """
    folded = {code.lower(): value for code, value in table.items()}
    exact = {code.upper(): value for code, value in table.items()} | folded | dict(table)
    numbers = {int(code): value for code, value in table.items() if code.isdecimal()}

    def convert(value: Any, scope: Scope) -> Any:
        found = exact.get(value) if type(value) is str else numbers.get(value) if type(value) is int else None
        if found is not None:
            return found
        code = (value if type(value) is str else as_text(value)).strip()
        if not code or code in NULL_WORDS:
            return None
        key = canonical(code)
        return folded[key] if key in folded else otherwise(code)

    return Converter("by code", convert, schema)


def words(table: Mapping[str, str], vocabulary: Vocabulary) -> Converter:
    """Return a converter of a vendor code to a word. A code that the table does not have is ``unknown``, and drift.

    Args:
        table: see :func:`by_code`.
        vocabulary: all words of the field in any event type, those of the table included.
    """
    strangers = set(table.values()) - {*vocabulary, "unknown"}
    if strangers:
        raise ValueError(f"words that the vocabulary lacks: {sorted(strangers)}")

    def otherwise(code: str) -> Any:
        raise UnknownValue("unknown", code)

    return by_code(table, open_enum(vocabulary), otherwise)


def unchanged(*names: str) -> dict[str, str]:
    """Return a table for :func:`words` of a vendor whose codes, in lower case, are the words of the vocabulary.

    Args:
        names: the words, or several in one text.
    """
    return {word: word for text in names for word in text.split()}


def facts(table: Mapping[str, bool]) -> Converter:
    """Return a converter of a vendor code to a boolean; codes that do not decide the question give no value."""
    return by_code(table, {"type": "boolean"}, lambda code: None)


def open_enum(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the JSON Schema of a word. A minor version may add words, so any text is valid."""
    return {"type": "string", "anyOf": [{"enum": sorted({*vocabulary, "unknown"})}, {"type": "string"}]}
