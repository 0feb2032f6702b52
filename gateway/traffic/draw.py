"""Made-up values in the platform's forms: ids, numbers, times, money. Everything follows from one random source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Final, TypeVar
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

_T = TypeVar("_T")

#: The platform's times carry no zone; UTC+8 is the likeliest (protocol.md, E2).
_ZONE: Final = ZoneInfo("Asia/Shanghai")
#: Country code, digits that follow it, and their number in all. Ranges for fiction where a country has one.
_NUMBERS: Final = (("1", "55501", 10), ("62", "811555", 10), ("44", "7700900", 10), ("86", "1380000", 11))
_PEOPLE: Final = ("Ann", "Budi", "José", "王芳", "Zoë", "Łukasz", "नेहा", "O'Neil", "Emoji 🎉")
_TEXTS: Final = (
    "hello",
    "see you at 10",
    "Ya, saya setuju & terima kasih",
    "¿Cuánto cuesta? 50% off = ok + more",
    "您好，请问什么时候发货？",
    "👍🏽 great",
    "line one\nline two",
    'she said "yes"',
    "ok",
)


class Draw:
    """A hand of made-up values.

    Args:
        rng: the only source of chance.
        clock: the current time, timezone-aware.
    """

    def __init__(self, rng: Random, clock: Callable[[], datetime]) -> None:
        self.rng = rng
        self._clock = clock
        self._count = 0

    def count(self) -> int:
        """1, 2, 3 …: makes payloads differ that could be equal by chance."""
        self._count += 1
        return self._count

    def one(self, choices: Sequence[_T]) -> _T:
        """One of several, all as likely."""
        return choices[int(self.rng.random() * len(choices))]

    def often(self, usual: _T, other: _T, share: float = 0.1) -> _T:
        """The usual value, except for a share of the time."""
        return other if self.rng.random() < share else usual

    def chance(self, share: float) -> bool:
        """True for a share of the time."""
        return self.rng.random() < share

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self.rng.random() * (high - low + 1))

    def hex_id(self) -> str:
        """32 hex digits, as SMS and message ids are."""
        return f"{self.rng.getrandbits(128):032x}"

    def uuid(self) -> str:
        """As call ids are."""
        text = self.hex_id()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"

    def digits(self, count: int) -> str:
        """A text of digits, without a leading zero."""
        return str(self.number(10 ** (count - 1), 10**count - 1))

    def phone(self) -> str:
        """A number with country code, digits only."""
        code, start, length = self.one(_NUMBERS)
        rest = length - len(start)
        return f"{code}{start}{self.number(0, 10**rest - 1):0{rest}d}"

    def person(self) -> str:
        """A name, of any script."""
        return self.one(_PEOPLE)

    def text(self) -> str:
        """What people write."""
        return self.one(_TEXTS)

    def price(self) -> str:
        """A unit price as a decimal text."""
        return f"0.{self.number(10, 9999):04d}"

    def seconds_ago(self, most: int) -> datetime:
        """A moment of the last so many seconds."""
        return self._clock() - timedelta(seconds=self.rng.random() * most)

    def later(self, moment: datetime, most_s: int) -> datetime:
        """A moment after another."""
        return moment + timedelta(seconds=self.rng.random() * most_s)


def local(moment: datetime) -> str:
    """``yyyy-MM-dd HH:mm:ss`` without a zone."""
    return moment.astimezone(_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def unix(moment: datetime) -> int:
    """Seconds."""
    return int(moment.timestamp())


def millis(moment: datetime) -> int:
    """Milliseconds."""
    return int(moment.timestamp() * 1000)


def micros(moment: datetime) -> int:
    """Microseconds: 16 digits."""
    return int(moment.timestamp() * 1_000_000)


def form(fields: dict[str, str]) -> bytes:
    """As a well-behaved client encodes a form."""
    return "&".join(f"{name}={quote_plus(value)}" for name, value in fields.items()).encode()


def raw_query(fields: dict[str, str]) -> bytes:
    """As the platform's older clients write a query: blanks and letters beyond ASCII as they are (protocol.md, E3)."""
    return "&".join(
        f"{name}={value.replace('%', '%25').replace('&', '%26').replace('+', '%2B').replace('#', '%23')}"
        for name, value in fields.items()
    ).encode()
