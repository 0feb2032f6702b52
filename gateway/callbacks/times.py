"""Convert vendor times to RFC 3339 in UTC (protocol.md, E2: five forms, without a documented zone).

All results have one form, ``2024-01-02T03:04:05.000000Z``, so that they sort as text. Accepted forms are

- ``yyyy-MM-dd HH:mm:ss`` with a space or a ``T``, with or without fraction and seconds, with AM or PM: in the
  configured zone;
- the same with a zone behind it: an offset, also one whose ``+`` a form turned into a space, ``Z``, ``UTC``, ``GMT``;
- calendar digits without separators: 8, 12, 14 or 17 (``yyyyMMddHHmmssSSS``);
- Unix time as number or digits: seconds (also with a fraction), milliseconds, microseconds, nanoseconds,
  distinguished by magnitude.

A time before 2000 or from 2100 on is refused: a telephone network does not send it, and a wrong unit or a wrong number
of digits leads to such years.

An ambiguous local time (clock set back) is the first of the two; for a skipped one (clock set forward) the offset
before the change is used. Neither is an error.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)

_NUMBER: Final = re.compile(r"(\d{1,20})(?:\.(\d{0,20}))?", re.ASCII)
_DATE: Final = r"\d{4}[-/]\d\d[-/]\d\d"
_CLOCK: Final = r"\d\d:\d\d(?::\d\d(?:[.,]\d{1,12})?)?"
#: A zone behind a clock time. A ``+`` that became a space is recognised by two digits of hours and two of minutes.
_ZONED: Final = re.compile(
    rf"(?P<date>{_DATE})[T ]+(?P<clock>{_CLOCK})"
    r"(?:\s*(?P<half>[AP]M))?"
    r"(?:\s*(?P<utc>Z|UTC|GMT))?"
    r"(?:\s*(?P<sign>[+-])(?P<hours>\d{1,2}):?(?P<minutes>\d\d)?|\s(?P<lost>\d\d:?\d\d))?"
    r"(?P<name>\[[A-Za-z_/+-]+\])?",
    re.ASCII | re.IGNORECASE,
)
#: ``&curren`` of ``&currency`` as a browser shows it. Other text behind a time may be its zone, in any language.
_HEAD: Final = re.compile(rf"({_DATE}[ T]\d\d:\d\d:\d\d)¤", re.ASCII)

#: Lengths of ``yyyyMMdd…`` without separators, with the missing digits. No accepted Unix time has these lengths.
_DIGITS: Final = {8: "000000000", 12: "00000", 14: "000", 17: ""}

#: Cached times. Pushes arrive in bursts about the same seconds: at 1,000 receipts a second nearly every time is cached,
#: and the rules of the zone cost ten times the look-up. A tenth of the size would suffice.
_REMEMBERED: Final = 8192
#: Characters of a time; caching longer texts would let a hostile sender fill the memory.
MOST_LETTERS: Final = 64
_OFFSET_LETTERS: Final = len("+08:00")
_PLAIN_LETTERS: Final = len("2024-01-02 03:04:05")
_WIDEST_OFFSET: Final = timedelta(hours=14)
_NOON: Final = 12

#: Upper limits of the four precisions. Seconds below 10^11 reach the year 5138, milliseconds from 10^11 begin in 1973:
#: no time of a telephone network has the wrong precision.
_SECONDS: Final = 10**11
_MILLIS: Final = 10**14
_MICROS: Final = 10**17


def rfc3339(value: object, zone: tzinfo) -> str | None:
    """Return a time in UTC; None for the vendor's values of "no time" (0 or an empty text).

    Args:
        value: as parsed.
        zone: of a time without a zone.

    Raises:
        ValueError: the value is not a time, or not a plausible one.
    """
    if type(value) is str:
        if len(value) > MOST_LETTERS:
            raise ValueError("not a time")
        return from_text(value, zone)
    if type(value) is int:
        return from_text(str(value), zone)
    if type(value) is float:
        return from_text(format(value, ".6f"), zone)
    raise ValueError("not a time")


def salvaged(value: object, zone: tzinfo) -> str | None:
    """Return the time before ``¤cy``, as in the examples of protocol.md, E4; None for another text.

    Args:
        value: as parsed.
        zone: of a time without a zone.

    Raises:
        ValueError: there is no time before it.
    """
    found = _HEAD.match(value.strip()) if isinstance(value, str) else None
    return rfc3339(found[1], zone) if found is not None else None


def recorded(moment: datetime) -> str:
    """Return an aware moment in UTC with microseconds, ending in ``Z``."""
    # A double represents seconds of this century to a quarter of a microsecond; the second is never rounded up.
    return f"{_second(int(moment.timestamp()))}.{str(moment.microsecond).zfill(6)}Z"


def utc(moment: datetime) -> str:
    """Return an aware moment in UTC, ending in ``Z``, always with microseconds."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-_OFFSET_LETTERS] + "Z"


@lru_cache(maxsize=8)
def _second(unix: int) -> str:
    return (_EPOCH + timedelta(seconds=unix)).isoformat()[:-_OFFSET_LETTERS]


@lru_cache(maxsize=_REMEMBERED)
def from_text(text: str, zone: tzinfo) -> str | None:
    """Return :func:`rfc3339` of a text of at most ``MOST_LETTERS`` characters; results are cached."""
    text = text.strip()
    if not text:
        return None
    number = _NUMBER.fullmatch(text)
    if number is None:
        return _written(_calendar(text), zone)
    whole, fraction = number.groups(default="")
    rest = _DIGITS.get(len(whole))
    if rest is not None and not fraction and whole[:2] in ("19", "20"):
        return _written(datetime.fromisoformat(f"{whole[:8]}T{(whole[8:] + rest)[:6]}.{(whole[8:] + rest)[6:]}"), zone)
    return _from_epoch(int(whole), fraction)


def _calendar(text: str) -> datetime:
    """Return a time with separators; without a zone if the text has none."""
    if len(text) == _PLAIN_LETTERS:
        return datetime.fromisoformat(text.replace("/", "-"))
    found = _ZONED.fullmatch(text)
    if found is None:
        return datetime.fromisoformat(text.replace("/", "-"))
    moment = datetime.fromisoformat(f"{found['date'].replace('/', '-')}T{found['clock'].replace(',', '.')}")
    if found["half"] is not None:
        moment = _on_24_hours(moment, found["half"].upper() == "PM")
    offset = _offset(found)
    return moment if offset is None else moment.replace(tzinfo=timezone(offset))


def _on_24_hours(moment: datetime, is_afternoon: bool) -> datetime:
    if moment.hour > _NOON:
        if not is_afternoon:
            raise ValueError("an hour that is not before noon")
        return moment
    return moment.replace(hour=moment.hour % _NOON + (_NOON if is_afternoon else 0))


def _offset(found: re.Match[str]) -> timedelta | None:
    """Return the offset in a time, or None."""
    if found["lost"] is not None:
        hours, minutes = int(found["lost"][:2]), int(found["lost"][-2:])
    elif found["sign"] is not None:
        hours, minutes = int(found["hours"]), int(found["minutes"] or 0)
    elif found["utc"] is None and found["name"] is not None:
        raise ValueError("the name of a zone, without its offset")
    else:
        return timedelta(0) if found["utc"] is not None else None
    offset = timedelta(hours=hours, minutes=minutes)
    if offset > _WIDEST_OFFSET or minutes >= 60:
        raise ValueError("no offset of any zone")
    return -offset if found["sign"] == "-" else offset


def _from_epoch(number: int, fraction: str) -> str | None:
    if number == 0:
        return None
    if number < _SECONDS:
        micros = number * 1_000_000 + int(fraction[:6].ljust(6, "0"))
    elif number < _MILLIS:
        micros = number * 1_000 + int(fraction[:3].ljust(3, "0"))
    elif number < _MICROS:
        micros = number
    else:
        micros = number // 1_000
    try:
        return _checked(_EPOCH + timedelta(microseconds=micros))
    except OverflowError as exc:
        raise ValueError("a time past the year 9999") from exc


def _written(moment: datetime, zone: tzinfo) -> str:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        return _checked(moment.astimezone(UTC))
    except OverflowError as exc:
        raise ValueError("a time before the year 1") from exc


def _checked(moment: datetime) -> str:
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError("a time that cannot be right")
    return utc(moment)
