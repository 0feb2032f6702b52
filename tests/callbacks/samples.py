"""Samples on disk: one folder for each request, ``tests/samples/<callback>/<case>/``.

    request.http    request line and headers, one a line, as on the wire
    body            the body's bytes; no file, no body
    expected.json   {"events": [...], "drift": [...]} or {"rejected": {"reason": …, "field": …}}
    context.json    optional: account, zone, own_numbers, credential_fields

Usual requests, which the simulator replays and documents show, are in ``gateway/traffic/samples/<callback>.http``
instead of ``request.http`` and ``body``.

A new sample needs no code. Expected events leave ``raw`` out where it is the whole payload; that it is
lossless is checked for every sample. All requests arrive at ``ARRIVAL``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.traffic import simulator

FOLDER = Path(__file__).parent.parent / "samples"
ARRIVAL = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and what it must become."""

    callback: str
    case: str
    request: CallbackRequest
    context: DecodeContext
    expected: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.callback}/{self.case}"


def load(folder: Path) -> Sample:
    """Read one sample, by its folder."""
    body = folder / "body"
    settings = folder / "context.json"
    expected = folder / "expected.json"
    usual = next((one for one in simulator.samples(folder.parent.name) if one.name == folder.name), None)
    head = usual.head if usual else (folder / "request.http").read_bytes()
    return Sample(
        callback=folder.parent.name,
        case=folder.name,
        request=parse_head(head, usual.body if usual else body.read_bytes() if body.exists() else b""),
        context=_context(json.loads(settings.read_text("utf-8")) if settings.exists() else {}),
        expected=json.loads(expected.read_text("utf-8")) if expected.exists() else {},
    )


@cache
def all_samples() -> tuple[Sample, ...]:
    """Every sample, sorted by callback and case. Some modules ask for them when they are imported: read once."""
    usual = [FOLDER / callback / sample.name for callback in CALLBACKS for sample in simulator.samples(callback)]
    heads = (head.parent for head in FOLDER.glob("*/*/request.http"))
    return tuple(load(folder) for folder in sorted([*usual, *heads]))


def parse_head(head: bytes, body: bytes) -> CallbackRequest:
    """A request line and headers as the HTTP server would hand them over; blanks in the target are kept."""
    first, *lines = head.decode("utf-8", "surrogateescape").strip("\r\n").splitlines()
    method, _, rest = first.partition(" ")
    target, _, _ = rest.rpartition(" ")
    path, _, query = target.partition("?")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return CallbackRequest(
        method, path, query.encode("utf-8", "surrogateescape"), headers, body, ARRIVAL, peer="203.0.113.7"
    )


def _context(settings: dict[str, Any]) -> DecodeContext:
    return DecodeContext(
        zone=ZoneInfo(settings.get("zone", "Asia/Shanghai")),
        account=settings.get("account"),
        credential_fields=frozenset(settings.get("credential_fields", ())),
        own_numbers=frozenset(settings.get("own_numbers", ())),
    )
