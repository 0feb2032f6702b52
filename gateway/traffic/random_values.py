"""Random values in the platform's formats: ids, numbers, times, money, all from one source of randomness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Final, TypeVar
from urllib.parse import quote_plus
from zoneinfo import ZoneInfo

_T = TypeVar("_T")

#: The platform's times have no zone; UTC+8 is the most likely one (protocol.md, E2).
_ZONE: Final = ZoneInfo("Asia/Shanghai")
#: Country code, following digits, and total number of digits. Ranges reserved for fiction if a country has one.
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
    """Creates random values.

    Args:
        rng: the only source of randomness.
        clock: returns the current time, timezone-aware.
    """

    def __init__(self, rng: Random, clock: Callable[[], datetime]) -> None:
        self.rng = rng
        self._clock = clock
        self._count = 0

    def count(self) -> int:
        """Return 1, 2, 3 …, to distinguish payloads that could be equal by chance."""
        self._count += 1
        return self._count

    def one(self, choices: Sequence[_T]) -> _T:
        """Return one of several values, all with the same probability."""
        return choices[int(self.rng.random() * len(choices))]

    def often(self, usual: _T, other: _T, share: float = 0.1) -> _T:
        """Return the usual value, or the other one with a probability of ``share``."""
        return other if self.rng.random() < share else usual

    def chance(self, share: float) -> bool:
        """Return True with a probability of ``share``."""
        return self.rng.random() < share

    def number(self, low: int, high: int) -> int:
        """Return an integer between two limits, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def hex_id(self) -> str:
        """Return 32 hex digits, the format of SMS and message ids."""
        return f"{self.rng.getrandbits(128):032x}"

    def uuid(self) -> str:
        """Return a UUID, the format of call ids."""
        text = self.hex_id()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"

    def digits(self, count: int) -> str:
        """Return a text of ``count`` digits, without a leading zero."""
        return str(self.number(10 ** (count - 1), 10**count - 1))

    def phone(self) -> str:
        """Return a phone number with country code, digits only."""
        code, start, length = self.one(_NUMBERS)
        rest = length - len(start)
        return f"{code}{start}{self.number(0, 10**rest - 1):0{rest}d}"

    def person(self) -> str:
        """Return a person's name, of any script."""
        return self.one(_PEOPLE)

    def text(self) -> str:
        """Return the text of a message."""
        return self.one(_TEXTS)

    def price(self) -> str:
        """Return a unit price as a decimal string."""
        return f"0.{self.number(10, 9999):04d}"

    def seconds_ago(self, most: int) -> datetime:
        """Return a time within the last ``most`` seconds."""
        return self._clock() - timedelta(seconds=self.rng.random() * most)

    def later(self, moment: datetime, most_s: int) -> datetime:
        """Return a time at most ``most_s`` seconds after another."""
        return moment + timedelta(seconds=self.rng.random() * most_s)


def local(moment: datetime) -> str:
    """Return a time as ``yyyy-MM-dd HH:mm:ss``, without a zone."""
    return moment.astimezone(_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def unix(moment: datetime) -> int:
    """Return Unix seconds."""
    return int(moment.timestamp())


def millis(moment: datetime) -> int:
    """Return Unix milliseconds."""
    return int(moment.timestamp() * 1000)


def micros(moment: datetime) -> int:
    """Return Unix microseconds: 16 digits."""
    return int(moment.timestamp() * 1_000_000)


def form(fields: dict[str, str]) -> bytes:
    """Return a form in the correct encoding."""
    return "&".join(f"{name}={quote_plus(value)}" for name, value in fields.items()).encode()


def raw_query(fields: dict[str, str]) -> bytes:
    """Return a query as the platform's older clients encode it: raw spaces and non-ASCII text (protocol.md, E3)."""
    return "&".join(
        f"{name}={value.replace('%', '%25').replace('&', '%26').replace('+', '%2B').replace('#', '%23')}"
        for name, value in fields.items()
    ).encode()
