"""Normalise phone numbers (ITU-T E.164), and decide whether their country is certain. No other module does.

A number gets a ``+`` only if its country code is certain: the number has a mark (``+``, ``00``, or in a form a raw
``+`` that arrives as a space), the vendor's page states it, a field of the callback has the code, or the path's
``default_country`` is configured. The code has to exist and the number must have a length of that country, so that a
short code or a national number is not treated as a foreign one. Other digits stay digits, and the event has a flag. A
text that is not a number (SIP addresses, sender names, masked numbers) is kept unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.callbacks.country_codes import NATIONAL_LENGTHS

_FILLING: Final = str.maketrans("", "", " -.()/\t\u00a0\u2010\u2011\u2012\u2013")
#: The trunk zero of a national number behind a country code, as people write it: +44 (0)20 7946 0958.
_TRUNK_ZERO: Final = "(0)"
#: Countries in which the leading 0 is part of the national number.
_ZERO_STAYS: Final = frozenset({"39", "378"})
#: Characters of a number with separators; longer texts are not numbers.
_LONGEST: Final = 40


class PhoneNumber(NamedTuple):
    """A normalised phone number.

    Args:
        text: E.164 with ``+`` if the country is certain, otherwise digits, otherwise the received text.
        is_national: whether the text is digits whose country is not certain.
    """

    text: str
    is_national: bool


#: :func:`certain` or :func:`uncertain`.
Read = Callable[[str, str], PhoneNumber]
_Lengths = frozenset[int]


def _tables() -> tuple[dict[str, _Lengths], dict[str, tuple[str, dict[str, _Lengths]]]]:
    """Return the lengths of complete numbers by their first three digits, and by code and first national digit."""
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
    """Return whether digits begin with an existing country code and have a length of that country."""
    return len(digits) in _LENGTHS.get(digits[:3], ())


def is_country_code(code: str) -> bool:
    """Return whether a country code exists."""
    return code.isdecimal() and _BY_DIGIT.get((code + "00")[:3], ("",))[0] == code


def certain(text: str, country: str = "") -> PhoneNumber:
    """Return a number that has its country code by the vendor's page or by a mark.

    Args:
        text: as received.
        country: country code of the path's ``default_country``, for a number without a code.
    """
    if text.isdigit() and has_country(text):
        return PhoneNumber("+" + text, False)
    return _read(text, country, is_stated=True)


def uncertain(text: str, country: str = "") -> PhoneNumber:
    """Return a number for which no page states a country code; arguments as of :func:`certain`."""
    return _read(text, country, is_stated=False)


def with_country(text: str, code: str, *, is_stated: bool = False) -> PhoneNumber:
    """Return a number whose country code is in a separate field; the number may or may not include it.

    Args:
        text: as received.
        code: the country code, digits; another value is ignored.
        is_stated: whether the page states that the number includes its code; decides if both readings are valid.
    """
    if text.startswith(code) and text.isdigit() and _fits(text) and (is_stated or not _fits(code + text)):
        return PhoneNumber("+" + text, False)
    code = code.strip().lstrip("+").lstrip("0")
    return _read(text, code if is_country_code(code) else "", is_stated=is_stated)


def _read(text: str, country: str, *, is_stated: bool) -> PhoneNumber:
    bare = text.strip()
    if len(bare) > _LONGEST:
        return PhoneNumber(bare, False)
    digits = bare if bare.isdigit() else bare.replace(_TRUNK_ZERO, "", 1).translate(_FILLING)
    is_marked = text[:1] == " "  # a bare + of a form
    if digits.startswith("+"):
        digits, is_marked = digits[1:], True
    elif digits.startswith("00") and has_country(digits[2:]):
        digits, is_marked = digits[2:], True
    if not (digits.isdigit() and digits.isascii()):
        return PhoneNumber(bare, False)
    whole = "" if is_marked or not country else _in_country(digits, country, is_stated=is_stated)
    if not whole and (is_marked or is_stated) and has_country(digits):
        whole = digits
    return PhoneNumber("+" + whole, False) if whole else PhoneNumber(digits, True)


def _in_country(digits: str, country: str, *, is_stated: bool) -> str:
    """Return the digits with the country code, whether they included it or not; empty if both readings are valid."""
    national = digits[1:] if digits[0] == "0" and country not in _ZERO_STAYS else digits
    if digits.startswith(country) and _fits(digits):
        return digits if is_stated or not _fits(country + national) else ""
    return country + national if _fits(country + national) else ""


def _fits(digits: str) -> bool:
    """Return whether :func:`has_country` holds, also by the first digit of the national number."""
    code, lengths = _BY_DIGIT.get(digits[:3], ("", {}))
    return len(digits) > len(code) and len(digits) in lengths.get(digits[len(code)], ())
