"""The table for people and the JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.lossproof.checker import Verdict


@dataclass(slots=True)
class Row:
    """One scenario in one mode.

    Args:
        told_lost: lost, and the gateway's log said that stored bytes were damaged; only where the test damaged them.
        failure: why it could not be played to its end; empty when it was.
        starts: how often each process was started.
    """

    scenario: str
    mode: str
    seed: str
    cycles: int = 0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    told_lost: int = 0
    failure: str = ""
    starts: dict[str, int] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Played to its end and nothing was broken."""
        return not self.failure and self.verdict.is_clean


_COLUMNS = (
    "scenario", "mode", "cycles", "accepted", "delivered", "lost", "told", "invented", "out of order", "unstable",
    "repeats log", "repeats out", "seconds",
)  # fmt: skip


def table(rows: list[Row]) -> str:
    """In Markdown, so that it can be pasted."""
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *map(_cells, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(_COLUMNS))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    for row in rows:
        text += [f"{row.scenario} {row.mode}: {problem}" for problem in (row.failure, *row.verdict.breaches) if problem]
    return "\n".join(text)


def _cells(row: Row) -> list[str]:
    v = row.verdict
    numbers = (
        row.cycles, v.accepted, v.delivered, v.lost, row.told_lost, v.invented, v.out_of_order, v.unstable,
        v.repeated_in_log, v.repeated_deliveries, round(row.seconds),
    )  # fmt: skip
    return [row.scenario, row.mode, *(f"{number:,}" for number in numbers)]


def write_json(path: Path, rows: list[Row], **about: Any) -> None:
    """Everything, the schedules included."""
    document = {**about, "is_clean": all(row.is_clean for row in rows), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(document, indent=1, default=str))
