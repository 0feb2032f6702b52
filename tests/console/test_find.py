"""Finding in a browser: the newest events, filters, pages, attempts, a hundred subscribers, charts of last night."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.admin.history import RANGES, HistoryStore, Row
from tests.admin.running import Running, running, webhook
from tests.console.browser import Page
from tests.console.conftest import broken
from tests.console.test_accessibility import violations
from tests.gateway.subscriber import Subscriber, refuse

pytestmark = pytest.mark.timeout(180)

_SUBJECTS = "[...document.querySelectorAll('.event .subject')].map((one) => one.innerText).join()"


def choose(name: str, value: str) -> str:
    """A script that chooses a value of a field as a person does."""
    return f"""(() => {{ const field = document.querySelector("[name={name}]");
        field.value = "{value}"; field.dispatchEvent(new Event("change", {{bubbles: true}})); }})()"""


async def test_events_open_with_the_newest_and_go_through_pages(page: Page, busy: Running) -> None:
    """No search is needed; older, newer, and back; what comes meanwhile is said and moves no line."""
    for number in range(100, 190):
        await busy.sms(number)
    await busy.indexed()
    await page.open(f"{busy.url}/#/events")
    await page.until(f"document.querySelectorAll('.event').length === 50 && {_SUBJECTS}.startsWith('m-189,m-188')")
    first = await page.run(_SUBJECTS)
    await page.until("document.querySelector('.event .badge').innerText !== ''")
    await page.picture("events")
    await page.click(".pager a", "Older")
    await page.until(f"location.hash.includes('before=') && {_SUBJECTS}.startsWith('m-139')")
    await busy.sms(500)
    await busy.indexed()
    await page.click(".pager a", "Newer")
    await page.until(f"{_SUBJECTS} === '{first}'")
    await page.click(".pager a", "Newer")
    await page.until(f"{_SUBJECTS} === 'm-500'")
    await page.click(".pager a", "Newest")
    await page.until(f"{_SUBJECTS}.startsWith('m-500,m-189')")
    await busy.sms(501)
    await page.sees("1 newer event: show", ".news")
    assert str(await page.run(_SUBJECTS)).startswith("m-500,m-189")
    await page.click(".news")
    await page.until(f"{_SUBJECTS}.startsWith('m-501,m-500')")


async def test_filters_and_the_outcome_column(page: Page, busy: Running) -> None:
    """By subscriber and outcome, key and type; the address has the filters; nothing found is said."""
    await page.open(f"{busy.url}/#/events")
    await page.until("document.querySelectorAll('select[name=subscriber] option').length > 3")
    await page.run(choose("subscriber", "crm"))
    await page.until("location.hash.includes('subscriber=crm')")
    await page.run(choose("outcome", "dead_lettered"))
    await page.until("document.querySelectorAll('.event').length >= 12")
    words = "[...new Set([...document.querySelectorAll('.event .badge')].map((one) => one.innerText))].join()"
    assert await page.run(words) == "given up"
    await page.run(choose("key_prefix", "M-1"))
    await page.until(f"{_SUBJECTS} === 'm-11,m-10,m-1'")
    await page.picture("events-filtered")
    await page.run(choose("key_prefix", "no-such"))
    await page.sees("No stored event is like that")
    await page.click("button", "Clear filters")
    await page.until("location.hash === '#/events' && document.querySelectorAll('.event').length === 50")
    await page.run(f"location.hash = '#/events?since={time.time() - 3600:.0f}&until={time.time() - 1800:.0f}'")
    await page.sees("No stored event is like that")


async def test_a_search_says_that_it_is_exact_and_offers_the_beginning(page: Page, busy: Running) -> None:
    await page.open(f"{busy.url}/#/events?q=m-1")
    await page.sees("Whole ids and phone numbers are compared")
    await page.run("location.hash = '#/events?q=m-'")
    await page.sees("Nothing is found for “m-”")
    await page.sees("The search is exact")
    await page.picture("events-exact")
    await page.click("a", "Keys that begin with “m-”")
    await page.until(f"{_SUBJECTS}.startsWith('m-11,m-10,m-9')")


async def test_an_attempt_opens_to_its_request_and_answer(page: Page, busy: Running) -> None:
    """Headers of both, the signature shortened, the event as body; and a success says what is not kept."""
    (event,) = (await busy.get("/api/search", q="m-3"))["events"]
    await busy.until(
        f"/api/events/{event['id']}",
        lambda story: [len(one["attempts"]) for one in story["subscribers"] if one["name"] == "crm"] == [2],
    )
    await page.open(f"{busy.url}/#/event/{event['id']}")
    await page.click("[data-name=crm] .exchange summary", "Request and answer")
    await page.sees("webhook-timestamp", "[data-name=crm]")
    await page.sees("answered 422", "[data-name=crm]")
    await page.sees("content-type", "[data-name=crm]")
    await page.click("[data-name=crm] .exchange details summary", "Body")
    await page.sees('"partitionkey": "m-3"', "[data-name=crm] .exchange")
    await page.click("[data-name=billing] .exchange summary", "Request and answer")
    await page.sees("Headers and body are not kept", "[data-name=billing]")
    assert await violations(page) == []
    await page.picture("attempt", is_whole=True)
    await page.size(390, 812, is_phone=True)
    assert await page.run("document.documentElement.scrollWidth") <= 390
    await page.picture("attempt-phone", is_whole=True)


async def test_live_counts_what_comes_while_it_is_paused(page: Page, busy: Running) -> None:
    await page.open(f"{busy.url}/#/events?live=1")
    await page.until("document.querySelector('.live').dataset.state === 'open'")
    await busy.sms(600)
    await page.until(f"{_SUBJECTS} === 'm-600'")
    await page.click("button", "Pause")
    for number in range(601, 608):
        await busy.sms(number)
    await page.sees("Continue (7 new)", ".filters")
    assert await page.run(_SUBJECTS) == "m-600"
    await page.picture("live-paused")
    await page.click("button", "Continue")
    await page.until(f"{_SUBJECTS}.startsWith('m-607') && document.querySelectorAll('.event').length === 8")


@pytest.fixture
async def crowd(tmp_path: Path) -> AsyncIterator[Running]:
    """109 subscribers: one is down, one gives up what it gets, one is paused, all others are well."""
    async with Subscriber() as well, Subscriber(broken) as down, Subscriber(refuse) as refusing:
        subscribers = [
            *(webhook(f"partner-{number:03}", well.url, topics=["sms.dr", "task.status"]) for number in range(106)),
            webhook("warehouse", down.url, retry={"attempts": 12, "first_delay_s": 0.05, "max_delay_s": 0.1}),
            webhook("zebra-crm", refusing.url, breaker={"min_attempts": 100_000}),
            webhook("night-audit", well.url),
        ]
        async with running(tmp_path, subscribers=subscribers) as started:
            for number in range(15):
                await started.sms(number)
            await started.post("/api/subscribers/night-audit/pause", {})
            await started.until(
                "/api/subscribers",
                lambda found: (
                    {"down", "paused"} <= {one["state"] for one in found["subscribers"]}
                    and any(one["dead_letters"] for one in found["subscribers"])
                ),
            )
            yield started


_NAMES = "[...document.querySelectorAll('.subscribers tbody tr')].map((one) => one.dataset.name).join()"


async def test_of_a_hundred_subscribers_the_sick_ones_are_first(page: Page, crowd: Running) -> None:
    """Few rows at first; found by a part of the name, sorted, chosen by state."""
    await page.open(crowd.url)
    await page.until(f"{_NAMES}.startsWith('warehouse,zebra-crm,night-audit,partner-000')")
    await page.picture("crowd", is_whole=True)
    assert await page.run("document.querySelectorAll('.subscribers tbody tr').length") == 12
    assert await page.run("document.querySelector('[data-name=warehouse] .badge').innerText") == "down"
    await page.sees("1 down", ".states")
    await page.sees("106 healthy", ".states")
    await page.click(".more", "Show all 109")
    await page.until("document.querySelectorAll('.subscribers tbody tr').length === 109")
    await page.click(".states button", "1 paused")
    await page.until(f"{_NAMES} === 'night-audit'")
    await page.click(".states button", "1 paused")
    await page.run("document.querySelector('.filters.slim input').focus()")
    await page.write("ner-01")
    await page.until(f"{_NAMES}.split(',').length === 10 && {_NAMES}.startsWith('partner-010,partner-011')")
    await page.write("zzz")
    await page.sees("No subscriber is like that")
    await page.run("location.reload()")
    await page.until(f"{_NAMES}.startsWith('warehouse')")
    await page.click(".subscribers .head", "Given up")
    await page.until(f"{_NAMES}.startsWith('zebra-crm')")
    assert await page.run("document.querySelector('[aria-sort=descending]').innerText") == "Given up"


async def test_a_hundred_subscribers_fit_on_a_phone(page: Page, crowd: Running) -> None:
    await page.size(390, 812, is_phone=True)
    await page.open(crowd.url)
    await page.until(f"{_NAMES}.startsWith('warehouse')")
    assert await violations(page) == []
    await page.picture("crowd-phone", is_whole=True)
    cut = "[...document.querySelectorAll('.tile .value')].filter((one) => one.scrollWidth > one.clientWidth)"
    assert await page.run(f"{cut}.map((one) => one.innerText)") == []
    await page.click(".more", "Show all 109")
    await page.until("document.querySelectorAll('.subscribers tbody tr').length === 109")
    assert await page.run("document.documentElement.scrollWidth") <= 390


def last_night(folder: Path) -> None:
    """A day as the gateway would have kept it: busy, a bad hour of crm, and one hour in which the gateway was off."""
    folder.mkdir(parents=True)
    store = HistoryStore(folder)
    now = time.time()
    for ring in RANGES.values():
        rows = []
        for number in range(int(ring.kept_s / ring.step_s) - 1, 0, -1):
            age_s = number * ring.step_s
            if 0.35 < age_s / ring.kept_s < 0.42:
                continue
            is_bad = 0.6 < age_s / ring.kept_s < 0.7
            values = {
                "intake:all:rate": 40.0 + number % 9, "callback:sms-dr:rate": 30.0 + number % 9,
                "callback:voice-dr:rate": 10.0, "intake:all:p50": 0.001, "intake:all:p99": 0.004 + is_bad * 0.02,
                "journal:commit:p99": 0.002, "subscriber:crm:p99": 0.02 + is_bad * 3,
                "subscriber:crm:lag": 900.0 * is_bad, "subscriber:billing:lag": 0.0,
            }  # fmt: skip
            if is_bad:
                values["subscriber:crm:failed"] = 12.0
            rows.append(Row(ring.step_s, now - age_s, ring.step_s, values))
        store.put(rows, {ring.step_s: ring.kept_s + ring.step_s})
    store.close()


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_charts_show_last_night_without_prometheus(page: Page, tmp_path: Path, is_dark: bool) -> None:
    """An hour, a day, a week: what failed, who was behind; where nothing was measured is a gap, not zero."""
    last_night(tmp_path / "data")
    await page.darken(is_dark=is_dark)
    names = ("crm", "billing")
    async with (
        Subscriber() as well,
        running(tmp_path, subscribers=[webhook(one, well.url) for one in names]) as gateway,
    ):
        await page.open(gateway.url)
        for name, title, points in (("week", "1 week", 600), ("hour", "1 hour", 320), ("day", "1 day", 1300)):
            await page.click(".ranges button", title)
            await page.until(f"Number(document.querySelector('.keys').dataset.points) > {points}")
            await page.sees("crm", ".pair:last-of-type")
            found = await gateway.get("/api/history", range=name, series="intake:all:rate,subscriber:crm:failed")
            rates = found["series"]["intake:all:rate"]
            assert None in rates
            assert 0.0 not in rates[:200]
            assert 12.0 in found["series"]["subscriber:crm:failed"]
        assert await page.run("document.querySelector('.ranges [aria-pressed=true]').innerText") == "1 day"
        assert await violations(page) == []
        await page.picture(f"charts-{'dark' if is_dark else 'light'}", is_whole=True)
        await page.size(390, 812, is_phone=True)
        assert await page.run("document.documentElement.scrollWidth") <= 390
        await page.picture(f"charts-phone-{'dark' if is_dark else 'light'}", is_whole=True)


async def test_the_journal_says_how_much_room_is_left(page: Page, busy: Running) -> None:
    """Size, room, oldest event; there is no tile that says only what the configuration says."""
    await page.open(busy.url)
    await page.sees("GiB left", ".tiles")
    await page.sees("oldest", ".tiles")
    assert "embedded" not in await page.text(".tiles")
