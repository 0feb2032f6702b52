"""The recorded figures as the documents show them: tables out of ``recorded/*.json``, pictures beside them.

python -m tests.benchmarks --out tests/benchmarks/recorded
python -m tests.benchmarks.recorded       # writes the tables into the documents, and the pictures
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import plot
from tests.benchmarks.peers import tables

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path(__file__).with_name("recorded")
PICTURES: Final = ROOT / "deploy/docs/images"

#: Part → the figures shown, and how their columns are called.
COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "ingest": {"cpu_us": "µs an event", "of_bare": "of bare", "per_s": "a second", "p99_ms": "p99 ms"},
    "latency": {
        "per_s": "a second",
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "p999_ms": "p99.9 ms",
        "cpu_us": "µs a request",
        "processors": "processors",
    },
    "workers": {"cpu_us": "µs an event", "of_one": "of one", "per_s": "a second", "times_one": "times one"},
    "publish": {"cpu_us": "µs an event", "of_plain": "of a `send()` loop", "per_cpu_s": "for a second of one core"},
    "end_to_end": {"cpu_us": "µs an event", "of_in_and_out": "of bare in and out", "per_s": "a second"},
    "fanout": {
        "bare_per_cpu_s": "bare client, a core second",
        "fanout_per_cpu_s": "fan-out",
        "fanout_with_filter_per_cpu_s": "with a filter",
        "ratio": "ratio",
        "ratio_with_filter": "with a filter",
    },
    "subscribers": {
        "groups": "groups with members (1)",
        "own_topics": "own topics (≤ 6)",
        "partitions": "their partitions",
        "connections": "connections to Kafka (≤ 12)",
        "memory_mib": "MiB (≤ 80 + 0.2 each)",
        "idle_cpu_percent": "idle, % of a processor (≤ 3)",
        "first_start_s": "first start until all deliver, s (≤ 10)",
        "descriptors": "descriptors (≤ 100)",
    },
    "rebalance": {
        "pause_median_s": "pause of a key, median s",
        "pause_max_s": "max s",
        "events": "deliveries",
        "repeats": "repeats",
        "out_of_order": "out of order (0)",
        "in_flight_twice": "in flight twice (≤ cancelled)",
        "cancelled": "cancelled",
        "lost": "lost (0)",
    },
    "one-down": {
        "others_at_full_rate_per_s": "full rate of the others, a second",
        "lost_at_full_rate_percent": "less with one down, % (≤ 5)",
        "cpu_us": "µs a delivery",
        "cpu_us_with_one_down": "with one down",
        "inflow_per_s": "inflow, events a second",
        "lost_when_down_percent": "the others get less while it is down, % (≤ 5)",
        "lost_in_catch_up_percent": "while it catches up, % (≤ 5)",
        "backlog": "it missed, events",
        "catch_up_times": "catches up at … times the inflow (≥ 5)",
    },
    "growth": {
        "append_us": "append µs",
        "read_from_start_us": "read from the start µs",
        "read_all_us": "read all µs",
        "us_each": "µs an event and reader",
        "us": "fan-out µs",
        "read_mib": "MiB",
        "mib": "MiB",
    },
    "decoders": {"us": "µs an event", "per_s": "a second"},
    "compression": {"bytes": "bytes an event", "write_us": "µs to write", "read_us": "µs to read"},
    "search": {
        "index_us": "µs an event",
        "of_parsing": "of parsing it",
        "find_us": "a look-up, µs",
    },
    "hostile": {"wait_ms": "longest wait, ms", "memory_mib": "memory so far, MiB"},
}
#: Name of a table → file of the figures, and what makes the table of them.
RENDERED: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]]] = {
    "peers": ("peers", tables.markdown),
    "peers-broker-syncs": ("peers-broker-syncs", tables.markdown),
    "peers-pinned": ("peers-pinned", tables.markdown),
    "peers-sides": ("peers", tables.sides),
}
#: Files that are not recorded yet: their tables say so.
UNRECORDED: Final = frozenset({"peers-broker-syncs", "peers-pinned"})
#: Parts whose figures no document shows.
UNSHOWN: Final = frozenset({"stuck-topic", "cursors"})
#: Document → the tables that it has.
DOCUMENTS: Final[Mapping[str, Sequence[str]]] = {
    "deploy/docs/speed.md": (*COLUMNS, "peers-sides"),
    "deploy/docs/comparison.md": ("peers", "peers-broker-syncs", "peers-pinned"),
}
#: Parts whose picture is in a document, and that document.
DRAWN: Final[Mapping[str, str]] = {
    "ingest": "deploy/docs/speed.md",
    "growth": "deploy/docs/speed.md",
    "peers": "deploy/docs/comparison.md",
}


def recorded() -> dict[str, dict[str, Any]]:
    """The recorded files by their names, in the order of the command."""
    names = dict.fromkeys([*COLUMNS, *(name for name, _ in RENDERED.values())])
    return {name: json.loads(path.read_text()) for name in names if (path := FOLDER / f"{name}.json").exists()}


def table(part: str, figures: Mapping[str, Any]) -> str:
    """A Markdown table: a line for each row, or for each side of a row; medians, with the spread where there is one."""
    columns = COLUMNS[part]
    lines = list(_lines(figures, columns))
    shown = [name for name in columns if any(name in row for _, row in lines)]
    merged = list(dict.fromkeys(columns[name] for name in shown))
    body = []
    for label, row in lines:
        cells = {columns[name]: _cell(row[name]) for name in shown if name in row}
        body.append([label, *(cells.get(title, "") for title in merged)])
    return "\n".join("| " + " | ".join(line) + " |" for line in [["", *merged], ["---"] * (1 + len(merged)), *body])


def _lines(figures: Mapping[str, Any], columns: Mapping[str, str]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    if columns.keys() & figures.keys():
        return [("", figures)]
    found: list[tuple[str, Mapping[str, Any]]] = []
    for label, row in figures.items():
        if not isinstance(row, Mapping):
            continue
        if columns.keys() & row.keys():
            found.append((label, row))
        else:
            found += [(f"{label}: {side}", of) for side, of in row.items() if isinstance(of, Mapping)]
    return found


def _cell(figure: Any) -> str:
    if not isinstance(figure, Mapping):
        return _number(figure)
    low, high = min(figure["rounds"]), max(figure["rounds"])
    spread = f" ({_number(low)}–{_number(high)})" if low != high else ""
    return f"{_number(figure['median'])}{spread}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def about(run: Mapping[str, Any]) -> str:
    """Return where, when and of which commit a run was made. A run of before these were recorded has less to say."""
    processors = f", {run['processors']} processors" if "processors" in run else ""
    began = f" Begun {run['began'][:16].replace('T', ' ')} UTC." if "began" in run else ""
    commit = f" Commit `{run['commit']}`." if run.get("commit") else ""
    return f"Python {run['python']}, {run['machine']}{processors}, {run['took_s']:.0f} s.{began}{commit}"


def filled(text: str, parts: Sequence[str]) -> str:
    """A document with its tables as recorded."""
    runs = recorded()
    for part in parts:
        name, render = RENDERED.get(part, (part, partial(table, part)))
        if name in UNRECORDED:
            content = "Not recorded yet.\n"
        else:
            run = runs[name]
            content = f"{about(run)}\n\n{render(run['figures'])}\n"
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, content=content: f"{match[1]}{content}{match[2]}", text)
        assert count == 1, part
    return text


def main() -> None:
    """Rewrite the documents and the pictures."""
    for name, parts in DOCUMENTS.items():
        (ROOT / name).write_text(filled((ROOT / name).read_text(), parts))
    for part, run in recorded().items():
        if part in DRAWN:
            (PICTURES / f"{part}.svg").write_bytes(picture(part, run["figures"]))


def picture(part: str, figures: Mapping[str, Any]) -> bytes:
    """Return a part's picture as SVG; of the peers, the rows of the first table alone."""
    if part == "peers":
        figures = {f"{connections:,} connections": row for connections, row in tables.cases(figures).items()}
    return plot.svg(part, figures)


if __name__ == "__main__":
    main()
