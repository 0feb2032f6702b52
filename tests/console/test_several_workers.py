"""The console behind ``serve --workers``: which worker a page is of, and the way to the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.console.browser import Page
from tests.gateway.process import GatewayProcess

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """Two, whose Kafka is away."""
    config = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}, "ingest": {"port": 0, "workers": 2}}
    process = GatewayProcess(tmp_path, config, "serve")
    await process.start()
    yield process
    assert await process.terminate() == 0


async def test_the_page_of_one_worker_leads_to_the_others(page: Page, workers: GatewayProcess) -> None:
    """The address is of one; the view one was at is kept; a phone has room for it."""
    await workers.logged("gateway.started", count=2)
    await page.open(f"{workers.admin_url}/")
    await page.until("document.querySelectorAll('#workers a').length === 2")
    assert await page.text("#workers [aria-current]") == "0"
    await page.click(".bar nav a", "Events")
    await page.click("#workers a", "1")
    await page.until("location.pathname === '/workers/1/'")
    await page.until("document.querySelector('#workers [aria-current]')?.innerText === '1'")
    await page.sees("Waiting for events")
    await page.click(".bar nav a", "Overview")
    await page.sees("No callback has come yet")
    await page.sees("away", ".tiles")
    await page.picture("workers")

    # Whichever worker took it, it is found from both pages.
    form = {"messageid": "m-1", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
    async with aiohttp.ClientSession() as session, session.post(f"{workers.url}/callbacks/sms-dr", data=form) as answer:
        assert answer.status == 200
    for number in (0, 1):
        await page.open(f"{workers.admin_url}/workers/{number}/#/events?past=1")
        await page.sees("1 event.")
        await page.click(".event a", "m-1")
        await page.sees("What happened")
    await page.size(375, 812, is_phone=True)
    assert await page.run("document.documentElement.scrollWidth") <= 375
    await page.picture("phone-workers")
