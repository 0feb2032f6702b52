"""``gateway plan`` from its outside."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.capacity import measure as figures_file
from gateway.capacity.model import Figures
from gateway.cli import main
from tests.rows import rows

FIGURES = Figures((500.0, 5_000.0), (90.0, 50.0), (60.0, 20.0), (200.0, 100.0), 1000.0, "Linux", "2026-01-01", "1", 0.0)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    figures_file.save(FIGURES, tmp_path / "mine.json")


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


def test_prints_figures_plan_and_sources() -> None:
    """The machine of the figures, each quantity, and where the prices come from."""
    result = plan("--rate", "100000", "--subscribers", "20", "--bytes", "900")
    assert result.exit_code == 0
    assert figures_file.load(figures_file.RECORDED).machine in result.stdout
    for text in (
        "ingest machines",
        "partitions",
        "brokers",
        "fan-out processes",
        "AWS us-east-1, a month",
        "second-hand",
    ):
        assert text in result.stdout


def test_file_of_figures_is_used() -> None:
    """JSON has figures, load, assumptions and plan; the bytes are those of the figures, the average is the rate."""
    document = json.loads(plan("--rate", "100000", "--subscribers", "20", "--figures", "mine.json", "--json").stdout)
    assert json.loads(json.dumps(dataclasses.asdict(FIGURES))) == document["figures"]
    assert {"rate_per_s": 1e5, "subscribers": 20.0, "event_bytes": 1000.0, "average_per_s": 1e5} == document["load"]
    assert 0.6 == document["assumptions"]["headroom"]
    assert (5, 335) == (document["plan"]["ingest_machines"], document["plan"]["fanout_processes"])


def test_own_prices_replace_the_list_prices() -> None:
    """Of as many clouds as there are options."""
    document = json.loads(plan("--rate", "10", "--price", "a=1,0", "--price", "b = c=0,1", "--json").stdout)
    costs = document["plan"]["costs"]
    assert ["a", "b = c"] == [one["price"]["name"] for one in costs]
    assert (0, 0) == (costs[0]["disks"], costs[1]["machines"])
    assert costs[0]["total"] > 0
    assert costs[1]["total"] > 0


def test_deduplication_window_is_that_of_the_configuration(tmp_path: Path) -> None:
    """A larger one needs a larger disk."""
    small = json.loads(plan("--rate", "10", "--json").stdout)["plan"]["journal_bytes"]
    (tmp_path / "config.yaml").write_text("ingest: {dedup_window: 1000000}")
    assert json.loads(plan("--rate", "10", "--json").stdout)["plan"]["journal_bytes"] > small


@rows(
    ("arguments", "said"),
    [
        ([], "--rate is needed, or --measure"),
        (["--rate", "0"], "'--rate': 0.0 is not in the range"),
        (["--rate", "-5"], "'--rate': -5.0 is not in the range"),
        (["--rate", "1e12"], "'--rate': 1000000000000.0 is not in the range"),
        (["--rate", "nan"], "'nan' is not a number that can be reached"),
        (["--rate", "many"], "'many' is not a valid float"),
        (["--rate", "5", "--subscribers", "-1"], "'--subscribers': -1.0 is not in the range"),
        (["--rate", "5", "--bytes", "0"], "'--bytes': 0.0 is not in the range"),
        (["--rate", "5", "--average", "6"], "--average is above --rate"),
        (["--rate", "5", "--price", "cheap"], "'cheap' is not a price such as 'my cloud=0.15,0.07'"),
        (["--rate", "5", "--price", "a=1"], "'a=1' is not a price"),
        (["--rate", "5", "--price", "a=-1,1"], "needs a name, and prices from 0"),
        (["--rate", "5", "--price", "a=nan,1"], "needs a name, and prices from 0"),
        (["--rate", "5", "--figures", "none.json"], "none.json: cannot be read: No such file"),
    ],
)
def test_wrong_input_is_one_sentence(arguments: list[str], said: str) -> None:
    """On standard error, with exit code 2."""
    result = plan(*arguments)
    assert (2, "") == (result.exit_code, result.stdout)
    assert said in result.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accept_us": [90, 0]}, "accept_us: must be a number above 0"),
        ({"deliver_us": [True, 1]}, "deliver_us: must be a number above 0"),
        ({"commit_us": "20"}, "commit_us: must be a list of numbers"),
        ({"commit_us": []}, "commit_us: must be a list of numbers"),
        ({"commit_us": [20]}, "rates_per_s, accept_us, commit_us, deliver_us: must have one number for each rate"),
        ({"rates_per_s": [500, 500]}, "rates_per_s: must ascend"),
        ({"event_bytes": 1e9}, "event_bytes: must be a number above 0"),
        ({"load_average": -1}, "load_average: must be a number"),
        ({"machine": 3}, "machine: must be a text"),
        ({"more": 1}, "needs exactly the keys rates_per_s"),
    ],
)
def test_wrong_figures_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """By the file and the key."""
    (tmp_path / "mine.json").write_text(json.dumps(dataclasses.asdict(FIGURES) | change))
    result = plan("--rate", "5", "--figures", "mine.json")
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"mine.json: {said}" in result.stderr


def test_figures_that_are_not_json_are_refused(tmp_path: Path) -> None:
    """With the name of the file."""
    (tmp_path / "mine.json").write_text("accept_us: 5")
    result = plan("--rate", "5", "--figures", "mine.json")
    assert 2 == result.exit_code
    assert "mine.json: is not JSON" in result.stderr
