"""Documents under deploy/docs: links lead somewhere; commands, keys, metrics and files that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.callbacks import CALLBACKS
from gateway.cli import COMMANDS
from gateway.config.schema_tree import keys
from tests.deploy.artefacts import DEPLOY, ROOT, metrics_in, series
from tests.rows import rows

PAGES = sorted((DEPLOY / "docs").glob("*.md"))
#: Named by the contract, and not in every build of the command line yet.
PROMISED: set[str] = set()
each = rows("page", PAGES, ids=lambda page: page.stem)
SECTIONS = ("ingest", "journal", "kafka", "topics", "subscribers", "admin", "log")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@each
def test_internal_links_lead_somewhere(page: Path) -> None:
    """Files and headings of the repository; addresses of others are not asked."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@each
def test_commands_exist(page: Path) -> None:
    """Every `gateway …` in code is a command."""
    code = re.findall(r"`([^`\n]+)`", page.read_text()) + re.findall(r"(?ms)^```.*?$(.*?)^```", page.read_text())
    named = {name for text in code for name in re.findall(r"(?m)(?:^|bin/|&& |-- )gateway ([a-z]+)", text)}
    assert set() == named - set(COMMANDS) - PROMISED


@each
def test_metrics_exist(page: Path) -> None:
    """With the names that Prometheus shows."""
    known = set(series()) | {metric.name for metric in series().values()}
    assert set() == metrics_in(page.read_text()) - known


@each
def test_configuration_keys_exist(page: Path) -> None:
    """Every `section.key` in code is a key of config.yaml."""
    known = {re.sub(r"\[\]|\.<name>", "", key.path) for key in keys()}
    known |= {".".join(path.split(".")[1:]) for path in known} | {f"ingest.callbacks.{name}" for name in CALLBACKS}
    known |= {".".join(path.split(".")[:depth]) for path in set(known) for depth in range(1, 5)}
    pattern = rf"`((?:{'|'.join(SECTIONS)})\.[a-z_.]+)`"
    named = {path.rstrip(".") for path in re.findall(pattern, page.read_text())}
    assert set() == {path for path in named if re.sub(r"\[\]|\.<name>", "", path) not in known}


@each
def test_files_of_the_repository_exist(page: Path) -> None:
    """Paths in code that begin with one of our folders."""
    named = re.findall(r"`((?:deploy|tests|gateway)/[\w./-]+)`", page.read_text())
    modules = re.findall(r"python -m ((?:tests|deploy|gateway)[\w.]*)", page.read_text())
    assert [] == [path for path in named if not (ROOT / path).exists()]
    assert [] == [
        name
        for name in modules
        if not any((ROOT / (name.replace(".", "/") + end)).exists() for end in (".py", "/__main__.py"))
    ]


def test_consumer_of_a_stranger_is_fifteen_lines_of_python() -> None:
    """It compiles, and stays as short as it was promised."""
    code = re.findall(r"(?ms)^```python\n(.*?)^```", (DEPLOY / "docs/kafka-consumers.md").read_text())[0]
    compile(code, "kafka-consumers.md", "exec")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_every_page_is_in_the_list() -> None:
    """deploy/docs/README.md leads to all others."""
    text = (DEPLOY / "docs/README.md").read_text()
    assert [] == [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in text]
