"""Dead letters and replays in a browser: closing them, delivering them, and ten thousand of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.fanout import retry_records
from gateway.fanout.retry_records import AttemptHistory
from gateway.log import Entry, Record
from tests.admin.running import Running, running, webhook
from tests.console.browser import Page
from tests.fanout.events import entry
from tests.gateway.subscriber import Subscriber, accept

pytestmark = pytest.mark.timeout(240)

MANY = 10_000
#: The bound is in processor time; how long that takes says how busy the machine is.
LOADED_S = 90.0


async def choose(page: Page, label: str, value: str) -> None:
    """Select an option, as a person does."""
    await page.run(
        f"""(() => {{ const field = document.querySelector("select[aria-label='{label}']");
        field.value = "{value}"; field.dispatchEvent(new Event("change", {{bubbles: true}})); }})()"""
    )


async def fill(page: Page, selector: str, text: str) -> None:
    """Write into a field."""
    await page.run(f"document.querySelector('{selector}').focus()")
    await page.write(text)


async def test_dead_letters_are_closed_with_a_note_and_by_delivery(
    page: Page, busy: Running, refusing: Subscriber
) -> None:
    """Two are resolved, the others delivered; each is found under its state, with who, why and which replay."""
    await page.open(f"{busy.url}/#/dead-letters?subscriber=crm")
    await page.until("document.querySelectorAll('.letter').length >= 12")
    before = int(await page.run("document.querySelectorAll('.letter').length"))
    await page.click(".letter input")
    await page.click(".letter:nth-child(2) input")
    await page.click(".filters button", "Resolve 2")
    await fill(page, "#note", "sent by hand, ticket 4711")
    await page.picture("resolve")
    await page.click("dialog button.main", "Resolve 2")
    await page.sees("2 dead letters of crm resolved", "#toasts")
    await page.until(f"document.querySelectorAll('.letter').length === {before - 2}")
    refusing.behave = accept
    await page.click(".filters button", "Replay all open")
    await page.sees(f"{before - 2} events", "dialog")
    await page.click("dialog button.main", f"Replay {before - 2}")
    await page.sees("on the way to crm again, by replay r-1", "#toasts")
    await page.sees("No dead letter is open")
    await choose(page, "State", "resolved")
    await page.until("document.querySelectorAll('.letter[data-state=resolved]').length === 2")
    await page.click(".letter summary")
    await page.sees("by anonymous: sent by hand, ticket 4711")
    await page.picture("resolved")
    await choose(page, "State", "delivered")
    await page.until(f"document.querySelectorAll('.letter[data-state=delivered]').length === {before - 2}")
    await page.click(".letter summary")
    await page.sees("by replay r-1")
    await page.click(".letter a", "The event's whole story")
    async with asyncio.timeout(20):  # attempts are stored once a second
        while "delivered by replay r-1" not in await page.text():
            await page.click("button", "Refresh")
    assert "replay r-1 · attempt 1" in await page.text()
    await page.picture("story-replayed", is_whole=True)


async def test_a_replay_of_a_range_is_watched_cancelled_and_resumed(page: Page, busy: Running) -> None:
    """From and to as the command has them; what it would be; the list of replays moves by itself."""
    await page.open(busy.url)
    await page.click("[data-name=billing] button", "Replay …")
    await page.run(
        """(() => { const now = Date.now(), local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60000)
          .toISOString().slice(0, 19);
        for (const [id, value] of [["span", "range"], ["since", local(now - 7200e3)], ["until", local(now - 3600e3)]]) {
          const field = document.getElementById(id);
          field.value = value; field.dispatchEvent(new Event("change", {bubbles: true})); } })()"""
    )
    await page.click("dialog button", "Count")
    await page.sees("0 events", "dialog")
    await page.picture("replay-range")
    await page.run(
        """(() => { const field = document.getElementById("until"), now = Date.now() + 60e3;
        field.value = new Date(now - new Date(now).getTimezoneOffset() * 60000).toISOString().slice(0, 19);
        field.dispatchEvent(new Event("change", {bubbles: true})); })()"""
    )
    await fill(page, "#pace", "1")
    await page.click("dialog button", "Count")
    await page.until("!document.querySelector('dialog button.main').disabled")
    await page.click("dialog button.main", "Replay")
    await page.sees("by replay r-1", "#toasts")
    await page.click(".bar nav a", "Replays")
    delivered = "Number(document.querySelector('[data-name=r-1] td:nth-of-type(6)').innerText)"
    await page.until(f"{delivered} >= 2")
    await page.picture("replays")
    await page.click("[data-name=r-1] button", "Cancel")
    await page.until("document.querySelector('[data-name=r-1] .badge').innerText === 'cancelled'")
    await page.click("[data-name=r-1] button", "Resume")
    await page.until("document.querySelector('[data-name=r-2] .badge')")
    await page.sees("continues r-1", "[data-name=r-2]")


async def test_ten_thousand_dead_letters_stay_usable(page: Page, tmp_path: Path) -> None:
    """The page shows how many there are and the newest in a moment, and all of them are closed by one click."""
    async with Subscriber() as well, running(tmp_path, subscribers=[webhook("crm", well.url)]) as gateway:
        journal = gateway.app.journal
        for first in range(0, MANY, 1000):
            await journal.append([letter(number) for number in range(first, first + 1000)])
        await gateway.until("/api/overview", lambda found: found["subscribers"][0]["dead_letters"] == MANY)
        started = time.process_time()
        await page.open(f"{gateway.url}/#/dead-letters?subscriber=crm")
        await page.until("document.querySelectorAll('.letter').length === 200", LOADED_S)
        await page.sees("The newest 200 of 10,000.")
        assert time.process_time() - started < 5.0
        await page.picture("dead-letters-many")
        await choose(page, "Reason", "age")
        await page.until("document.querySelector('main').innerText.includes('The newest 200 of 5,000.')", LOADED_S)
        await page.click(".filters button", "Resolve all open")
        await page.sees("Resolve 5,000 dead letters of crm", "dialog")
        await fill(page, "#note", "too old to matter")
        await page.click("dialog button.main", "Resolve 5,000")
        await page.until("document.querySelector('#toasts').innerText.includes('5,000 dead letters of crm')", LOADED_S)
        await page.sees("No dead letter is open")
        await gateway.until("/api/overview", lambda found: found["subscribers"][0]["dead_letters"] == MANY // 2)
        assert {"attempts": MANY // 2} == (await gateway.get("/api/dead-letters"))["counts"]["crm"]


def letter(number: int) -> Entry:
    made = entry(number, f"key-{number}")
    record = Record("events", number, 1000.0, *made)
    trail = AttemptHistory(12, tuple((1000.0 + one, "503", 20) for one in range(12)), 1000.0)
    return retry_records.dead_letter(record, "dlq.crm", trail, ("attempts", "age")[number % 2])
