"""Vendor time to RFC 3339, the one place for it (protocol.md, E2: five forms, and no page names a zone).

- ``yyyy-MM-dd HH:mm:ss`` with a blank or a ``T``, with or without fraction: read in the configured zone;
- ISO 8601 with an offset or ``Z``: kept;
- Unix time as number or digits: seconds (also with a fraction), milliseconds, microseconds, nanoseconds,
  told apart by magnitude; written with ``Z``.

In the hour that a clock shows twice the first one is meant; in the hour that it skips, the offset before
the change is used. Both are instants, neither is an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"(\d{1,20})(?:\.(\d{0,20}))?", re.ASCII)
_CALENDAR: Final = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d", re.ASCII)

#: Times remembered by their text. Pushes come in bursts about the same seconds: at 1,000 receipts a second
#: nearly every time was met before, and the zone's rules cost ten times the look-up. A tenth would still do.
_REMEMBERED: Final = 8192
#: Longer texts are no times; remembering them would let a hostile sender fill the memory.
MOST_LETTERS: Final = 64
_OFFSET_LETTERS: Final = len("+08:00")

#: Upper borders of the four precisions. Seconds below 10^11 reach the year 5138, milliseconds from 10^11 on
#: begin in 1973: no time of a phone network falls on the wrong side.
_SECONDS: Final = 10**11
_MILLIS: Final = 10**14
_MICROS: Final = 10**17


def rfc3339(value: object, zone: tzinfo) -> str | None:
    """The moment in RFC 3339 with its offset; None where the vendor says "none" (0 or a blank).

    Raises:
        ValueError: not a time, or a year that has no RFC 3339 form.
    """
    if type(value) is str:
        if len(value) > MOST_LETTERS:
            raise ValueError("not a time")
        return from_text(value, zone)
    if type(value) is int:
        return _from_number(value)
    if type(value) is float:
        return from_text(format(value, ".6f"), zone)
    raise ValueError("not a time")


def salvaged(value: object, zone: tzinfo) -> str | None:
    """The time at the head of a text with something behind it, as in the ``¤cy`` examples of protocol.md, E4.

    Raises:
        ValueError: what looks like a time is none.
    """
    found = _CALENDAR.match(value.strip()) if isinstance(value, str) else None
    return rfc3339(found.group().replace("/", "-"), zone) if found else None


def recorded(moment: datetime) -> str:
    """An aware moment in UTC with microseconds, ending in ``Z``."""
    # A double holds seconds of our century to a quarter of a microsecond, so the whole second is never rounded up.
    return f"{_second(int(moment.timestamp()))}.{moment.microsecond:06}Z"


def utc(moment: datetime) -> str:
    """An aware moment in UTC, ending in ``Z``, with microseconds where it has any."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat()[:-_OFFSET_LETTERS] + "Z"


@lru_cache(maxsize=8)
def _second(unix: int) -> str:
    return (_EPOCH + timedelta(seconds=unix)).isoformat()[:-_OFFSET_LETTERS]


@lru_cache(maxsize=_REMEMBERED)
def from_text(text: str, zone: tzinfo) -> str | None:
    """:func:`rfc3339` of a text of at most ``MOST_LETTERS``; it is remembered, so the caller bounds its length."""
    text = text.strip()
    if not text:
        return None
    number = _NUMBER.fullmatch(text)
    if number is None:
        return _written(datetime.fromisoformat(text.replace("/", "-")), zone)
    whole, fraction = number.groups(default="")
    if len(whole) in (8, 14) and whole[0] in "12":  # 20240102 or 20240102030405: no Unix time has 14 digits
        return _written(datetime.fromisoformat(f"{whole[:8]}T{whole[8:] or '00'}"), zone)
    return _from_epoch(int(whole), fraction)


@lru_cache(maxsize=_REMEMBERED)
def _from_number(number: int) -> str | None:
    return _from_epoch(number, "")


def _from_epoch(number: int, fraction: str) -> str | None:
    if number == 0:
        return None
    if number < 0:
        raise ValueError("a time before 1970")
    if number < _SECONDS:
        micros = number * 1_000_000 + int(fraction[:6].ljust(6, "0"))
    elif number < _MILLIS:
        micros = number * 1_000 + int(fraction[:3].ljust(3, "0"))
    elif number < _MICROS:
        micros = number
    else:
        micros = number // 1_000
    try:
        return utc(_EPOCH + timedelta(microseconds=micros))
    except OverflowError as exc:
        raise ValueError("a time past the year 9999") from exc


def _written(moment: datetime, zone: tzinfo) -> str:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    text = moment.isoformat()
    if text[-_OFFSET_LETTERS] in "+-":
        return text if not text.endswith("+00:00") else text[:-_OFFSET_LETTERS] + "Z"
    # Local mean time before about 1900 has seconds in its offset, which RFC 3339 cannot write.
    try:
        return utc(moment.astimezone(UTC))
    except OverflowError as exc:
        raise ValueError("a time before the year 1") from exc
