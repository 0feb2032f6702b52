"""A part's figures as a picture: ``build/benchmarks/<part>.svg``, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

#: Part → title and the figures that are drawn, in the order of the bars.
CHARTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "decoders": ("Decoding, µs of processor time for each event", ("us",)),
    "ingest": ("Durable accept, µs of processor time for each event", ("cpu_us",)),
    "latency": ("Answer at a constant rate, milliseconds", ("p50_ms", "p99_ms", "p999_ms")),
    "compression": ("Record batches, µs of processor time for each event", ("write_us", "read_us")),
    "publish": ("Publishing, µs of processor time for each event", ("cpu_us",)),
    "cursors": ("A reading shared by many, µs of processor time for each event", ("us",)),
    "stuck-topic": ("Lag of nine topics while a tenth cannot be written, milliseconds", ("p50_ms", "p99_ms")),
    "fanout": (
        "Deliveries for each second of processor time",
        ("bare_per_cpu_s", "fanout_per_cpu_s", "fanout_with_filter_per_cpu_s"),
    ),
    "end_to_end": ("From callback to webhook, µs of processor time for each event", ("cpu_us",)),
    "growth": (
        "Cost of an event as work grows, µs",
        ("append_us", "read_from_start_us", "read_all_us", "us_each", "us"),
    ),
    "subscribers": (
        "Memory of fan-out, MiB, and processor time while nothing happens, %",
        ("memory_mib", "idle_cpu_percent"),
    ),
    "rebalance": ("Pause of a key, seconds", ("pause_median_s", "pause_max_s")),
    "one-down": ("µs of processor time for each delivery to the others", ("cpu_us", "cpu_us_with_one_down")),
    "peers": ("Beside its peers, µs of processor time for each event", ("cpu_us",)),
    "hostile": ("While a hostile body is taken in: wait of others, ms, and memory, MiB", ("wait_ms", "memory_mib")),
    "search": ("The search index, µs of processor time for each event", ("index_us",)),
    "workers": ("Accepted for each second", ("per_s",)),
}


def svg(part: str, figures: Mapping[str, Any]) -> bytes:
    """Bars for each row: one for each figure, or, where a row has sides, one for each side."""
    from matplotlib.figure import Figure  # takes a second, and the charts are asked for alone more often

    title, names = CHARTS[part]
    rows = {label: row for label, row in figures.items() if isinstance(row, Mapping) and _bars(row, names)}
    rows = rows or {"": figures}
    bars = list(dict.fromkeys(name for row in rows.values() for name in _bars(row, names)))
    thick = 0.8 / max(1, len(bars))
    figure = Figure(figsize=(10, 1.2 + 0.3 * len(rows) * max(1, len(bars))), layout="constrained")
    axes = figure.subplots()
    for number, bar in enumerate(bars):
        values = [_bars(row, names).get(bar, 0.0) for row in rows.values()]
        drawn = axes.barh([at + number * thick for at in range(len(rows))], values, thick, label=bar)
        axes.bar_label(drawn, [f"{value:g}" if value else "" for value in values], padding=2, fontsize=8)
    axes.set_yticks([at + thick * (len(bars) - 1) / 2 for at in range(len(rows))], list(rows))
    axes.invert_yaxis()
    axes.set_title(title)
    axes.legend(fontsize=8, loc="lower right")  # the "best" place is searched for among all bars, which is slow
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


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
