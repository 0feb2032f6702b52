"""Rows stay where they are while somebody aims at one: a click must not pause the neighbour."""

from __future__ import annotations

import pytest

from tests.admin.running import Running
from tests.console.browser import SEEN, Page

pytestmark = pytest.mark.timeout(180)

#: The places of a row since it is there, one for each time that it moved.
_WATCH = """(() => {
    window.places = [];
    const look = () => {
        const top = document.querySelector("[data-name=billing]")?.getBoundingClientRect().top;
        if (top !== undefined && window.places.at(-1) !== top) window.places.push(top);
        requestAnimationFrame(look);
    };
    look();
})()"""

#: What the role of the token permits is known late.
_LATE = """(() => {
    const fetch = window.fetch;
    const later = (...asked) => new Promise((done) => setTimeout(() => done(fetch(...asked)), 1000));
    window.fetch = (...asked) => (String(asked[0]).includes("/api/me") ? later(...asked) : fetch(...asked));
})()"""


async def test_rows_stay_where_they_are_drawn_first(page: Page, busy: Running) -> None:
    """What the page gets to know later (the role of its token, the history) has its room from the start."""
    await page.size(1280, 3000)
    await page.call("Page.enable")
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH + ";" + _LATE)
    await page.open(busy.url)
    await page.until(f"document.querySelector('.adding button').{SEEN}")
    await page.until("document.querySelector('.keys').dataset.points > 1")
    assert len(await page.run("window.places")) == 1


async def test_a_row_that_is_pointed_at_stays_when_others_change(page: Page, busy: Running) -> None:
    """One above gets a reason, and loses it: its line is drawn when the pointer has gone."""
    await page.size(1280, 3000)
    await page.open(busy.url)
    await page.until(f"document.querySelector('.adding button').{SEEN}")
    box = await page.run("""(() => { const box = document.querySelector("[data-name=billing]").getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]; })()""")
    assert await page.run("document.querySelector('[data-name=audit]').getBoundingClientRect().top") < box[1]
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    await page.until("document.querySelector('tbody:hover') !== null")
    await page.run(_WATCH)
    await busy.post("/api/subscribers/audit/pause", {})
    await page.until("document.querySelector('[data-name=audit] .badge').innerText === 'paused'")
    assert len(await page.run("window.places")) == 1
    assert not await page.run("document.querySelector('[data-name=audit] .was').checkVisibility()")
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    await page.until("document.querySelector('[data-name=audit] .was').checkVisibility()")
    await page.sees("An operator paused it", "[data-name=audit]")


async def test_a_replay_that_begins_moves_no_row_that_is_pointed_at(page: Page, busy: Running) -> None:
    """Somebody else starts one: it stands above, so it is drawn when the pointer has gone. Counts go on meanwhile."""
    await busy.post("/api/replay", {"subscriber": "billing", "rate": 1, "since": 0}, 202)
    await page.open(f"{busy.url}/#/replays")
    await page.until("document.querySelector('[data-name=r-1]')")
    box = await page.run("""(() => { const box = document.querySelector("[data-name=r-1]").getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]; })()""")
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
    await page.until("document.querySelector('tbody:hover') !== null")
    await busy.post("/api/replay", {"subscriber": "audit", "since": 0}, 202)
    delivered = "Number(document.querySelector('[data-name=r-1] td:nth-of-type(6)').innerText)"
    before = await page.run(delivered)
    await page.until(f"{delivered} >= {before} + 4")  # two looks at least
    assert await page.run("document.querySelector('[data-name=r-2]') === null")
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    await page.until("document.querySelector('tbody tr').dataset.name === 'r-2'")
