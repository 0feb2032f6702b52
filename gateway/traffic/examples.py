"""Example requests for documents; the same at every run."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from gateway.traffic import requests
from gateway.traffic.request import JSON

_TIME: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
#: Number of requests from which examples are selected; two of a layout show its variation.
_DRAWN: Final = 6
_SHOWN: Final = 2


def examples(callback: str) -> dict[str, list[Any]]:
    """Return example bodies of a callback, as values, by ``json`` and ``form``."""
    found: dict[str, list[Any]] = {}
    for request in islice(requests(callback, Random(callback), lambda: _TIME), _DRAWN):
        layout = "json" if request.content_type == JSON else "form"
        values = found.setdefault(layout, [])
        if len(values) < _SHOWN:
            fields = (request.body or request.query).decode()
            values.append(orjson.loads(fields) if layout == "json" else dict(parse_qsl(fields, keep_blank_values=True)))
    return found
