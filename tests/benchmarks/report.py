"""Rounds of several sides in turn, and what comes of them: medians, spread, the ratio of each pair."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Figure → the most that it may be in a row of this size.
Bars = Mapping[str, Callable[[int], float]]


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


def judge(rows: Mapping[str, tuple[Mapping[str, Any], int]], bars: Bars) -> list[str]:
    """Print the figures of each row beside their bars, and return what is missed.

    Args:
        rows: label → figures, and the size that the bars ask for.
        bars: see :data:`Bars`; figures without one are printed by themselves.
    """
    names = list(dict.fromkeys(name for figures, _ in rows.values() for name in figures))
    table = [["", *names]]
    missed = []
    for label, (figures, size) in rows.items():
        cells = [label]
        for name in names:
            value = figures.get(name, "")
            bar = bars[name](size) if name in bars and name in figures else None
            is_missed = bar is not None and value > bar
            if is_missed:
                missed.append(f"{label}: {name} {value:g}, at most {bar:g}")
            cells.append(f"{value}" if bar is None else f"{value:g} {'>' if is_missed else '≤'} {bar:g}")
        table.append(cells)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for line_ in missed:
        print(f"missed: {line_}", flush=True)
    return missed
