"""Money and rates as decimal strings, the one place for it: never a float, never an exponent.

The vendor sends amounts as strings in SMS, voice, DID and email and as numbers elsewhere (protocol.md, E9).
A string is kept digit by digit (``0.0360`` stays so); a number is written the shortest way that is exact.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation, localcontext
from typing import Final

_PLAIN: Final = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?", re.ASCII)

#: Digits on either side of the point. No amount has more; ten times more would let 12 bytes (``1e-400``)
#: become a text of hundreds.
_MOST_DIGITS: Final = 40


def decimal(value: object) -> str | None:
    """The amount in plain digits; None for a blank.

    Raises:
        ValueError: not a finite number, or one with more digits than any amount has.
    """
    if type(value) is str:
        if _PLAIN.fullmatch(value):
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


def total(amounts: list[str]) -> str:
    """The sum of amounts made by :func:`decimal`, exact."""
    with localcontext(prec=4 * _MOST_DIGITS):
        return format(sum(map(Decimal, amounts), Decimal(0)), "f")
