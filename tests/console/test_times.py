"""Times on the page: local, with a date where it is not today, with the zone where one points, and over nothing."""

from __future__ import annotations

import time
from typing import Final

from tests.admin.running import Running
from tests.console.browser import Page

#: Two steps of a history, as the page of an event makes them, of an event of long ago and of one of now.
_STEPS: Final = """(async () => {
  const { when } = await import("./static/when.js");
  const { h, fill } = await import("./static/dom.js");
  const times = [1700000000.123, Date.now() / 1000];
  const rows = times.map((at) => h("li", when(at, { ms: true }), h("div", h("b", "Received"))));
  fill(document.getElementById("main"), h("ol.timeline", rows));
  return rows.map((row) => {
    const parts = [...row.querySelectorAll("time span")].map((one) => one.getBoundingClientRect().right);
    return [row.querySelector("time").innerText, row.querySelector("time").title,
      Math.max(...parts) <= row.querySelector("b").getBoundingClientRect().left];
  });
})()"""


async def test_a_time_of_another_day_has_its_date(page: Page, quiet: Running) -> None:
    """Also at 390 pixels neither date nor clock is over the title behind it."""
    await page.call("Emulation.setTimezoneOverride", timezoneId="Asia/Jakarta")
    for width in (1280, 390):
        await page.size(width, 800)
        await page.open(quiet.url)
        await page.sees("Callbacks", ".tiles")
        (old, old_title, is_old_clear), (new, new_title, is_new_clear) = await page.run(_STEPS)
        assert old.split() == ["2023-11-15", "05:13:20.123"]
        assert len(new.split()) == 1
        assert new[:5] in {time.strftime("%H:%M", time.gmtime(time.time() + 7 * 3600 - back)) for back in (0, 30)}
        assert (is_old_clear, is_new_clear) == (True, True)
        assert all("Asia/Jakarta" in title for title in (old_title, new_title))
        assert "2023-11-15" in old_title
