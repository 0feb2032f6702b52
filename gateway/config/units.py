"""Sizes and durations as people write them: ``10GiB``, ``7d``."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, ByteSize

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)$")


def seconds(value: object) -> object:
    """Turn ``7d``, ``30m``, ``250ms`` or a bare number of seconds into seconds; leave the rest to the validator."""
    if isinstance(value, str):
        match = _DURATION.match(value.strip().lower())
        if match:
            return float(match[1]) * _SECONDS[match[2]]
        if not value.strip().replace(".", "", 1).isdigit():
            raise ValueError("a duration looks like 30s, 15m, 12h or 7d")
    return value


Duration = Annotated[float, BeforeValidator(seconds)]
Size = ByteSize
