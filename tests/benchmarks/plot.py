"""A part's figures as a picture: ``build/benchmarks/<part>.svg``, drawn by pygal (https://www.pygal.org)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pygal

#: Part → title and the figures that are drawn, in the order of the bars.
CHARTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "decoders": ("Decoding, µs of processor time for each event", ("us",)),
    "ingest": ("Durable accept, µs of processor time for each event", ("cpu_us",)),
    "latency": ("Answer at a constant rate, milliseconds", ("p50_ms", "p99_ms", "p999_ms")),
    "publish": ("Publishing, µs of processor time for each event", ("cpu_us",)),
    "fanout": ("Deliveries for each second of processor time", ("per_s",)),
    "end_to_end": ("From callback to webhook, µs of processor time for each event", ("cpu_us",)),
    "growth": (
        "Cost of an event as work grows, µs",
        ("append_us", "read_from_start_us", "read_all_us", "us_each", "us"),
    ),
    "by_hand": ("The same job by hand, µs of processor time for each event", ("cpu_us",)),
    "workers": ("Accepted for each second", ("per_s",)),
}


def svg(part: str, figures: Mapping[str, Any]) -> bytes:
    """Bars for each row: one for each figure, or, where a row has sides, one for each side."""
    title, names = CHARTS[part]
    rows = {label: row for label, row in figures.items() if isinstance(row, Mapping) and _bars(row, names)}
    bars = list(dict.fromkeys(name for row in rows.values() for name in _bars(row, names)))
    chart = pygal.HorizontalBar(
        title=title, js=[], legend_at_bottom=True, print_values=True, height=180 + 26 * len(rows) * len(bars), width=900
    )
    chart.x_labels = list(rows)
    for bar in bars:
        chart.add(bar, [_bars(row, names).get(bar) for row in rows.values()])
    drawn: bytes = chart.render()
    return drawn


def _bars(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    """What is drawn of one row; of a row of sides, its sides."""
    own = {name: _number(row[name]) for name in names if name in row}
    if own:
        return own
    sides = {side: _bars(figures, names) for side, figures in row.items() if isinstance(figures, Mapping)}
    return {
        side if len(found) == 1 else f"{side}, {name}": value
        for side, found in sides.items()
        for name, value in found.items()
    }


def _number(figure: Any) -> float:
    return float(figure["median"] if isinstance(figure, Mapping) else figure)
