"""Signing in: the token is asked for, kept for the tab, and asked for again when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.admin.running import running
from tests.console.browser import Page

pytestmark = pytest.mark.timeout(180)


async def test_token_is_asked_for_and_kept_for_the_tab(page: Page, tmp_path: Path) -> None:
    """Wrong: said. Right: in, and still in after a reload, live tail included; never in the address or a cookie."""
    async with running(tmp_path, admin={"token": "sesame"}) as gateway:
        await page.open(gateway.url)
        await page.sees("Admin token")
        await page.picture("sign-in")
        await page.write("wrong")
        await page.press("Enter")
        await page.sees("does not know this token")
        await page.write("sesame")
        await page.press("Enter")
        await page.sees("No callback has come yet")
        await page.open(f"{gateway.url}/#/events?live=1")
        await page.sees("live", ".live")
        await gateway.sms(1)
        await page.until("document.querySelectorAll('.event').length === 1")
        assert await page.run("document.cookie") == ""
        assert "sesame" not in await page.run("location.href + JSON.stringify(localStorage)")
    page.problems = [text for text in page.problems if "401" not in text]
