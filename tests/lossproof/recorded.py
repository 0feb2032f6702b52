"""The recorded run as the guarantees show it: tables out of ``recorded.json``, and nothing else.

python -m tests.lossproof --record --jobs 2 --json tests/lossproof/recorded.json
python -m tests.lossproof.recorded        # writes the tables into the documents
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.lossproof import plan
from tests.lossproof.checker import Verdict
from tests.lossproof.report import Row, markdown, summary
from tests.lossproof.roles import BROKER, ROLES, SUPERVISOR

ROOT: Final = Path(__file__).parents[2]
FILE: Final = Path(__file__).with_name("recorded.json")

_MODES: Final = {"embedded": "embedded log", "kafka": "Kafka, `run`", "split": "Kafka, `serve` and `fanout`"}
#: Kinds of process, as the table has them.
KINDS: Final = ("ingest", "log", "deliver", SUPERVISOR, BROKER)
_COUNTS: Final = (
    "accepted",
    "delivered",
    "lost",
    "told",
    "invented",
    "out_of_order",
    "unstable",
    "repeated_deliveries",
)
_VERDICT: Final = tuple(count for count in _COUNTS if count != "told")


def run(document: Mapping[str, Any]) -> str:
    """One line: what was run, when, on what."""
    command = re.sub(r" --json \S+", "", document["command"])
    return (
        f"`{command}`, begun {document['began'][:16].replace('T', ' ')} UTC on commit `{document['commit']}`, "
        f"{document['seconds'] / 60:.0f} minutes, {document['played']} of {document['planned']} scenarios played, "
        f"{document['totals']['cycles']} faults in turn under load. {document.get('again', '')}"
    ).strip()


def outcome(document: Mapping[str, Any]) -> str:
    """By mode: how often each kind of process was killed, and what came of the events."""
    rows: list[list[str]] = []
    for mode, name in _MODES.items():
        sums: Counter[str] = Counter()
        for row in document["rows"]:
            if row["mode"] == mode:
                sums.update({count: row["verdict"][count] for count in _VERDICT} | {"told": row["told_lost"]})
        times = kills(document, mode)
        rows.append([name, *(f"{times[kind] or '–'}" for kind in KINDS), *(f"{sums[count]:,}" for count in _COUNTS)])
    head = ("mode", *(f"SIGKILL {kind}" for kind in KINDS), "accepted", "delivered", "lost", "named as gone",
            "invented", "out of order", "changed", "delivered again")  # fmt: skip
    return markdown(head, rows)


def kills(document: Mapping[str, Any], mode: str) -> Counter[str]:
    """How often each kind of process was killed. All processes of a command at once count for its supervisor alone."""
    found: Counter[str] = Counter()
    for role in ROLES[mode]:  # type: ignore[index]
        kind = role if role == BROKER else role.partition("/")[2] or SUPERVISOR
        found[kind] += document["injected"][mode].get(f"SIGKILL {role}", 0)
    return found


def faults(document: Mapping[str, Any]) -> str:
    """Every fault, and how often it was made in each mode."""
    injected: Mapping[str, Mapping[str, int]] = document["injected"]
    names = sorted({fault for of in injected.values() for fault in of})
    return markdown(
        ("fault", *_MODES.values()),
        [[name, *(str(injected[mode].get(name, "–")) for mode in _MODES)] for name in names],
    )


def short(document: Mapping[str, Any]) -> str:
    """Return the summary of the scenarios that ``--short`` plays, as it would be printed."""
    chosen = {(play.scenario, play.mode) for play in plan.short()}
    rows = [
        Row(row["scenario"], row["mode"], row["seed"], verdict=Verdict(**row["verdict"]), injected=row["injected"])
        for row in document["rows"]
        if (row["scenario"], row["mode"]) in chosen
    ]
    return f"```text\n{summary(rows)}\n```"


TABLES: Final = {
    "deploy/docs/guarantees.md": {
        "loss proof run": run,
        "loss proof table": outcome,
        "loss proof faults": faults,
    },
    "deploy/docs/try-to-lose-an-event.md": {"loss proof short": short},
}


def filled(name: str, text: str, document: Mapping[str, Any]) -> str:
    """A document with its tables as the run says."""
    for marker, table in TABLES[name].items():
        pattern = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, table=table: f"{match[1]}{table(document)}\n{match[2]}", text)
        assert count == 1, marker
    return text


def main() -> None:
    """Rewrite the documents."""
    document = json.loads(FILE.read_text())
    for name in TABLES:
        path = ROOT / name
        path.write_text(filled(name, path.read_text(), document))


if __name__ == "__main__":
    main()
