"""Alert rules and dashboard: only metrics and labels that exist, and for each alert its meaning, check and action."""

from __future__ import annotations

import json
import re
from typing import Any

from deploy import render
from gateway.telemetry.metric_catalogue import CATALOGUE
from tests.deploy.artefacts import ROOT, metrics_in, run, series, walk
from tests.rows import rows

RULES = render.alerts()
EXPRESSIONS = [
    *(rule["expr"] for rule in RULES),
    *(
        value["expr"]
        for value in walk(json.loads(render.DASHBOARD.read_text()))
        if isinstance(value, dict) and "expr" in value
    ),
]
#: As Prometheus has them, and as people say them.
NAMES = set(series()) | {metric.name for metric in CATALOGUE}
#: Labels that Prometheus adds, or that histograms have.
COMMON = {"instance", "job", "le"}
named = rows("rule", RULES, ids=lambda rule: rule["alert"])


@rows("expression", EXPRESSIONS)
def test_every_metric_in_an_expression_exists(expression: str) -> None:
    """With the suffix that its kind has in Prometheus, and buckets only of histograms."""
    assert set() == metrics_in(expression) - set(series())


@rows("expression", EXPRESSIONS)
def test_every_label_in_an_expression_exists(expression: str) -> None:
    """A label that a metric does not have matches nothing, and an alert on it never fires."""
    known = COMMON.union(*(series()[name].labels for name in metrics_in(expression)))
    grouped = {
        label.strip() for labels in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expression) for label in labels.split(",")
    }
    matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    assert set() == (grouped | matched) - known


@rows("expression", EXPRESSIONS)
def test_every_outcome_in_an_expression_is_one(expression: str) -> None:
    """Values of labels stand in the catalogue's own sentence."""
    for name in metrics_in(expression):
        meaning = next(metric.meaning for metric in CATALOGUE if metric == series()[name])
        for values in re.findall(r'(?:outcome|state)(?:=~|!~|!=|=)"([^"]*)"', expression):
            if {"outcome", "state"} & set(series()[name].labels):
                assert set() == {value for value in values.split("|") if value not in meaning}


@named
def test_each_alert_says_what_it_means_what_to_check_and_what_to_do(rule: dict[str, Any]) -> None:
    """Check and action are lists, one step an item, as the run-book and a notification show them."""
    texts = rule["annotations"]
    assert {"summary", "meaning", "check", "action"} == set(texts)
    assert all(len(texts[part]) > 30 for part in ("meaning", "check", "action"))
    assert all(re.fullmatch(r"(- .+\n?(  .+\n?)*)+", texts[part]) for part in ("check", "action"))
    assert rule["labels"]["severity"] in ("page", "warning", "info")
    assert rule["alert"].startswith("Gateway")


def test_names_of_alerts_are_unique_and_the_ones_they_mention_exist() -> None:
    """Each leads on to others only where there are such."""
    names = [rule["alert"] for rule in RULES]
    mentioned = {name for rule in RULES for name in re.findall(r"\bGateway[A-Z]\w+", str(rule["annotations"]))}
    assert len(names) == len(set(names))
    assert set() == mentioned - set(names)


def test_metrics_that_the_texts_name_exist() -> None:
    """Also where they are only read by people."""
    assert set() == metrics_in(str([rule["annotations"] for rule in RULES])) - NAMES


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    """Grafana would move them about."""
    panels = json.loads(render.DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len(panels) == len({panel["id"] for panel in panels})


def test_promtool_finds_nothing() -> None:
    """Prometheus reads the rules."""
    run("promtool", "check", "rules", str(render.ALERTS), install="apt-get install prometheus")


def test_alerts_fire_and_keep_quiet() -> None:
    """The rules on made-up series: tests/deploy/alerts_test.yml."""
    run("promtool", "test", "rules", str(ROOT / "tests/deploy/alerts_test.yml"), install="apt-get install prometheus")
