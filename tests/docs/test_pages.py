"""Each page has one title, and the pages begin with whom they are for."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT, page
from tests.rows import rows

PAGES = sorted(path.name for path in DOCS.glob("*.md"))
#: They begin with the first thing to do, or are a list.
AT_ONCE = {"README.md", "changelog.md", "contributing.md"}


def head(name: str) -> str:
    """What is before the first section, without code."""
    return re.sub(r"(?ms)^ *```.*?^ *```", "", page(name)).partition("\n## ")[0]


@rows("name", PAGES)
def test_page_has_one_title(name: str) -> None:
    """A heading of the first level, as the site's menu and a search engine want it."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", page(name) if name != "README.md" else (DOCS / name).read_text())
    assert len(re.findall(r"(?m)^# ", text)) == 1


@rows("name", PAGES)
def test_page_is_in_the_menu_and_in_the_list(name: str) -> None:
    """Once in the menu of the site, and in the list of the documents: a reader finds it by both."""
    menu = (ROOT / "deploy/mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert len(re.findall(rf": {re.escape(name)}$", menu, re.MULTILINE)) == 1
    assert name == "README.md" or f"]({name})" in (DOCS / "README.md").read_text()


@rows("name", [name for name in PAGES if name not in AT_ONCE])
def test_page_begins_with_its_reader(name: str) -> None:
    """One or more sentences between title and first section say what the page is for."""
    assert len(head(name).split()) > 15
