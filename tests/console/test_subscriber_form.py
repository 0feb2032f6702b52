"""Subscribers in the page: added, tested, edited, given a new secret, removed; and what a role is not offered."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.admin.running import running, webhook
from tests.console.browser import SEEN, Page
from tests.console.test_accessibility import violations
from tests.gateway.subscriber import Subscriber

pytestmark = pytest.mark.timeout(180)

KEY = base64.b64encode(bytes(32)).decode()


async def fill(page: Page, field: str, text: str) -> None:
    """Write into a field as a person does."""
    await page.click(f"#{field}")
    await page.run(f"document.querySelector('#{field}').select()")
    await page.write(text)


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_a_subscriber_lives_in_the_page(page: Page, tmp_path: Path, is_dark: bool) -> None:
    """Add → test → events arrive → edit → new secret → remove; each dialog is accessible."""
    await page.darken(is_dark=is_dark)
    found: dict[str, list[str]] = {}
    async with Subscriber() as receiver, running(tmp_path, admin={"secrets_key": KEY}) as gateway:
        await page.open(gateway.url)
        await page.click("button", "Add subscriber …")
        await page.click("dialog button", "Add")
        await page.sees("name: ", "dialog .error")
        for field, text in (("sub-name", "crm"), ("sub-topics", "sms.dr"), ("sub-url", receiver.url)):
            await fill(page, field, text)
        await page.click("#sub-private")
        found["add"] = await violations(page)
        await page.picture("subscriber-add")
        await page.click("dialog button", "Add")
        await page.until("document.querySelector('[data-name=crm]') && !document.querySelector('dialog')")

        await page.click("[data-name=crm] button", "Test …")
        await page.until("document.querySelectorAll('#test-type option').length > 0")
        await page.click("dialog button", "Send")
        await page.sees("Answered 200", "dialog")
        await page.click("dialog summary", "Request")
        await page.sees("gateway-test: true", "dialog")
        found["test"] = await violations(page)
        await page.picture("subscriber-test")
        await page.click("dialog button", "Close")
        await gateway.sms(1)
        await receiver.until(lambda: receiver.subjects["m-1"] == 1)

        await page.click("[data-name=crm] button", "Edit …")
        await page.until("document.querySelector('#sub-timeout')")
        await fill(page, "sub-timeout", "3")
        await fill(page, "sub-more", '{"retry": {"attempts": 5}}')
        found["edit"] = await violations(page)
        await page.click("dialog button", "Save")
        await page.until("!document.querySelector('dialog')")
        settings = (await gateway.get("/api/subscribers/crm"))["settings"]
        assert ("3", {"attempts": 5}, True) == (settings["timeout_s"], settings["retry"], settings["allow_private"])

        await page.click("[data-name=crm] button", "Secret …")
        await page.sees("not signed", "dialog")
        await page.click("dialog button", "New secret")
        await page.sees("shown this once", "dialog")
        assert (await page.text("dialog .secret")).startswith("whsec_")
        found["secret"] = await violations(page)
        await page.picture("subscriber-secret")
        await page.click("dialog button", "Close")
        await gateway.sms(2)
        await receiver.until(lambda: receiver.subjects["m-2"] == 1)
        assert "webhook-signature" in receiver.headers[-1]

        await page.click("[data-name=crm] button", "Edit …")
        await page.click("dialog button", "Remove …")
        await page.sees("Remove crm?", "dialog:last-of-type")
        await page.click("dialog:last-of-type button.main", "Remove")
        await page.until("!document.querySelector('[data-name=crm]') && !document.querySelector('dialog')")
        assert [] == (await gateway.get("/api/subscribers"))["subscribers"]
    assert {view: [] for view in found} == found
    # The refused settings are an answer that is wanted here.
    page.problems = [text for text in page.problems if "422" not in text]


async def test_a_role_is_offered_what_it_may_do(page: Page, tmp_path: Path) -> None:
    """``read`` sees; ``operate`` tests and does not change; what the file has is not changed by anybody."""
    tokens = [
        {"name": name, "role": role, "token": f"{name}-1"}
        for name, role in (("eye", "read"), ("night", "operate"), ("day", "admin"))
    ]
    async with (
        Subscriber() as receiver,
        running(tmp_path, admin={"tokens": tokens}, subscribers=[webhook("filed", receiver.url)]) as gateway,
    ):
        gateway.headers["Authorization"] = "Bearer day-1"
        await gateway.post("/api/subscribers", webhook("added", receiver.url), 201)
        offered = {}
        none = (
            "document.querySelector('.subscribers [data-name]') && "
            f"![...document.querySelectorAll('.subscribers [data-name] button')].some((one) => one.{SEEN})"
        )
        ready = f"document.querySelector('[data-name=added] button[aria-label^=Test]')?.{SEEN}"
        for token in ("eye-1", "night-1", "day-1"):
            await page.run("sessionStorage.clear()") if offered else None
            await page.open(gateway.url)
            await page.sees("Admin token")
            await page.write(token)
            await page.press("Enter")
            await page.until(none if token == "eye-1" else ready)
            offered[token] = await page.run(
                "[...document.querySelectorAll('.adding button, .subscribers [data-name] button')]"
                f".filter((one) => one.{SEEN})"
                ".map((one) => one.getAttribute('aria-label')).filter((one) => one.includes('…')).sort()"
            )
    assert [] == offered["eye-1"]
    both = ["Replay … to added", "Replay … to filed", "Test … added", "Test … filed"]
    assert both == offered["night-1"]
    assert sorted([*both, "Add subscriber …", "Edit … added", "Secret … of added"]) == offered["day-1"]
    page.problems = [text for text in page.problems if "401" not in text]
