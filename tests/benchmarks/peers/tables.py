"""The comparison as tables: on the terminal, and in Markdown for the documents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_CELL: Final = (
    "In a cell: µs of processor time an event, of all processes of a side, up to the last event published · "
    "answers a second · p50 / p99 of an answer in ms."
)
_CASE: Final = re.compile(r"(\d+) connections")


def cases(figures: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Return connections → side → figures."""
    return {int(found[1]): row for label, row in figures.items() if (found := _CASE.fullmatch(label))}


def markdown(figures: Mapping[str, Any]) -> str:
    """Return the tables of one run: the sides, the processes of the gateway, the bars, the promises."""
    parts = [
        sides(figures),
        _table(_kinds(figures)),
        _table(_in_and_out(figures)),
        _table(_bars(figures)),
        "\n".join(_promises(figures)),
    ]
    return "\n\n".join(part for part in parts if part)


def sides(figures: Mapping[str, Any]) -> str:
    """Return the table of the sides alone."""
    return f"{_CELL} {_setting(figures['setting'])}\n\n{_table(_sides(figures))}"


def plain(figures: Mapping[str, Any]) -> str:
    """Return the same tables for a terminal."""
    blocks = []
    for rows in (_sides(figures), _kinds(figures), _in_and_out(figures), _bars(figures)):
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        blocks.append("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows))
    return "\n\n".join([*filter(None, blocks), "\n".join(_promises(figures))])


def _setting(setting: Mapping[str, Any]) -> str:
    where = "Pinned to one processor, the load to the others" if setting["pinned"] else "Not pinned"
    kafka = (
        "syncs before it acknowledges (`log.flush.interval.messages=1`)" if setting["broker_syncs"] else "as it comes"
    )
    return (
        f"{where}, {setting['processors']} processors; Kafka {kafka}; "
        f"medians of {setting['rounds']} rounds of {setting['seconds']:g} s; commit `{setting['commit']}`."
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _sides(figures: Mapping[str, Any]) -> list[list[str]]:
    found = cases(figures)
    rows = [["", *(f"{connections:,} connections" for connections in found)]]
    for side in figures["promises"]:
        cells = [_cell(row[side]) if side in row else "–" for row in found.values()]
        if any(cell != "–" for cell in cells):
            name = f"**{side}**" if side.startswith("this gateway") else side
            rows.append([name, *cells])
    return rows


def _cell(row: Mapping[str, Any]) -> str:
    cpu, per_s, p50, p99 = (row[name]["median"] for name in ("cpu_us", "per_s", "p50_ms", "p99_ms"))
    return f"{cpu:.0f} · {per_s:,.0f} · {p50:,g} / {p99:,g}"


def _kinds(figures: Mapping[str, Any]) -> list[list[str]]:
    """Processor time of each kind of process, of the sides that have several."""
    found = [
        (side, connections, row[side]["processes"])
        for connections, row in cases(figures).items()
        for side in row
        if side.startswith("this gateway") and len(row[side]["processes"]) > 1
    ]
    kinds = list(dict.fromkeys(kind for _, _, processes in found for kind in processes))
    if not kinds:
        return []
    return [
        ["µs an event by process", *kinds],
        *(
            [f"{side}, {connections:,} connections", *(_median(processes.get(kind)) for kind in kinds)]
            for side, connections, processes in found
        ),
    ]


def _in_and_out(figures: Mapping[str, Any]) -> list[list[str]]:
    found = figures.get("in and out")
    if not found:
        return []
    ours, bare = found["gateway"], found["in and out"]
    return [
        ["HTTP in, signed HTTP out, 64 connections", "µs an event"],
        ["**this gateway**", _median(ours["cpu_us"])],
        ["bare aiohttp in and bare aiohttp client out, stores nothing", _median(bare["cpu_us"])],
    ]


def _bars(figures: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for label, bar in figures["bars"].items():
        limit = f"≤ {bar['at_most']:g}" if "at_most" in bar else f"≥ {bar['at_least']:g}"
        met = {True: "met", False: "missed", None: "not measured: one process does everything"}[bar["met"]]
        rows.append([label, _median(bar["figure"]), limit, met])
    return [["target", "measured", "limit", ""], *rows] if rows else []


def _promises(figures: Mapping[str, Any]) -> list[str]:
    said = [f"* {side}: {text}" for side, text in figures["promises"].items()]
    return said + [f"* {side}: left out. {why}" for side, why in figures["left_out"].items()]


def _median(figure: Any) -> str:
    if figure is None:
        return "–"
    value = figure["median"] if isinstance(figure, Mapping) else figure
    return f"{value:g}"
