"""A gateway with traffic and a failing subscriber, and a browser that looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.running import Running, running, webhook
from tests.components import missing
from tests.console.browser import Page, browser, chromium, new_page
from tests.gateway.subscriber import Subscriber, refuse
from tests.waiting import pause


async def broken(_: dict[str, Any]) -> int:
    return 500


@pytest.fixture(scope="session")
def chromium_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A browser for the pages of all tests."""
    program = chromium() or missing("Chromium", install="apt-get install chromium")
    with browser(program, tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def page(chromium_address: str) -> AsyncIterator[Page]:
    """A page of this test's own; at the end nothing may have gone wrong in it."""
    async with new_page(chromium_address) as opened:
        await opened.size(1280, 860)
        yield opened
        # A connection that ends with its gateway is none.
        assert [problem for problem in opened.problems if "net::ERR_" not in problem] == []


@pytest.fixture
async def refusing() -> AsyncIterator[Subscriber]:
    """Refuses every event until it is mended."""
    async with Subscriber(refuse) as one:
        yield one


@pytest.fixture
async def quiet(tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway to which nothing has come, with no subscribers."""
    async with running(tmp_path) as started:
        yield started


@pytest.fixture
async def busy(tmp_path: Path, refusing: Subscriber) -> AsyncIterator[Running]:
    """Every callback comes; one subscriber is well, one is down, one refuses, one is filtered, one is a stream."""
    async with Subscriber() as well, Subscriber(broken) as down:
        all_topics = ["sms.dr", "call.event", "task.status", "message.incoming", "message.status"]
        subscribers = [
            webhook("billing", well.url, start="earliest", topics=all_topics),
            webhook("warehouse", down.url, start="earliest", retry={"attempts": 12, "first_delay_s": 0.2}),
            webhook("crm", refusing.url, start="earliest", breaker={"min_attempts": 100_000}),
            webhook("audit", well.url, start="earliest", filter={"prefix": {"data.to": "+86"}}),
            {"name": "feed", "topics": ["sms.dr"], "kind": "stream"},
        ]
        async with running(tmp_path, subscribers=subscribers) as started:
            await started.send_all(6)
            for number in range(12):
                await started.sms(number)
            for number in range(3):
                assert await started.sms(number, messageid="", phone=f"628123456789{number}") == 400
            await started.until("/api/dead-letters", lambda found: len(found["letters"]) >= 12, subscriber="crm")
            await started.indexed()
            yield started


@pytest.fixture
async def trickle(busy: Running) -> AsyncIterator[Running]:
    """And goes on coming while the test runs."""

    async def go_on() -> None:
        number = 1000
        while True:
            number += 1
            await busy.sms(number)
            if number % 5 == 0:
                await busy.send("voice-dr", 1, seed=number)
            if number % 3 == 0:
                await busy.send("whatsapp", 1, seed=number)
            await pause(0.02, "the senders' rate")

    going = asyncio.create_task(go_on())
    yield busy
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
