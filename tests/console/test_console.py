"""The console as people use it: in a browser, with real traffic and failing subscribers."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.admin.running import Running
from tests.console.browser import Page
from tests.gateway.subscriber import Subscriber, accept

pytestmark = pytest.mark.timeout(180)


async def test_overview_lives(page: Page, trickle: Running) -> None:
    """Rates, charts, callbacks, topics and subscribers are there, and move while events come."""
    await page.open(trickle.url)
    await page.sees("sms-dr")
    await page.sees("voice-dr")
    await page.until("document.querySelectorAll('canvas').length > 10")
    await page.until("Number(document.querySelector('.tile .value').innerText) > 0")
    await page.until("document.querySelector('[data-name=warehouse] .badge').innerText === 'down'")
    assert "1 of" not in await page.text("[data-name=billing] .badge")
    await page.sees("answered 500", "[data-name=warehouse] .last")
    await page.until("Number(document.querySelector('[data-name=crm] a').innerText) >= 12")
    taken = "Number(document.querySelector(\"tr:has(a[href*='sms-dr']) td:nth-child(6)\").innerText.replace(',', ''))"
    before = await page.run(taken)
    await page.until(f"{taken} > {before}")
    await page.until("document.querySelectorAll('.chart .key:not([hidden])').length >= 4")
    await page.until("Number(document.querySelectorAll('.chart .key b')[0].innerText) > 0", 30)
    if os.environ.get("CONSOLE_SCREENSHOTS"):
        await page.until("document.querySelector('.keys').dataset.points > 20", 90)
    await page.picture("overview", is_whole=True)
    await page.darken(is_dark=True)
    await page.picture("overview-dark", is_whole=True)


async def test_theme_is_chosen_and_kept(page: Page, quiet: Running) -> None:
    """The choice beats the system's and outlives the page."""
    await page.darken(is_dark=False)
    await page.open(quiet.url)
    await page.click("#theme")
    dark = await page.run("getComputedStyle(document.body).backgroundColor")
    await page.open(quiet.url)
    assert await page.run("getComputedStyle(document.body).backgroundColor") == dark
    await page.click("#theme")
    assert await page.run("getComputedStyle(document.body).backgroundColor") != dark


async def test_empty_states_say_what_to_do(page: Page, quiet: Running) -> None:
    """A gateway that nobody knows yet: where to point the platform, how to add a subscriber."""
    await page.open(quiet.url)
    await page.sees("No callback has come yet")
    await page.sees("gateway send sms-dr")
    await page.sees("No subscribers")
    await page.until("document.querySelector('.keys').dataset.points > 0")
    await page.picture("empty")
    for link, words in (
        ("Events", "No event is stored yet"),
        ("Dead letters", "No dead letter is open"),
        ("Replays", "No replays"),
        ("Rejected", "Every callback was understood"),
    ):
        await page.click(".bar nav a", link)
        await page.sees(words)


async def test_pause_and_resume(page: Page, busy: Running) -> None:
    await page.open(busy.url)
    await page.click("[data-name=billing] button", "Pause")
    await page.until("document.querySelector('[data-name=billing] .badge').innerText === 'paused'")
    found = await busy.get("/api/subscribers")
    assert found["subscribers"][0]["state"] == "paused"
    await page.click("[data-name=billing] button", "Resume")
    await page.until("document.querySelector('[data-name=billing] .badge').innerText === 'healthy'")


async def test_search_leads_to_the_story(page: Page, busy: Running) -> None:
    """By keyboard: / and a phone number, the newest event, what each subscriber got and answered."""
    await page.open(busy.url)
    await page.sees("sms-dr")
    await page.press("/")
    await page.write("0812 3456 7890")
    await page.press("Enter")
    await page.sees("12 events")
    await page.picture("search")
    await page.click(".event a", "m-3")
    await page.sees("What happened")
    async with asyncio.timeout(20):  # attempts are kept once a second
        while await page.run("document.querySelector('[data-name=crm] .badge')?.innerText") != "given up":
            await page.click("button", "Refresh")
    story = await page.text()
    for words in ("Stored", "Answered 200", "attempt 1", "attempt 2", "422", "filtered out", "m-3"):
        assert words in story
    await page.picture("story", is_whole=True)
    await page.press("/")
    await page.write("no-such-thing")
    await page.press("Enter")
    await page.sees("Nothing is found")


async def test_live_tail_with_filter_and_pause(page: Page, trickle: Running) -> None:
    """Events come in, only those that are wanted, and wait while it is paused."""
    await page.open(f"{trickle.url}/#/events?live=1")
    await page.until("document.querySelectorAll('.event').length > 10")
    await page.picture("live")
    await page.run(
        """(() => { const field = document.querySelector("select[name=callback]");
        field.value = "voice-dr"; field.dispatchEvent(new Event("change", {bubbles: true})); })()"""
    )
    await page.until("location.hash.includes('voice-dr') && document.querySelectorAll('.event').length > 2")
    types = await page.run("[...document.querySelectorAll('.event .type')].map((one) => one.innerText)")
    assert set(types) == {"voice.dr"}
    await page.click("button", "Pause")
    await page.sees("new)", ".filters")
    await page.click("button", "Continue")
    await page.until("document.querySelector('.live').innerText === 'live'")


async def test_dead_letters_are_counted_and_replayed(page: Page, busy: Running, refusing: Subscriber) -> None:
    """Choose, see how many it would be, replay, and the mended subscriber gets them."""
    await page.open(f"{busy.url}/#/dead-letters?subscriber=crm")
    await page.sees("no attempt left")
    await page.click(".letter summary")
    await page.sees("The event's whole story")
    await page.picture("dead-letters")
    await page.click(".letter input")
    await page.click(".letter:nth-child(2) input")
    refusing.behave = accept
    await page.click(".filters button", "Replay 2")
    await page.sees("2 events", "dialog")
    assert dict(refusing.ids) == {}
    await page.picture("replay")
    await page.click("dialog button.main", "Replay 2")
    await refusing.until(lambda: len(refusing.ids) == 2)
    await page.sees("on the way to crm again", "#toasts")
    await page.until("document.querySelector('dialog') === null")


async def test_rejected_callbacks_show_what_is_wrong(page: Page, busy: Running) -> None:
    """The reason, the field in the request, and a try to decode it again."""
    await page.open(f"{busy.url}/#/rejected")
    await page.sees("the identifying field is missing")
    await page.click(".letter summary")
    await page.until("document.querySelector('.form .fault dt')?.innerText === 'messageid'")
    await page.picture("rejected", is_whole=True)
    await page.click("button", "Decode again")
    await page.sees("0 of 3", "dialog")
    assert await page.run("document.querySelector('dialog button.main').disabled")


async def test_lost_connection_is_said_and_ends(page: Page, busy: Running) -> None:
    """Old figures are marked as old; when the gateway is back, so is the page, by itself."""
    await page.open(busy.url)
    await page.sees("sms-dr")
    await page.cut_off(is_cut=True)
    await page.sees("No connection to the gateway", "#banner")
    await page.picture("offline")
    await page.cut_off(is_cut=False)
    await page.until("document.querySelector('#banner').innerText === ''")


async def test_keyboard_reaches_everything(page: Page, busy: Running) -> None:
    """Tab goes through links and buttons with a visible focus; the first stop skips the bar."""
    await page.open(busy.url)
    await page.sees("warehouse")
    await page.press("Tab")
    assert await page.run("document.activeElement.className") == "skip"
    reached: set[str] = set()
    for _ in range(60):
        await page.press("Tab")
        reached.add(str(await page.run("document.activeElement.innerText || document.activeElement.id")))
    assert {"Overview", "Events", "find", "theme", "Pause", "Replay …"} <= reached


@pytest.mark.parametrize("view", ["", "events", "events?live=1", "dead-letters", "rejected"])
async def test_a_phone_shows_it_without_scrolling_sideways(page: Page, busy: Running, view: str) -> None:
    await page.size(375, 812, is_phone=True)
    await page.open(f"{busy.url}/#/{view}")
    await page.until("document.querySelector('main .tiles, main .event, main .letter, main .empty')")
    assert await page.run("document.documentElement.scrollWidth") <= 375
    await page.picture(f"phone-{view.replace('?', '-') or 'overview'}", is_whole=not view)


async def test_markup_of_strangers_stays_text(page: Page, busy: Running) -> None:
    """Nothing that a sender writes becomes an element, and the policy would stop a script anyway."""
    evil = "<img src=x onerror=document.title='broken'>"
    await busy.sms(1, messageid=evil, ext="</pre><script>document.title='broken'</script>")
    await busy.indexed()
    await page.open(f"{busy.url}/#/events")
    await page.sees("<img src=x")
    await page.click(".event a", "<img")
    await page.sees("What happened")
    await page.click("summary", "As the sender wrote it")
    assert await page.run("document.querySelectorAll('main img, main script').length") == 0
    assert "broken" not in await page.run("document.title")
