"""Requests of the platform: the samples in ``samples/``, each time with other ids, numbers and times.

A file has the samples of one callback. Each is a request as on the wire, behind a line ``### <weight> <name>``; with
``+`` in place of the weight it follows the sample before it, as the states of one call do. The same samples are decoded
by the tests and shown by the documents, so there is no second description of the platform's payloads.

Within such a sequence equal values stay equal and times keep their distance. The bytes are otherwise unchanged: raw
spaces in a query, unusual content types and the order of the fields are those of the sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qsl
from uuid import uuid4
from zoneinfo import ZoneInfo

import orjson

from gateway.callbacks import CALLBACKS
from gateway.callbacks.callback import DecodeContext
from gateway.callbacks.payload import CallbackRequest
from gateway.errors import CallbackRejected
from gateway.event import Event

_T = TypeVar("_T")

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"

_FOLDER: Final = Path(__file__).with_name("samples")
_TITLE: Final = re.compile(rb"^### (\S+) (\S+)\n", re.MULTILINE)
#: The platform's times have no zone; UTC+8 is the most likely one (protocol.md, E2).
_ZONE: Final = ZoneInfo("Asia/Shanghai")
#: Values that a replay changes. Words such as ``c-1`` and ``wamid.X`` are ids; long runs of digits are Unix times
#: (``17…``), phone numbers or ids.
_VARYING: Final = re.compile(
    rb"(?P<local>20\d\d-\d\d-\d\d(?:[ T+]|%20)\d\d(?::|%3A)\d\d(?::|%3A)\d\d)"
    rb"|(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12})"
    rb"|(?P<hex>[0-9a-f]{32})"
    rb"|\b(?P<id>(?P<prefix>wamid\.|zalomid\.|ABGG|gBGG|(?:call|EXT|ord|ut|cb|a|c|o|r|t|u|v)-)\w+)"
    rb"|(?P<digits>\d{10,})"
)
#: The business's own numbers and channel: a replay keeps them.
_OURS: Final = frozenset({b"15550100001", b"15550100100", b"0" * 31 + b"1"})
#: Units of a Unix time in a second, by its number of digits.
_PER_SECOND: Final = {10: 1, 13: 1000, 16: 1_000_000}
#: Last digits of a number that vary; the country code and the length stay.
_VARYING_DIGITS: Final = 7
#: Seconds from the first time in a sequence to now, at least and at most.
_AGE_S: Final = (90, 150)
#: Seconds between two requests of a sequence.
_APART_S: Final = 7
#: Example bodies of one layout in a document.
_SHOWN: Final = 2
#: Requests of a callback that are looked at for a type; the rarest comes once in some dozens.
_DRAWN: Final = 400
#: Subject and key of a sample that no callback makes.
SUBJECT: Final = "test"


@dataclass(frozen=True, slots=True)
class TrafficRequest:
    """A request, byte for byte, before it is signed for a path.

    Args:
        callback: name of its callback.
        query: raw bytes after ``?``; spaces and non-ASCII characters may be raw, as the platform sends them.
        content_type: None sends no such header.
        body: bytes of the body; empty if all fields are in the query.
        action: action of the general signature, which is the kind of a DID callback.
        biz_type: business type of the general signature.
    """

    callback: str
    query: bytes = b""
    content_type: str | None = None
    body: bytes = b""
    action: str = ""
    biz_type: str = ""


class Sample(NamedTuple):
    """One sample.

    Args:
        name: unique for the callback.
        weight: how often it is replayed, compared with others; 0: it follows the sample before it.
        head: request line and headers.
        body: of the request.
    """

    name: str
    weight: int
    head: bytes
    body: bytes


@cache
def samples(callback: str) -> tuple[Sample, ...]:
    """Return the samples of a callback, in the order of its file.

    Raises:
        FileNotFoundError: the callback does not exist.
    """
    _, *parts = _TITLE.split((_FOLDER / f"{callback}.http").read_bytes())
    found = []
    for weight, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        head, _, body = text.partition(b"\n\n")
        found.append(Sample(name.decode(), 0 if weight == b"+" else int(weight), head, body.strip(b"\n")))
    return tuple(found)


def request_of(callback: str, sample: Sample) -> TrafficRequest:
    """Return the request of a sample, unchanged, without its credentials."""
    line, *lines = sample.head.decode().splitlines()
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    query = line.removesuffix(" HTTP/1.1").partition("?")[2].encode()
    action, biz_type = headers.get("action", ""), headers.get("biztype", "")
    return TrafficRequest(callback, query, headers.get("content-type"), sample.body, action, biz_type)


def requests(callback: str, rng: Random, clock: Callable[[], datetime]) -> Iterator[TrafficRequest]:
    """Return an endless sequence of different requests of one callback; a seed reproduces them.

    Args:
        callback: name of the callback.
        rng: source of randomness.
        clock: returns the current time, timezone-aware.

    Raises:
        FileNotFoundError: the callback does not exist.
    """
    sequences: list[list[TrafficRequest]] = []
    weights: list[int] = []
    for sample in samples(callback):
        if sample.weight:
            sequences.append([])
            weights.append(sample.weight)
        sequences[-1].append(request_of(callback, sample))
    begins = [min(filter(None, map(_first_time, sequence)), default=0) for sequence in sequences]
    return _replayed(sequences, begins, weights, rng, clock)


def mixed(rows: Sequence[Iterator[_T]], rng: Random) -> Iterator[_T]:
    """Return the items of several endless iterators in random order, all with the same frequency."""
    while True:
        yield next(rows[int(rng.random() * len(rows))])


def examples(callback: str) -> dict[str, list[Any]]:
    """Return example bodies of a callback for documents, as values, by ``json`` and ``form``."""
    found: dict[str, list[Any]] = {}
    for request in (request_of(callback, sample) for sample in samples(callback)):
        layout = "json" if request.content_type == JSON else "form"
        values = found.setdefault(layout, [])
        if len(values) < _SHOWN:
            fields = (request.body or request.query).decode()
            values.append(orjson.loads(fields) if layout == "json" else dict(parse_qsl(fields, keep_blank_values=True)))
    return found


def _replayed(
    sequences: list[list[TrafficRequest]],
    begins: list[int],
    weights: list[int],
    rng: Random,
    clock: Callable[[], datetime],
) -> Iterator[TrafficRequest]:
    places = range(len(sequences))
    while True:
        (place,) = rng.choices(places, weights)
        shift_s = int(clock().timestamp()) - rng.randint(*_AGE_S) - begins[place]
        vary = _Variation(rng)
        for index, request in enumerate(sequences[place]):
            vary.shift_s = shift_s + index * _APART_S
            yield replace(request, query=vary(request.query), body=vary(request.body))


class _Variation:
    """Replaces the varying values of bytes, equal ones by equal ones.

    Args:
        rng: source of randomness.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._drawn: dict[bytes, bytes] = {}
        #: Seconds that are added to times.
        self.shift_s = 0

    def __call__(self, data: bytes) -> bytes:
        return _VARYING.sub(self._other, data)

    def _other(self, found: re.Match[bytes]) -> bytes:
        text, kind = found[0], found.lastgroup
        if kind == "local":
            return _moved(text, self.shift_s)
        if _is_unix(found):
            return b"%d" % (int(text) + self.shift_s * _PER_SECOND[len(text)])
        if text in _OURS:
            return text
        if kind == "digits":
            varying = text[-_VARYING_DIGITS:]
            return text[:-_VARYING_DIGITS] + self._draw(varying, b"%07d", 10**_VARYING_DIGITS)
        new = self._draw(text, b"%032x", 1 << 128)
        if kind == "uuid":
            return b"%s-%s-4%s-8%s-%s" % (new[:8], new[8:12], new[13:16], new[17:20], new[20:])
        return (found["prefix"] or b"") + new

    def _draw(self, text: bytes, form: bytes, most: int) -> bytes:
        if text not in self._drawn:
            self._drawn[text] = form % self._rng.randrange(most)
        return self._drawn[text]


def _is_unix(found: re.Match[bytes]) -> bool:
    return found.lastgroup == "digits" and found[0].startswith(b"17") and len(found[0]) in _PER_SECOND


def _first_time(request: TrafficRequest) -> int:
    """Return the earliest time in a request in Unix seconds; 0 if it has none."""
    times = []
    for found in _VARYING.finditer(request.query + b" " + request.body):
        if found.lastgroup == "local":
            times.append(int(_local(found[0]).replace(tzinfo=_ZONE).timestamp()))
        elif _is_unix(found):
            times.append(int(found[0]) // _PER_SECOND[len(found[0])])
    return min(times, default=0)


def _local(text: bytes) -> datetime:
    plain = text.decode().replace("%3A", ":").replace("%20", " ").replace("+", " ")
    return datetime.fromisoformat(plain)


def _moved(text: bytes, shift_s: int) -> bytes:
    """Return another local time in the notation of this one."""
    separator = b"%3A" if b"%3A" in text else b":"
    day, clock = (_local(text) + timedelta(seconds=shift_s)).isoformat().encode().split(b"T")
    between = text[len(day) : -len(clock.replace(b":", separator))]
    return day + between + clock.replace(b":", separator)


def sample(event_type: str, topic: str) -> Event:
    """Return an event of this type as a callback makes it, with an id of its own.

    A type that no simulated callback makes, such as one of another sender, has a small artificial ``data``.

    Args:
        event_type: such as ``nxcloud.sms.dr``.
        topic: of an event that no callback makes.
    """
    made = next(_made(event_type), None)
    if made is not None:
        return made._replace(id=uuid4().hex)
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return Event(uuid4().hex, "/nxcloud/test", event_type, topic, SUBJECT, SUBJECT, now, now, {"test": True})


def _made(event_type: str) -> Iterator[Event]:
    rng = Random(event_type)
    for name, callback in CALLBACKS.items():
        if event_type not in callback.types:
            continue
        for one in islice(requests(name, rng, _now), _DRAWN):
            headers = {} if one.content_type is None else {"content-type": one.content_type}
            request = CallbackRequest("POST", f"/callbacks/{name}", one.query, headers, one.body, _now())
            try:
                decoded = callback.decode(request, DecodeContext())
            except CallbackRejected:
                continue
            yield from (event for event in decoded.events if event.type == event_type)


def _now() -> datetime:
    return datetime.now(UTC)
