"""What the page says when it cannot know: the gateway hangs, Kafka is away, traffic has stopped after failures."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.admin.running import Running, webhook
from tests.broker.cluster import Cluster
from tests.console.browser import Page
from tests.console.test_accessibility import violations
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber, accept

pytestmark = pytest.mark.timeout(300)

_BADGE = "document.querySelector('[data-name={}] .badge')"


@pytest.fixture
async def well() -> AsyncIterator[Subscriber]:
    async with Subscriber() as one:
        yield one


async def test_a_gateway_that_hangs_is_noticed_and_so_is_its_recovery(
    page: Page, tmp_path: Path, well: Subscriber
) -> None:
    """Its port takes connections and nobody answers: within seconds a banner says so, and figures are greyed."""
    process = GatewayProcess(tmp_path, {"subscribers": [webhook("billing", well.url)]})
    await process.start()
    pid = process.pid_of("deliver")
    await page.open(process.admin_url)
    await page.sees("ready", "#status")
    os.kill(pid, signal.SIGSTOP)
    try:
        await page.sees("The gateway hangs, or is overloaded", "#banner")
        await page.sees("What you see is from", "#banner")
        await page.sees("no answer", "#status")
        assert await page.run("document.body.classList.contains('stale')")
        assert await violations(page) == []
        await page.picture("hanging")
    finally:
        os.kill(pid, signal.SIGCONT)
    await page.until("document.getElementById('banner').innerText === ''", 60)
    await page.sees("ready", "#status")
    assert not await page.run("document.body.classList.contains('stale')")
    assert await process.terminate() == 0


async def test_what_was_given_up_keeps_a_subscriber_degraded(page: Page, busy: Running, refusing: Subscriber) -> None:
    """That no traffic comes any more, or that a later event is delivered, does not close its dead letters."""
    await page.open(busy.url)
    await page.until(f"{_BADGE.format('crm')}?.title.includes('dead letters are open')")
    assert await page.run(f"{_BADGE.format('crm')}.innerText") == "degraded"
    refusing.behave = accept
    await busy.sms(500)
    await refusing.until(lambda: len(refusing.ids) > 0)
    await busy.until("/api/overview", lambda found: found["subscribers"][2]["delivered"])
    await page.until("document.querySelector('[data-name=crm] [data-label=Success]').innerText.includes('%')")
    assert "dead letters are open" in await page.run(f"{_BADGE.format('crm')}.title")
    assert await page.run(f"{_BADGE.format('crm')}.innerText") == "degraded"


@pytest.mark.kafka
@pytest.mark.slow
async def test_with_kafka_away_nothing_is_said_to_be_healthy(
    page: Page, broker: Cluster, tmp_path: Path, well: Subscriber
) -> None:
    """The lag is unknown since a time, with what it was; the tile does not say "all healthy"; it is known again."""
    config = {
        "kafka": {"bootstrap_servers": broker.bootstrap, "partitions": 2},
        "topics": {"prefix": "unknown."},
        "subscribers": [webhook("billing", well.url, start="earliest")],
    }
    process = GatewayProcess(tmp_path, config)
    await process.start()
    await page.open(process.admin_url)
    await page.until(f"{_BADGE.format('billing')}?.innerText === 'healthy'", 90)
    await page.sees("all healthy")
    await page.sees("0 records behind")
    broker.node(1).suspend()
    try:
        await page.until(f"{_BADGE.format('billing')}.innerText === 'unknown'", 90)
        await page.sees("lag unknown since", ".tiles")
        await page.sees("was 0", "[data-name=billing]")
        assert "all healthy" not in await page.text(".tiles")
        assert "records behind" not in await page.text(".tiles")
        await page.picture("kafka-away", is_whole=True)
    finally:
        broker.node(1).resume()
    await page.until(f"{_BADGE.format('billing')}.innerText === 'healthy'", 90)
    await page.sees("0 records behind")
    assert await process.terminate() == 0
