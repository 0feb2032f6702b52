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
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"(\d{1,20})(?:\.(\d{0,20}))?", re.ASCII)
_CALENDAR: Final = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d", re.ASCII)

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
        if len(value) == 19 and value[4] == "-":
            try:
                return _written(datetime.fromisoformat(value), zone)
            except ValueError:
                pass
        return _from_text(value.strip(), zone)
    if type(value) is int:
        return _from_epoch(value, "")
    if type(value) is float:
        return _from_text(format(value, ".6f"), zone)
    raise ValueError("not a time")


def salvaged(value: object, zone: tzinfo) -> str | None:
    """The time at the head of a text with something behind it, as in the ``¤cy`` examples of protocol.md, E4."""
    found = _CALENDAR.match(value.strip()) if isinstance(value, str) else None
    return rfc3339(found.group().replace("/", "-"), zone) if found else None


def utc(moment: datetime, timespec: str = "auto") -> str:
    """An aware moment in UTC, ending in ``Z``."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec=timespec)[:-6] + "Z"


def _from_text(text: str, zone: tzinfo) -> str | None:
    if not text:
        return None
    number = _NUMBER.fullmatch(text)
    if number is None:
        return _written(datetime.fromisoformat(text.replace("/", "-")), zone)
    whole, fraction = number.groups(default="")
    if len(whole) in (8, 14) and whole[0] in "12":  # 20240102 or 20240102030405: no Unix time has 14 digits
        return _written(datetime.fromisoformat(f"{whole[:8]}T{whole[8:] or '00'}"), zone)
    return _from_epoch(int(whole), fraction)


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
    if text[-6] in "+-":
        return text if text[-6:] != "+00:00" else text[:-6] + "Z"
    # Local mean time before about 1900 has seconds in its offset, which RFC 3339 cannot write.
    try:
        return utc(moment.astimezone(UTC))
    except OverflowError as exc:
        raise ValueError("a time before the year 1") from exc
