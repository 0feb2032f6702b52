"""Rounds of several sides in turn, and what comes of them: medians, spread, the ratio of each pair."""

from __future__ import annotations

import statistics
import sys
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


def judge(
    rows: Mapping[str, Mapping[str, Any]],
    most: Mapping[str, Mapping[str, float]],
    least: Mapping[str, Mapping[str, float]] | None = None,
) -> list[str]:
    """Print a table of figures beside their bars, and return what is missed.

    Args:
        rows: label → figures; one without a bar is printed by itself.
        most: label → the most that a figure may be.
        least: label → the least that a figure may be.
    """
    names = list(dict.fromkeys(name for figures in rows.values() for name in figures))
    table, missed = [["", *names]], []
    for label, figures in rows.items():
        at_most, at_least = most.get(label, {}), (least or {}).get(label, {})
        cells = [label]
        for name in names:
            cell = f"{_median(figures.get(name, ''))}"
            if name in figures and name in at_most:
                is_missed = figures[name] > at_most[name]
                cell += f" {'>' if is_missed else '≤'} {at_most[name]:g}"
            elif name in figures and name in at_least:
                is_missed = figures[name] < at_least[name]
                cell += f" {'<' if is_missed else '≥'} {at_least[name]:g}"
            else:
                is_missed = False
            cells.append(cell)
            missed += [f"{label}: {name} {cell}"] * is_missed
        table.append(cells)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for one in missed:
        print(f"missed: {one}")
    sys.stdout.flush()
    return missed


def _median(figure: Any) -> Any:
    return figure["median"] if isinstance(figure, dict) else figure
