"""The generated parts of ``deploy/docs/capacity.md``: the plans of three rates, and the assumptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gateway.capacity import measure as figures_file
from gateway.capacity.model import PRICES, Assumptions, Load, size
from gateway.cli.plan import described, quoted, rows

#: Events a second, each to as many subscribers, of so many bytes.
RATES: Final = (1_000, 100_000, 1_000_000)
SUBSCRIBERS: Final = 20
EVENT_BYTES: Final = 900


def plans_table() -> str:
    """Return the plans of three rates, one in a column, with their figures and prices."""
    figures = figures_file.load(figures_file.RECORDED)
    columns = [rows(size(Load(rate, SUBSCRIBERS, EVENT_BYTES, rate), figures)) for rate in RATES]
    lines = [(labelled[0][0], *(text for _, text in labelled)) for labelled in zip(*columns, strict=True)]
    head = (f"{SUBSCRIBERS} subscribers, {EVENT_BYTES} bytes", *(f"{rate:,} a second" for rate in RATES))
    prices = "\n".join(f"* {quoted(price)}" for price in PRICES)
    return f"{described(figures)}\n\n{_table(head, lines)}\n\n{prices}"


def assumptions_table() -> str:
    """Return all numbers that are not measured, with their meaning."""
    lines = [(f"`{name}`", f"{value:,g}", meaning) for name, value, meaning in Assumptions.table()]
    return _table(("Assumption", "Value", "Meaning"), lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *lines])
