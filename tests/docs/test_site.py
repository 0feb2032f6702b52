"""The documents as a site: built with what ``deploy/site.lock`` pins, without a warning, searchable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("site")]


def run(*command: str | Path) -> str:
    """Output of a program that must succeed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. ``strict`` makes a warning (a dead link, a page without a place in the menu) a failure."""
    folder = tmp_path_factory.mktemp("site")
    python = folder / ".venv/bin/python"
    run(sys.executable, "-m", "venv", "--without-pip", folder / ".venv")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "-q")
    run(*pip, "--no-compile", "--require-hashes", "-r", ROOT / "deploy/site.lock")
    said = run(python, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "deploy/mkdocs.yml", "-d", folder / "built")
    assert "Documentation built" in said
    return folder / "built"


def test_every_page_is_built(site: Path) -> None:
    """Each page, and the README as the overview."""
    wanted = {path.stem for path in DOCS.glob("*.md") if path.name != "README.md"} | {"index", "overview"}
    assert wanted <= {path.stem for path in site.glob("*.html")}


def test_links_to_the_readme_stay_in_the_site(site: Path) -> None:
    """They lead to the overview, and the overview's own links to the pages."""
    assert 'href="overview.html#five-minute-tour"' in (site / "quickstart.html").read_text()
    assert 'href="delivering.html#verify-the-signature"' in (site / "overview.html").read_text()


def test_it_is_searchable(site: Path) -> None:
    """The index has the sections of every page."""
    places = {row["location"] for row in json.loads((site / "search/search_index.json").read_text())["docs"]}
    assert {"concepts.html#glossary", "delivering.html#dead-letters", "callbacks.html#sms-delivery-receipt"} <= places


def test_nothing_is_loaded_from_another_server(site: Path) -> None:
    """A reader's browser asks only the server that has the site."""
    for page in site.glob("*.html"):
        text = page.read_text()
        for mark in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http', "fonts.googleapis"):
            assert mark not in text, page.name
