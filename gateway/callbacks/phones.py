"""Phone numbers: which ones are certain, the one place for it (ITU-T E.164).

A number gets its ``+`` only where the country code is certain: a mark says so (``+``, ``00``, in a form a bare ``+``
that arrives as a space), the vendor's page states it, a field of the callback carries the code, or the path's
``default_country`` is configured. Then the code must exist and the number must have a length of that country, so
that a short code or a national number is not taken for one abroad. Any other digits stay digits, and the event says
so in a flag. What is no number (SIP addresses, sender names, masked numbers) is kept as the text it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.callbacks.country_codes import NATIONAL_LENGTHS

_FILLING: Final = str.maketrans("", "", " -.()/\t\u00a0\u2010\u2011\u2012\u2013")
#: As people write the trunk zero of a national number behind a country code: +44 (0)20 7946 0958.
_TRUNK_ZERO: Final = "(0)"
#: Where the 0 before a national number is part of it.
_ZERO_STAYS: Final = frozenset({"39", "378"})
#: Characters of a number with its filling; longer texts are none.
_LONGEST: Final = 40


class Number(NamedTuple):
    """A phone number as it is shown.

    Args:
        text: E.164 with ``+`` where that is certain, else digits, else the text as it came.
        is_national: the text is digits whose country is not certain.
    """

    text: str
    is_national: bool


#: How a number is read: :func:`certain` or :func:`uncertain`.
Read = Callable[[str, str], Number]
_Lengths = frozenset[int]


def _tables() -> tuple[dict[str, _Lengths], dict[str, tuple[str, dict[str, _Lengths]]]]:
    """Return the lengths of whole numbers: by their first three digits, and then by the digit behind the code, too."""
    any_length: dict[str, _Lengths] = {}
    by_digit: dict[str, tuple[str, dict[str, _Lengths]]] = {}
    for line in NATIONAL_LENGTHS.splitlines():
        code, *groups = line.split()
        lengths: dict[str, _Lengths] = {}
        for digits, _, ranges in (group.partition(":") for group in groups):
            bounds = [one.partition("-") for one in ranges.split(",")]
            nationals = (range(int(low), int(high or low) + 1) for low, _, high in bounds)
            lengths |= dict.fromkeys(digits, frozenset(len(code) + one for row in nationals for one in row))
        union = frozenset().union(*lengths.values())
        for rest in range(10 ** (3 - len(code))):
            prefix = (code + str(rest).zfill(3 - len(code)))[:3]
            any_length[prefix] = union
            by_digit[prefix] = (code, lengths)
    return any_length, by_digit


_LENGTHS, _BY_DIGIT = _tables()


def has_country(digits: str) -> bool:
    """Whether these digits begin with a country code that exists and have a length of that country."""
    return len(digits) in _LENGTHS.get(digits[:3], ())


def is_country_code(code: str) -> bool:
    """Whether this country code exists."""
    return code.isdecimal() and _BY_DIGIT.get((code + "00")[:3], ("",))[0] == code


def certain(text: str, country: str = "") -> Number:
    """Return a number whose country code the page states or a mark shows.

    Args:
        text: as the vendor wrote it.
        country: country code of the path's ``default_country``, for a number that has none after all.
    """
    if text.isdigit() and has_country(text):
        return Number("+" + text, False)
    return _read(text, country, is_stated=True)


def uncertain(text: str, country: str = "") -> Number:
    """Return a number of which no page says that it has its country code; arguments as :func:`certain`."""
    return _read(text, country, is_stated=False)


def with_country(text: str, code: str, *, is_stated: bool = False) -> Number:
    """Return a number whose country code a field of its own names; the number may have it already or not.

    Args:
        text: as the vendor wrote it.
        code: the country code, digits; anything else counts as none.
        is_stated: the page says that the number has its code: decides where both readings have a right length.
    """
    if text.startswith(code) and text.isdigit() and _fits(text) and (is_stated or not _fits(code + text)):
        return Number("+" + text, False)
    code = code.strip().lstrip("+").lstrip("0")
    return _read(text, code if is_country_code(code) else "", is_stated=is_stated)


def _read(text: str, country: str, *, is_stated: bool) -> Number:
    bare = text.strip()
    if len(bare) > _LONGEST:
        return Number(bare, False)
    digits = bare if bare.isdigit() else bare.replace(_TRUNK_ZERO, "", 1).translate(_FILLING)
    is_marked = text[:1] == " "  # a bare + of a form
    if digits.startswith("+"):
        digits, is_marked = digits[1:], True
    elif digits.startswith("00") and has_country(digits[2:]):
        digits, is_marked = digits[2:], True
    if not (digits.isdigit() and digits.isascii()):
        return Number(bare, False)
    whole = "" if is_marked or not country else _in_country(digits, country, is_stated=is_stated)
    if not whole and (is_marked or is_stated) and has_country(digits):
        whole = digits
    return Number("+" + whole, False) if whole else Number(digits, True)


def _in_country(digits: str, country: str, *, is_stated: bool) -> str:
    """Return the digits with the code of this country, whether they had it or not; empty where both may be."""
    national = digits[1:] if digits[0] == "0" and country not in _ZERO_STAYS else digits
    if digits.startswith(country) and _fits(digits):
        return digits if is_stated or not _fits(country + national) else ""
    return country + national if _fits(country + national) else ""


def _fits(digits: str) -> bool:
    """:func:`has_country`, by the first digit of the national number too."""
    code, lengths = _BY_DIGIT.get(digits[:3], ("", {}))
    return len(digits) > len(code) and len(digits) in lengths.get(digits[len(code)], ())
