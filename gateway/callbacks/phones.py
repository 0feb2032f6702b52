"""Phone numbers to E.164, the one place for it (ITU-T E.164: at most 15 digits, none of them a leading 0).

The vendor writes numbers with their country code, with and without ``+`` (protocol.md, E8); in a form a
bare ``+`` arrives as a blank. What is not such a number (SIP addresses, sender names, short codes, masked
numbers, numbers in national form) is kept as the text it is.
"""

from __future__ import annotations

from typing import Final

_FILLING: Final = str.maketrans("", "", " -.()\t\u00a0")

#: Without a mark, fewer digits are an extension or a short code more often than a number with a country code.
_FEWEST_UNMARKED: Final = 8
#: With ``+`` or ``00`` in front the sender said that a country code follows; the shortest such numbers have 7.
_FEWEST_MARKED: Final = 7
_MOST: Final = 15


def e164(text: str) -> str:
    """``+`` and digits where the country code is known, else the text without blanks around it."""
    if text.isdigit() and text.isascii() and _FEWEST_UNMARKED <= len(text) <= _MOST and text[0] != "0":
        return "+" + text
    return _marked(text)


def with_country(text: str, code: str) -> str:
    """The number in E.164 where a field of its own names the country code and the number may lack it."""
    bare = text.strip()
    if bare.startswith(code) and code:
        return e164(text)
    code = code.strip().lstrip("+").lstrip("0")
    if not (code.isdigit() and code.isascii() and bare.isdigit() and bare.isascii()) or bare.startswith((code, "00")):
        return e164(text)
    whole = code + bare.lstrip("0")
    return "+" + whole if _FEWEST_MARKED <= len(whole) <= _MOST else bare


def _marked(text: str) -> str:
    bare = text.strip()
    digits = bare.translate(_FILLING)
    if digits.startswith("+"):
        digits = digits[1:]
    elif digits.startswith("00"):
        digits = digits[2:]
    elif text[:1] == " " and bare.isdigit():  # a bare + of a form
        digits = bare
    else:
        return e164(bare) if bare != text else bare
    if digits.isdigit() and digits.isascii() and _FEWEST_MARKED <= len(digits) <= _MOST and digits[0] != "0":
        return "+" + digits
    return bare
