"""``python -m deploy.render``: write the generated files. A test fails when one of them is out of date.

* the dashboard's JSON, from :mod:`deploy.dashboard`
* the tables of alerts and metrics in the run-book, from the alert rules and from the metric catalogue
* the schema of the chart's values, from its defaults and the gateway's own schema of ``config.yaml``
* the chart as rendered by ``helm template``, where helm is installed: tests check it on machines that have no helm
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.dashboard import dashboard
from deploy.values_schema import values_schema
from gateway.telemetry.metric_catalogue import CATALOGUE

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "deploy/helm/nxcloud-gateway"
DASHBOARD: Final = CHART / "files/dashboard.json"
ALERTS: Final = CHART / "files/alerts.yml"
VALUES_SCHEMA: Final = CHART / "values.schema.json"
RUNBOOK: Final = ROOT / "deploy/docs/operations.md"
TESTS: Final = ROOT / "tests/deploy"
#: Values file → what helm makes of them.
RENDERED: Final = {
    TESTS / f"{name}.yaml": TESTS / f"rendered/{name}.yaml" for name in ("plain", "everything", "embedded")
}
_SEVERITIES: Final = ("page", "warning", "info")
_KUBERNETES: Final = "1.34.0"


def dashboard_text() -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def values_schema_text() -> str:
    """The schema's file."""
    return json.dumps(values_schema(CHART / "values.yaml"), indent=1) + "\n"


def alerts() -> list[dict[str, Any]]:
    """All alert rules."""
    document = yaml.safe_load(ALERTS.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def alerts_section() -> str:
    """Return one section of the run-book for each alert: severity, meaning, check, action."""
    rules = sorted(alerts(), key=lambda rule: _SEVERITIES.index(rule["labels"]["severity"]))
    parts = []
    for rule in rules:
        texts = {name: _linked(text, rules) for name, text in rule["annotations"].items()}
        parts.append(
            f"### {rule['alert']}\n\n*{rule['labels']['severity']}*\n\n**Meaning:** {texts['meaning']}\n\n"
            f"**Check:**\n\n{texts['check']}\n\n**Act:**\n\n{texts['action']}\n"
        )
    return "\n".join(parts)


def _linked(text: str, rules: list[dict[str, Any]]) -> str:
    """Return a text as Markdown: names of alerts become links, names of metrics code."""
    names = "|".join(rule["alert"] for rule in rules)
    text = re.sub(rf"\b({names})\b", lambda found: f"[{found[1]}](#{found[1].lower()})", text.replace("<", "&lt;"))
    return re.sub(r"\bgateway_[a-z_]+", r"`\g<0>`", text)


def metrics_section() -> str:
    """Return the metric catalogue as a table."""
    lines = ["| metric | labels | process | meaning | what a high or changing value means |", "|---|---|---|---|---|"]
    for metric in CATALOGUE:
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        processes = ", ".join(f"`{process}`" for process in metric.processes)
        lines.append(f"| `{name}` ({metric.kind}) | {labels} | {processes} | {metric.meaning} | {metric.advice} |")
    return "\n".join(lines) + "\n"


def runbook_text() -> str:
    """Return the run-book with its generated parts generated again."""
    text = RUNBOOK.read_text()
    for marker, made in (("alerts", alerts_section()), ("metrics", metrics_section())):
        before, begin, rest = text.partition(f"<!-- {marker} -->\n")
        text = f"{before}{begin}\n{made}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


def chart_digest(values: Path) -> str:
    """Of the chart's files and one values file: whether a rendering is of this chart."""
    digest = hashlib.sha256()
    for path in [*_chart_files(), values]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def helm_template(values: Path) -> str:
    """The chart as helm renders it, with a head that names what it was made from."""
    command = ["helm", "template", "gateway", str(CHART), "-f", str(values), "--kube-version", _KUBERNETES]
    made = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return f"# Made by python -m deploy.render of {chart_digest(values)}\n{made.stdout}"


def _chart_files() -> Iterator[Path]:
    # The schema and the README change nothing of what is rendered: a new key of config.yaml must not need helm.
    files = (path for path in CHART.rglob("*") if path.is_file())
    yield from sorted(path for path in files if path != VALUES_SCHEMA and path.suffix != ".md")


def main() -> None:
    """Write every file that can be generated on this machine."""
    DASHBOARD.write_text(dashboard_text())
    RUNBOOK.write_text(runbook_text())
    VALUES_SCHEMA.write_text(values_schema_text())
    if shutil.which("helm") is None:
        print("helm is not installed: the rendered chart was left as it is")  # noqa: T201
        return
    for values, rendered in RENDERED.items():
        rendered.write_text(helm_template(values))


if __name__ == "__main__":
    main()
