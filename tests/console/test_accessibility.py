"""axe-core finds nothing to complain about, on every view, light and dark."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import pytest

from tests.admin.running import Running
from tests.components import missing
from tests.console.browser import Page

pytestmark = pytest.mark.timeout(180)


_RUN = """
axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}).then((found) =>
  found.violations.map((one) => one.id + ": " + one.nodes.map((node) => node.html.slice(0, 160)).join(" | ")))
"""


def axe() -> str:
    """The source of axe-core: the file that ``AXE_JS`` names, or that of the package axe-core-python."""
    named = os.environ.get("AXE_JS")
    if named:
        return Path(named).read_text()
    try:
        return resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    except ModuleNotFoundError:
        missing("axe-core-python", install="pip install axe-core-python")


async def violations(page: Page) -> list[str]:
    """What axe-core finds in the page as it is now."""
    await page.run(axe() + "; 0")
    found: list[str] = await page.run(_RUN)
    return found


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_every_view_is_accessible(page: Page, busy: Running, is_dark: bool) -> None:
    (event, *_) = (await busy.get("/api/search", q="m-3"))["events"]
    await page.darken(is_dark=is_dark)
    await page.open(busy.url)
    found: dict[str, list[str]] = {}
    for view, ready in (
        ("", ".subscribers"),
        ("events", ".event"),
        ("events?q=nothing", ".empty"),
        ("events?live=1", ".filters"),
        (f"event/{event['id']}", ".timeline"),
        ("dead-letters", ".letter"),
        ("replays", ".empty"),
        ("rejected", ".letter"),
    ):
        await page.run(f"location.hash = '#/{view}'")
        await page.until(f"document.querySelector('main {ready}')")
        if view == "rejected":
            await page.click(".letter summary")
            await page.until("document.querySelector('.form')")
        if problems := await violations(page):
            found[view] = problems
    assert found == {}
