"""The table for people and the JSON for machines."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.lossproof.checker import Verdict

#: Of what is lost, so many are written into the JSON one by one.
_LOSSES: Final = 50


@dataclass(slots=True)
class Row:
    """One scenario in one mode.

    Args:
        told_lost: lost, and the gateway's log named them as damaged; only where the test damaged stored bytes.
        failure: why it could not be played to its end; empty when it was.
        injected: how often each fault was made.
        missing: faults that were to be made and were not.
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
    injected: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Played to its end, every fault was made, and nothing was broken."""
        return not self.failure and not self.missing and self.verdict.is_clean


#: What :func:`summary` counts as kills, and the names of the faults: ``SIGKILL run/log``, ``SIGKILL run/log
#: after_commit``, ``log dies before_commit``. A process that dies at a chosen point is killed by itself.
_KILLS: Final = {
    "ingest (a worker that answers)": re.compile(r"SIGKILL \w+/ingest.*"),
    "log (the process with the journal)": re.compile(r"SIGKILL \w+/log.*|log dies \w+( \w+)?"),
    "deliver (calls subscribers)": re.compile(r"SIGKILL \w+/deliver.*"),
    "the supervisor alone": re.compile(r"SIGKILL \w+/supervisor"),
    "all processes at once": re.compile(r"SIGKILL (run|serve|fanout)"),
    "the Kafka broker": re.compile(r"SIGKILL broker"),
}
#: Lines of :func:`summary` and the counts of the verdict.
_COUNTS: Final = {
    "events accepted": "accepted",
    "delivered, each subscriber counted": "delivered",
    "delivered again (repeats)": "repeated_deliveries",
    "out of order": "out_of_order",
    "lost": "lost",
}

_COLUMNS: Final = (
    "scenario", "mode", "cycles", "accepted", "delivered", "lost", "told", "invented", "out of order", "unstable",
    "repeats log", "repeats out", "seconds",
)  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """In Markdown, so that it can be pasted: the rows and their sum, the faults, and what went wrong."""
    lines = [_cells(row) for row in rows]
    if len(rows) > 1:
        lines.append(["all", "", *(f"{sum(column):,}" for column in zip(*map(_numbers, rows), strict=True))])
    text = [markdown(_COLUMNS, lines), "", markdown(("fault", "mode", "times"), _faults(rows))]
    for row in rows:
        missing = [f"never injected: {fault}" for fault in row.missing]
        problems = (row.failure, *missing, *row.verdict.problems)
        text += [f"{row.scenario} {row.mode}: {problem}" for problem in problems if problem]
    return "\n".join(text)


def summary(rows: Sequence[Row]) -> str:
    """Return sentences for a reader who does not know the table: kills, accepted, delivered, lost, and the result."""
    times = Counter[str]()
    for of in injected(rows).values():
        for name, count in of.items():
            times += {fault: count for fault, pattern in _KILLS.items() if pattern.fullmatch(name)}
    kills = [f"  {what + ':':<36}{times[what]:>8,} times" for what in _KILLS if times[what]]
    verdicts = [row.verdict for row in rows]
    counts = [
        f"  {what + ':':<36}{sum(getattr(verdict, name) for verdict in verdicts):>8,}" for what, name in _COUNTS.items()
    ]
    kills = ["Ended with SIGKILL while callbacks arrived:", *kills, ""] if kills else []
    return "\n".join([*kills, "What happened to the events:", *counts, "", _result(rows)])


def _result(rows: Sequence[Row]) -> str:
    if all(row.is_clean for row in rows):
        return "Result: every event of a callback that was answered with success arrived at each of its subscribers."
    broken = ", ".join(f"{row.scenario} ({row.mode})" for row in rows if not row.is_clean)
    if any(not row.verdict.is_clean for row in rows):
        return f"Result: the gateway broke a guarantee. See the lines above on {broken}."
    return f"Result: not proven, because the run is incomplete. See the lines above on {broken}."


def injected(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """How often each fault was made: mode → fault → times."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row.mode, Counter()).update(row.injected)
    return {mode: dict(sorted(faults.items())) for mode, faults in found.items()}


def write_json(path: Path, rows: Sequence[Row], **about: Any) -> None:
    """Everything, the schedules included. Written anew after each scenario, so that a run that ends early has told."""
    verdicts = [row.verdict for row in rows]
    totals = {
        name: sum(getattr(verdict, name) for verdict in verdicts)
        for name in ("accepted", "delivered", "lost", "invented", "out_of_order", "unstable", "repeated_in_log",
                     "repeated_deliveries")
    }  # fmt: skip
    totals |= {"cycles": sum(row.cycles for row in rows), "told_lost": sum(row.told_lost for row in rows)}
    document = {
        **about,
        "is_clean": all(row.is_clean for row in rows),
        "totals": totals,
        "injected": injected(rows),
        "rows": [_document(row) for row in rows],
    }
    path.write_text(json.dumps(document, indent=1, default=str))


def _document(row: Row) -> dict[str, Any]:
    found = asdict(row)
    found["verdict"]["losses"] = found["verdict"]["losses"][:_LOSSES]
    return found


def _faults(rows: Iterable[Row]) -> list[list[str]]:
    return [[fault, mode, str(times)] for mode, of in injected(rows).items() for fault, times in of.items()]


def _numbers(row: Row) -> tuple[int, ...]:
    v = row.verdict
    return (
        row.cycles, v.accepted, v.delivered, v.lost, row.told_lost, v.invented, v.out_of_order, v.unstable,
        v.repeated_in_log, v.repeated_deliveries, round(row.seconds),
    )  # fmt: skip


def _cells(row: Row) -> list[str]:
    return [row.scenario, row.mode, *(f"{number:,}" for number in _numbers(row))]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that can be read as it is, too."""
    lines = [head, ["---"] * len(head), *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
