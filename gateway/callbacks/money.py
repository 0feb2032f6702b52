"""Convert money and rates to decimal strings, without floats and exponents. No other module does.

The vendor sends amounts as strings in SMS, voice, DID and email and as numbers elsewhere (protocol.md, E9).
A string keeps its digits (``0.0360`` is unchanged); a number gets its shortest exact notation.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any, Final

_PLAIN: Final = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?", re.ASCII)

#: Digits on either side of the decimal point. No amount has more; with ten times more, 12 bytes (``1e-400``)
#: could become a text of hundreds of digits.
_MOST_DIGITS: Final = 40
#: Units of one message or call; a larger number is an error of the sender and gets no total.
_MOST_UNITS: Final = 10**9


def decimal(value: object) -> str | None:
    """Return an amount in plain digits; None for an empty value.

    Raises:
        ValueError: the value is not a finite number, or has too many digits for an amount.
    """
    if type(value) is str:
        if _is_plain(value) if len(value) <= _MOST_DIGITS else _PLAIN.fullmatch(value):
            return value
        text = value.strip()
        if not text:
            return None
    elif type(value) is int or type(value) is float:
        text = repr(value)
        if _PLAIN.fullmatch(text):
            return text
    else:
        raise ValueError("not an amount")
    if len(text) > 2 * _MOST_DIGITS or "_" in text:
        raise ValueError("not an amount")
    try:
        number = Decimal(text)
    except InvalidOperation as exc:
        raise ValueError("not an amount") from exc
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        raise ValueError("not an amount")
    return format(number, "f")


@lru_cache(maxsize=1024)
def _is_plain(text: str) -> bool:
    """Return whether a short text is an amount; cached, as there are few prices."""
    return _PLAIN.fullmatch(text) is not None


def total(amounts: list[str]) -> str:
    """Return the exact sum of amounts in the form of :func:`decimal`."""
    with localcontext(prec=4 * _MOST_DIGITS):
        return format(sum(map(Decimal, amounts), Decimal(0)), "f")


@lru_cache(maxsize=1024)
def times(unit: str, count: int) -> str:
    """Return the exact amount of ``count`` units; cached, as there are few prices.

    Args:
        unit: amount of one unit, in the form of :func:`decimal`.
        count: number of units.
    """
    with localcontext(prec=4 * _MOST_DIGITS):
        return format(Decimal(unit) * count, "f")


def add_total(price: dict[str, Any], count: object) -> None:
    """Add ``total`` to a price if its ``unit`` and the number of units are known.

    Args:
        price: member ``price`` of an event's ``data``; changed in place.
        count: number of billed units; other values than positive integers are ignored.
    """
    unit = price.get("unit")
    if unit is not None and type(count) is int and 0 < count < _MOST_UNITS:
        price["total"] = unit if count == 1 else times(unit, count)
