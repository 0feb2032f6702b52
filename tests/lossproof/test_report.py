"""What a run prints for a reader who does not know the table, and what the short run plays."""

from __future__ import annotations

from tests.lossproof import plan
from tests.lossproof.checker import Verdict
from tests.lossproof.report import Row, summary
from tests.lossproof.roles import ROLES
from tests.lossproof.scenarios import SCENARIOS
from tests.rows import rows


def kills(rows: list[Row]) -> dict[str, int]:
    """What the summary counts as kills."""
    lines = [line.split(":") for line in summary(rows).splitlines() if line.endswith(" times")]
    return {what.strip(): int(count.replace(",", "").split()[0]) for what, count in lines}


def test_short_run_needs_neither_kafka_nor_a_compiler() -> None:
    """And must have made every fault of its scenarios at its end, a kill of each kind of process among them."""
    plays = plan.short()
    faults = {fault for play in plays for fault in play.faults}
    assert all(play.mode == "embedded" and play.is_whole for play in plays)
    assert not any(SCENARIOS[play.scenario].with_shim or SCENARIOS[play.scenario].with_proxy for play in plays)
    assert {f"SIGKILL {role}" for role in ROLES["embedded"]} <= faults


def test_summary_counts_each_kill_once() -> None:
    """By kind of process, whatever the point; not what only describes a kill that is counted already."""
    faults = {
        "SIGKILL run/log": 3, "SIGKILL run/log after_commit": 2, "log dies at random": 1, "log dies before_commit": 1,
        "log dies, and is back soon": 9, "SIGKILL with a backlog": 9, "SIGKILL while the broker is away": 9,
        "SIGTERM run/log": 9, "SIGKILL run/ingest": 4, "SIGKILL run": 5, "SIGKILL run/supervisor": 6,
    }  # fmt: skip
    rows = [Row("kill", "embedded", "1", injected=faults), Row("kill", "kafka", "1", injected={"SIGKILL broker": 8})]
    assert kills(rows) == {
        "ingest (a worker that answers)": 4,
        "log (the process with the journal)": 7,
        "the supervisor alone": 6,
        "all processes at once": 5,
        "the Kafka broker": 8,
    }


def test_every_kill_of_the_short_run_is_counted() -> None:
    """No kind of process is missing from the summary, however its faults are named."""
    names = {f"SIGKILL {role}" for role in ROLES["embedded"]} | {
        fault for play in plan.short() for fault in play.faults
    }
    of_kills = {name for name in names if name.startswith(("SIGKILL run", "log dies"))}
    for name in of_kills:
        assert sum(kills([Row("kill", "embedded", "1", injected={name: 1})]).values()) == 1, name


def test_summary_adds_the_events_of_all_scenarios() -> None:
    """The counts are those of the verdicts."""
    verdicts = [Verdict(accepted=1000, delivered=1500, repeated_deliveries=3), Verdict(accepted=34, delivered=40)]
    lines = [line.split() for line in summary([Row("kill", "embedded", "1", verdict=v) for v in verdicts]).splitlines()]
    assert ["events", "accepted:", "1,034"] in lines
    assert ["delivered,", "each", "subscriber", "counted:", "1,540"] in lines
    assert ["delivered", "again", "(repeats):", "3"] in lines
    assert ["lost:", "0"] in lines


@rows(
    ("row", "result"),
    [
        (Row("kill", "embedded", "1"), "every event"),
        (Row("kill", "embedded", "1", verdict=Verdict(lost=1)), "broke a guarantee"),
        (Row("kill", "embedded", "1", verdict=Verdict(lost=1), missing=["SIGKILL run"]), "broke a guarantee"),
        (Row("kill", "embedded", "1", missing=["SIGKILL run"]), "incomplete"),
        (Row("kill", "embedded", "1", failure="TimeoutError()"), "incomplete"),
    ],
)
def test_result_is_success_only_when_all_was_played(row: Row, result: str) -> None:
    """A run that could not be played proves nothing; a loss is a loss also there."""
    said = summary([Row("backlog", "embedded", "1"), row]).splitlines()[-1]
    assert said.startswith("Result: ")
    assert result in said
    assert ("kill (embedded)" in said) is not row.is_clean
