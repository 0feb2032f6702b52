"""What ``python -m deploy.render`` writes is as it would write it now."""

from __future__ import annotations

from pathlib import Path

from deploy import render
from tests.deploy.artefacts import run
from tests.rows import rows

ADVICE = "run: python -m deploy.render"


def test_dashboard_is_as_its_table_says() -> None:
    """The JSON is never edited by hand."""
    assert render.dashboard_text() == render.DASHBOARD.read_text(), ADVICE


def test_values_of_the_chart_are_checked_by_what_there_is_now() -> None:
    """A key that was added to values.yaml or to the gateway's configuration is allowed."""
    assert render.values_schema_text() == render.VALUES_SCHEMA.read_text(), ADVICE


def test_run_book_has_every_alert_and_every_metric_as_they_are() -> None:
    """Whoever is woken by an alert finds its section."""
    assert render.runbook_text() == render.RUNBOOK.read_text(), ADVICE


@rows("values", render.RENDERED, ids=lambda path: path.stem)
def test_rendered_chart_is_of_this_chart(values: Path) -> None:
    """Tests on machines without helm look at what the chart is now."""
    head = render.RENDERED[values].read_text().splitlines()[0]
    assert head.endswith(render.chart_digest(values)), f"with helm installed, {ADVICE}"


@rows("values", render.RENDERED, ids=lambda path: path.stem)
def test_helm_renders_the_same(values: Path) -> None:
    """Where helm is installed, it says what the kept rendering says."""
    run("helm", "version", install="helm.sh", is_on_ci=False)
    assert render.helm_template(values) == render.RENDERED[values].read_text(), ADVICE
