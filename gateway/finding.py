"""One thing that ``gateway check`` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``unknown``: it could not be asked; it is never shown as good, and does not make the check fail.
Level = Literal["ok", "unknown", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        level: ``problem`` makes ``gateway check`` fail.
        path: key path of the configuration at which it can be mended.
        text: what was seen, one sentence without a full stop.
        advice: what to do; empty where nothing is to be done.
    """

    level: Level
    path: str
    text: str
    advice: str = ""
