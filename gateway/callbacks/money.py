"""Money and rates as decimal strings, the one place for it: never a float, never an exponent.

The vendor sends amounts as strings in SMS, voice, DID and email and as numbers elsewhere (protocol.md, E9).
A string is kept digit by digit (``0.0360`` stays so); a number is written the shortest way that is exact.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any, Final

_PLAIN: Final = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?", re.ASCII)

#: Digits on either side of the point. No amount has more; ten times more would let 12 bytes (``1e-400``)
#: become a text of hundreds.
_MOST_DIGITS: Final = 40
#: Units of one message or call; more are a mistake, and no total is made of them.
_MOST_UNITS: Final = 10**9


def decimal(value: object) -> str | None:
    """The amount in plain digits; None for a blank.

    Raises:
        ValueError: not a finite number, or one with more digits than any amount has.
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
    """Whether a short text is an amount; remembered, as there are few prices."""
    return _PLAIN.fullmatch(text) is not None


def total(amounts: list[str]) -> str:
    """The sum of amounts made by :func:`decimal`, exact."""
    with localcontext(prec=4 * _MOST_DIGITS):
        return format(sum(map(Decimal, amounts), Decimal(0)), "f")


@lru_cache(maxsize=1024)
def times(unit: str, count: int) -> str:
    """Return the amount of so many units, exact; remembered, as there are few prices."""
    with localcontext(prec=4 * _MOST_DIGITS):
        return format(Decimal(unit) * count, "f")


def add_total(price: dict[str, Any], count: object) -> None:
    """Add ``total`` to a price whose ``unit`` is known, where the number of units is known too.

    Args:
        price: member ``price`` of an event's ``data``.
        count: of billed units; anything but a positive integer says nothing.
    """
    unit = price.get("unit")
    if unit is not None and type(count) is int and 0 < count < _MOST_UNITS:
        price["total"] = unit if count == 1 else times(unit, count)
