"""The processes of a gateway on the console's first page, with real ones that report."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.admin.parts import Parts
from gateway.admin.server import AdminServer
from gateway.config.settings import Settings
from gateway.ingest.endpoints import endpoints
from gateway.telemetry.metrics import METRICS, Metrics
from gateway.telemetry.reports import Reports
from tests.admin.test_reports import Reporting, reporting
from tests.console.browser import Page

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[str, list[Reporting]]]:
    """The address of a console, and the two processes that take its callbacks."""
    settings = Settings.model_validate({"admin": {"port": 0}})
    paths = {name: tmp_path / f"{name}.sock" for name in ("ingest-0", "ingest-1")}
    reports = Reports("deliver", paths, lambda: {"deliver": 0, "ingest-0": 3, "ingest-1": 0})
    parts = Parts(settings, "run", {}, Metrics(CollectorRegistry()).registry, reports=reports)
    parts.endpoints = endpoints(settings.ingest, settings.topics.schema_base_url)
    async with reporting(paths["ingest-0"], "ingest-0", 5) as one, reporting(paths["ingest-1"], "ingest-1", 2) as other:
        server = AdminServer(parts)
        await server.start()
        yield f"http://127.0.0.1:{server.port}/", [one, other]
        await server.stop()


def counted(callback: str) -> int:
    """Callbacks that this process has accepted, and repeats of them."""
    (family,) = METRICS.counter("gateway_callbacks").collect()
    return int(
        sum(
            sample.value
            for sample in family.samples
            if sample.name.endswith("_total")
            and sample.labels["callback"] == callback
            and sample.labels["outcome"] in ("accepted", "repeated")
        )
    )


async def test_each_process_is_shown_and_what_they_count_is_one_figure(
    page: Page, two: tuple[str, list[Reporting]]
) -> None:
    """Name, state, since when, how many times it was started again; one that hangs is unknown, and the page says so."""
    url, (one, other) = two
    await page.open(url)
    row = "[...document.querySelectorAll('tr')].find((row) => row.firstChild.innerText === '{}')?.innerText"
    await page.until(f"{row.format('ingest-0')}?.includes('ready')")
    await page.until(f"{row.format('ingest-0')}.includes('{one.process.pid}')")
    assert (await page.run(row.format("ingest-0"))).split("\t")[3] == "3"
    await page.until(f"{row.format('deliver')}?.includes('ready')")
    taken = "document.querySelector(\"tr:has(a[href*='sms-dr']) td:nth-child(6)\")?.innerText"
    own = counted("sms-dr")  # by other tests in this process, whose counts are those of the console's process
    await page.until(f"{taken} === '{own + 7:,}'")
    await one.count()
    await page.until(f"{taken} === '{own + 8:,}'")
    await page.picture("processes", is_whole=True)
    other.process.send_signal(signal.SIGSTOP)
    await page.until(f"{row.format('ingest-1')}.includes('unknown')")
    await page.sees("degraded", "#status")
    await page.size(375, 812, is_phone=True)
    assert await page.run("document.documentElement.scrollWidth") <= 375
    await page.picture("phone-processes", is_whole=True)
    other.process.send_signal(signal.SIGCONT)
    await page.until(f"!{row.format('ingest-1')}.includes('unknown')")
