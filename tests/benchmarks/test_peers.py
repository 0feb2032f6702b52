"""The comparison with peers: sums of processes, bars, tables; that it runs is in ``test_smoke.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.benchmarks import peers, wrk
from tests.benchmarks.peers import bars, receipt, sides, tables
from tests.benchmarks.peers.measure import Round, by_kind

SPLIT = {"ingest-0": 20.0, "ingest-1": 10.0, "log": 8.0, "deliver": 12.0, "python": 1.0}


def one_round(cpu_us: float, kinds: dict[str, float] | None = None, *, p99_s: float = 0.02) -> Round:
    load = wrk.Load(
        requests=1000, per_s=200.0, p50_s=0.004, p99_s=p99_s, other_answers=0, socket_errors=0, cpu_share=0.1
    )
    return Round(load, cpu_us, kinds or {"python": cpu_us})


def test_processes_of_one_kind_are_summed() -> None:
    """What is neither ingest nor log nor deliver is the supervisor's."""
    assert {"ingest": 30.0, "log": 8.0, "deliver": 12.0, "supervisor": 1.0} == by_kind(SPLIT)


def test_one_process_keeps_its_name() -> None:
    """A gateway without a log process is not split."""
    assert {"python": 70.0} == by_kind({"python": 70.0})


def test_bars_are_met_or_missed_by_the_median_of_the_ratios() -> None:
    rounds = {
        64: {
            peers.BARE: [one_round(40.0), one_round(20.0), one_round(40.0)],
            peers.RUN: [one_round(51.0, by_kind(SPLIT))] * 3,
        }
    }
    found = dict(bars.of_rounds(rounds, broker_syncs=False, commit=""))
    assert found["ingest and log, of bare aiohttp, 64 connections"] == {
        "figure": {"median": 0.95, "rounds": [0.95, 1.9, 0.95]},
        "at_most": 1.4,
        "met": True,
    }
    assert found["`run` embedded, of bare aiohttp, 64 connections"]["met"]
    assert not any("Bento" in label for label in found)


def test_a_bar_of_processes_has_no_figure_where_one_does_everything() -> None:
    rounds = {64: {peers.BARE: [one_round(40.0)], peers.RUN: [one_round(100.0)]}}
    found = dict(bars.of_rounds(rounds, broker_syncs=False, commit=""))
    assert found["ingest alone, of bare aiohttp, 64 connections"] == {"figure": None, "at_most": 1.1, "met": None}
    assert found["`run` embedded, of bare aiohttp, 64 connections"]["met"] is False


def test_the_slowest_round_counts_for_p99() -> None:
    rounds = {512: {peers.RUN: [one_round(50.0), one_round(50.0, p99_s=0.2), one_round(50.0)]}}
    found = dict(bars.of_rounds(rounds, broker_syncs=False, commit=""))
    assert found[f"slowest p99 of {peers.RUN}, 512 connections, ms"] == {
        "figure": 200.0,
        "at_most": 100.0,
        "met": False,
    }


def test_tables_show_every_side_its_promise_and_who_was_left_out() -> None:
    median = {name: {"median": 12.0, "rounds": [12.0]} for name in ("cpu_us", "per_s", "p50_ms", "p99_ms")}
    figures = {
        "setting": {"pinned": False, "broker_syncs": False, "processors": 2, "rounds": 3, "seconds": 5, "commit": "0"},
        "promises": {side: sides.SIDES[side].says(broker_syncs=False) for side in (peers.BARE, peers.RUN)},
        "left_out": {peers.VECTOR: "`vector` is not on the path."},
        "64 connections": {
            peers.BARE: {**median, "processes": {}},
            peers.RUN: {**median, "processes": dict.fromkeys(by_kind(SPLIT), median["cpu_us"])},
        },
        "bars": {"this": {"figure": 1.5, "at_most": 1.0, "met": False}},
    }
    for text in (tables.markdown(figures), tables.plain(figures)):
        assert "12 · 12 · 12 / 12" in text
        assert "supervisor" in text
        assert "missed" in text
        assert f"* {peers.BARE}: when it has answered, the event is nowhere: nothing is kept." in text
        assert f"* {peers.VECTOR}: left out. `vector` is not on the path." in text


def test_a_form_becomes_an_event_with_the_message_id_as_key() -> None:
    key, value = receipt.decode(
        b"result=DELIVRD&size=2&phone=15550100&rate=7.05&price=0.031&messageid=m-1&currency=USD"
        b"&drtime=2024-01-02+03%3A04%3A05&sendtime=2024-01-02+03%3A04%3A05&status=2"
    )
    assert b"m-1" == key
    assert b'"to":"+15550100"' in value
    assert b'"sent_at":"2024-01-02 03:04:05"' in value


@pytest.mark.parametrize("body", [b"status=2", b"messageid=m&phone=1&status=2&result=r&size=many", b"\xff"])
def test_a_form_that_is_no_receipt_is_refused(body: bytes) -> None:
    """Sides answer 400 to these errors."""
    with pytest.raises((KeyError, ValueError)):
        receipt.decode(body)


@pytest.mark.parametrize("side", [peers.BENTO, peers.VECTOR, peers.VECTOR_DISK])
def test_configurations_have_no_place_left_open(side: str, tmp_path: Path) -> None:
    """Every mark is replaced, and the result is YAML."""
    program = "bento" if side == peers.BENTO else "vector"
    text = sides.configuration(program, side, port=1, bootstrap="127.0.0.1:9", topic="t", folder=tmp_path)
    assert "@" not in text
    assert isinstance(yaml.safe_load(text), dict)


def test_an_unknown_commit_is_no_side(tmp_path: Path) -> None:
    with pytest.raises(sides.NotHere, match="no-such-commit is not here"):
        sides.before("no-such-commit", tmp_path)


def test_the_code_of_another_commit_runs_instead_of_ours(tmp_path: Path) -> None:
    found = sides.before("HEAD", tmp_path)
    assert {f"{peers.RUN}, at HEAD", f"{peers.SERVE}, at HEAD"} == set(found)
    where = subprocess.run(
        [sys.executable, "-c", "import gateway; print(gateway.__file__)"],
        cwd=tmp_path / "source-HEAD", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(tmp_path))
