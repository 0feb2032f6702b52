"""Normalise phone numbers (ITU-T E.164), and decide whether their country is certain. No other module does.

A number gets a ``+`` only if its country code is certain: the number has a mark (``+``, ``00``, or in a form a raw
``+`` that arrives as a space), the vendor's page states it, a field of the callback has the code, or the path's
``default_country`` is configured. The code has to exist and the number must have a length of that country, so that a
short code or a national number is not treated as a foreign one. Other digits stay digits, and the event has a flag. A
text that is not a number (SIP addresses, sender names, masked numbers) is kept unchanged.

The lengths are from the metadata of Google's libphonenumber 9.0.43 (Apache License 2.0): fixed lines, mobile, VoIP,
toll-free and personal numbers. The library itself costs some 30 µs for each number; here a length is looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

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
    for line in _NATIONAL_LENGTHS.splitlines():
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


#: The country code, then for first digits of the national number the lengths that it can have, as in ``44 1:9-10``:
#: after +44 a number that begins with 1 has 9 or 10 digits. Codes that are not in the list do not exist.
_NATIONAL_LENGTHS: Final = """\
1 23456789:10
7 3479:10 8:10,14
20 1:8-10 2469:9 3:8 5:8-9 8:9-10
27 1234567:9 8:5-9
30 2679:10 8:10-12
31 1234567:9 8:7-10 9:9,11
32 12356789:8 4:8-9
33 123456789:9
34 46789:9
36 1489:8 23567:8-9
39 0:6-12 13:9-10 45:10 8:6,9
40 23:6,9 78:9
41 23456789:9
43 1:4-13 2:7-13 3467:6-13 5:5-13 8:9-13
44 1:9-10 257:10 8:7,9-10
45 23456789:8
46 134689:7-9 2:6-9 5:8-9 7:9
47 23456789:8
48 12345679:7,9 8:7,9-10
49 1:10-11 2579:6-13 3468:5-13
51 145678:8 9:9
52 23456789:10
53 27:7-8 34:6-8 56:8 8:10
54 1236:10 8:10-11 9:11
55 12345679:10-11 8:9-11
56 1:11 23456789:9
57 1:11 369:10 4:8
58 24568:10
60 1:9-10 3:9 456789:8
61 1:7,9-10 23478:9
62 0:11-13 1:9-11 236:7-11 4579:8-11 8:8-12
63 1:11-13 2:6,9 34567:9 8:8-10 9:10
64 28:8-10 3469:8 5:9-10 7:8-9
65 1:11 369:8 8:8,10
66 0:13 1:8-10 23457:8 689:9
81 0:8-13 1234:9 56789:9-10
82 0:11-13 1:9-10 2:8-9 346:5-6,9-10 5:5-6,9-11 7:10 8:9
84 1:8-10 2:10 356789:9
86 1:7-8,10-12 2:7-8,10,12 34578:7-11 69:7-10
90 2345:10 8:10,12-13
91 0:13 1:8-13 23456789:10
92 1:9 245679:9-10 3:10 8:8-11
93 234567:9
94 123456789:9
95 1:6-8 2:6-9 4567:7-9 8:7-10 9:8-10
98 12345678:6-7,10 9:10
211 19:9
212 5678:9
213 1234:8 56789:9
216 2345789:8
218 23456789:9
220 235679:7 48:7,9
221 3789:9
222 2348:8
223 2456789:8
224 3:8 67:9
225 02:10
226 024567:8
227 02789:8
228 279:8
229 0:10
230 2346:7 57:8 8:7,10
231 2:8-9 378:9 45:7,9 6:7
232 236789:8
233 235:9 8:8-9
234 279:10 8:10-12
235 236789:8
236 267:8
237 26:9 8:8-9
238 234589:7
239 29:7
240 2358:9
241 01:8 2345:7 67:7-8
242 02:9
243 18:7,9 2:7-8 346:7 5:7,10 9:9
244 29:9
245 4:7,9 9:9
246 3:7
247 23467:5
248 24689:7
249 19:9
250 0:8 278:9
251 12345789:9
252 1:6-8 2:7-8 34:6-7,9 5:7 679:8-9 8:6,9
253 27:8
254 17:9 2:8-9 456:7-9 8:9-10
255 24678:9
256 23478:9
257 2367:8
258 2:8 8:9
260 256789:9
261 23:9
262 26789:9
263 23567:9 8:7,9-10
264 68:8-9
265 1:7,9 23789:9
266 2568:8
267 08:10 23456:7 7:8
268 0237:8
269 347:7
290 2569:5 8:4
291 178:7
297 256789:7
298 23456789:6
299 123456789:6
350 256:8
351 123689:9
352 2345789:4-11 6:9
353 1:8-10 2569:7-9 4:7-10 78:9
354 3:9 45678:7
355 23457:8 6:9 8:7-8
356 23789:8
357 2789:8
358 123689:5-9 4:6-10 5:5-10
359 0:12 2:6-8 34567:7-8 89:7-9
370 3456789:8
371 268:8
372 346:7 57:7-8 8:7-8,10
373 235678:8
374 123456789:8
375 1234:9 8:6-11
376 1:8 3578:6 6:6,9
377 3489:8 67:9
378 0:10 56:8
380 345679:9 8:9-10
381 123:7-12 6:8-10 8:6-12
382 234567:8 8:8-9
383 2:8-9 3:8-12 48:8
385 17:8 23459:8-9 8:7-9
386 1234567:8 8:6-8
387 3458:8 6:8-9
389 23478:8
420 23456789:9
421 2345:6-7,9 689:9
423 237:7 6:9 8:7,9
500 234567:5
501 0:11 2345678:7
502 1:11 2345678:8
503 2567:8 8:7,11
504 2379:8 8:8,11
505 125678:8
506 234567:8 8:8,10
507 0:11 1234579:7 6:8 8:7-8,10
508 234569:6 78:6,9
509 234589:8
590 56789:9
591 234567:8 8:9
592 2345678:7
593 1:10-11 234567:8 9:9
594 56789:9
595 25:8-9 34678:7-9 9:9-11
596 56789:9
597 2345:6 6789:7
598 0:6-12 129:8 4:7-8 8:7
599 347:7 9:8
670 2348:7 7:7-8
672 13:6
673 234578:7
674 2456789:7
675 1234569:7 7:8 8:7-8
676 09:7 234:5 5678:5,7
677 12345:5 6:5,7 789:7
678 234:5 579:7 8:5,7
679 0:11 23456789:7
680 23456789:7
681 79:6 8:6,9
682 234578:5
683 4567:4 8:7
685 2345:5 6:5-6 7:7 8:6-7,10
686 2458:5 3:5,8 67:8
687 02345789:6
688 2:5 7:7 9:6
689 4:8 8:8-9
690 2347:4-7
691 389:7
692 23456:7
800 0123456789:8
850 1:10 2345678:8
852 2345679:8 8:8-9
853 0:7 268:8
855 1:8-10 23456789:8-9
856 2:8,10 3:8-9 45678:8
870 2356:9 7:9,12
878 1:12
880 1:10 2:8-10 346:7-10 57:6-9 89:6-10
881 0123789:9 6:9-10
882 1:7-12 25:10,12 3:7,9-10,12 4:8,10 9:8
883 12345:8-12
886 234568:8-9 7:8,10-11 9:9
960 34679:7 8:10
961 134569:7 2:8 78:7-8
962 23568:8 47:9
963 1235:8-9 4:8 9:9
964 1:8 23456:8-9 7:10
965 1:7 24569:8
966 15:9 8:10
967 1:7-8 23456:7 7:7,9
968 1279:8 5:7 8:8-9
970 1:10 2489:8 5:9
971 23679:8 4:8-9 5:9 8:5-12
972 1:7,10-12 23489:8 57:9
973 13678:8
974 0:11 34567:8 8:7,9
975 1:8 23456:7 78:7-8
976 12:8-10 56789:8
977 1:8,11 2345678:8 9:8,10
992 0123456789:9
993 1234567:8
994 123456789:9
995 34578:9
996 235679:9 8:9-10
998 2356789:9
"""

_LENGTHS, _BY_DIGIT = _tables()
