"""Rounds of several sides in turn, and what comes of them: medians, spread, the ratio of each pair."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def summary(values: Sequence[float], digits: int = 1) -> dict[str, float | list[float]]:
    """Median and all rounds."""
    return {"median": round(statistics.median(values), digits), "rounds": [round(value, digits) for value in values]}


def ratio(side: Sequence[float], base: Sequence[float]) -> dict[str, float | list[float]]:
    """Median of the ratios round by round: the sides of one round met the same noise."""
    return summary([one / other for one, other in zip(side, base, strict=True) if other], 2)


def line(label: str, figures: Mapping[str, Any]) -> str:
    """One line of a table: median, spread and ratio."""
    parts = [f"{label:<44}"]
    for name, value in figures.items():
        if isinstance(value, dict) and "median" in value:
            parts.append(f"{name} {value['median']:g} [{min(value['rounds']):g}–{max(value['rounds']):g}]")
        else:
            parts.append(f"{name} {value:g}" if isinstance(value, (int, float)) else f"{name} {value}")
    return "  ".join(parts)
