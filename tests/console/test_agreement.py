"""States, counts and words are the same in API, page, commands and metric, whatever happens to a subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli import main
from tests.admin.running import webhook
from tests.console.browser import Page
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber, accept, refuse
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

_PAGE: Final = """JSON.stringify(Object.fromEntries([...document.querySelectorAll('[data-name]')].map(
  (one) => [one.dataset.name,
            ['.badge', '[data-label="Given up"]'].map((part) => one.querySelector(part).innerText)])))"""
#: Name of a subscriber: its word, and its number of dead letters.
Said = dict[str, tuple[str, int]]


class World:
    """One gateway, and everything that speaks of its subscribers."""

    def __init__(self, process: GatewayProcess, page: Page, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.page = page
        self.session = session
        self.sent = 0

    async def sms(self, count: int = 1) -> None:
        for _ in range(count):
            self.sent += 1
            form = {"messageid": f"m-{self.sent}", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
            async with self.session.post(f"{self.process.url}/callbacks/sms-dr", data=form) as response:
                assert response.status == 200

    async def post(self, path: str) -> None:
        async with self.session.post(f"{self.process.admin_url}/api/subscribers/{path}", json={}) as response:
            assert response.status == 200

    async def command(self, *arguments: str) -> str:
        """Run a command on the gateway's configuration."""
        given = [*arguments, "-c", str(self.process.path)]
        found = await asyncio.to_thread(CliRunner().invoke, main, given)
        assert found.exit_code == 0, found.output
        return found.stdout

    async def api(self) -> Said:
        async with self.session.get(f"{self.process.admin_url}/api/subscribers") as response:
            return _of_document(await response.json())

    async def overview(self) -> Said:
        async with self.session.get(f"{self.process.admin_url}/api/overview") as response:
            return _of_document(await response.json())

    async def listed(self) -> Said:
        return _of_document(orjson.loads(await self.command("subscribers", "list", "--json")))

    async def table(self) -> Said:
        return _of_table(await self.command("subscribers", "list"))

    async def top(self) -> Said:
        text = (await self.command("top", "--once")).partition("subscriber ")
        return _of_table(text[1] + text[2].partition("\n\n")[0], is_right=True)

    async def on_page(self) -> Said:
        found = orjson.loads(await self.page.run(_PAGE))
        return {name: (word, int(number.replace(",", "") or 0)) for name, (word, number) in found.items()}

    async def metric(self) -> dict[str, str]:
        async with self.session.get(f"{self.process.admin_url}/metrics") as response:
            families = text_string_to_metric_families(await response.text())
        return {
            sample.labels["subscriber"]: sample.labels["state"]
            for family in families
            for sample in family.samples
            if sample.name == "gateway_subscriber_state" and sample.value == 1
        }

    async def agree(self, name: str, word: str, letters: int = 0) -> None:
        """Wait until all say the same of all subscribers, and this of one."""
        ways: tuple[Callable[[], Awaitable[Said]], ...] = (
            self.overview, self.listed, self.table, self.top, self.on_page,
        )  # fmt: skip
        last: dict[str, Any] = {}

        async def do() -> bool:
            wanted = last["api"] = await self.api()
            if wanted.get(name, ("gone", 0)) != (word, letters):
                return False
            last.update({way.__name__: await way() for way in ways})
            last["metric"] = await self.metric()
            states = {one: state for one, (state, _) in wanted.items() if state not in ("stream", "unknown")}
            return all(last[way.__name__] == wanted for way in ways) and last["metric"] == states

        try:
            await until(do, within_s=60, look_s=0.2)
        except (AssertionError, TimeoutError) as exc:
            raise AssertionError(f"{name} {word} {letters}: {last}") from exc


def _of_document(document: Any) -> Said:
    return {
        one["name"]: (one["state"] or ("stream" if one["kind"] == "stream" else "unknown"), one["dead_letters"])
        for one in document["subscribers"]
    }


def _of_table(text: str, *, is_right: bool = False) -> Said:
    """Read a table of a command, whose numbers begin where their heading does, or end there."""
    head, *rows = [line for line in text.splitlines() if line.strip()]
    state, at = head.index("state"), head.index("given up")
    end = at + len("given up")
    numbers = [row[:end].split()[-1] if is_right else row[at:].split()[0] for row in rows]
    return {
        row.split()[0]: (row[state:].split()[0], int(number.replace(",", "")))
        for row, number in zip(rows, numbers, strict=True)
    }


async def broken(_: dict[str, Any]) -> int:
    return 500


async def gone(_: dict[str, Any]) -> int:
    return 410


async def test_twelve_situations(page: Page, tmp_path: Path) -> None:
    """One gateway, one thing after another; each time everything that speaks of subscribers says the same."""
    is_free = asyncio.Event()

    async def hang(_: dict[str, Any]) -> int:
        await is_free.wait()
        return 200

    async with (
        Subscriber() as one,
        Subscriber(refuse) as refusing,
        Subscriber(hang) as slow,
        aiohttp.ClientSession() as session,
    ):
        breaker = {"min_attempts": 3, "first_open": 0.3, "max_open": 0.3}
        rows = [
            webhook("billing", one.url, breaker=breaker, retry={"attempts": 100, "first_delay_s": 0.1}),
            webhook("crm", refusing.url, breaker={"min_attempts": 100_000}),
            webhook("slow", slow.url, timeout_s=200),
            {"name": "feed", "topics": ["sms.dr"], "kind": "stream"},
        ]
        process = GatewayProcess(tmp_path, {"subscribers": rows})
        await process.start()
        world = World(process, page, session)
        await page.open(process.admin_url)
        await world.agree("billing", "healthy")  # 1: nothing came yet
        await world.sms()
        await one.until_more(1)
        await world.agree("billing", "healthy")  # 2: delivered
        await world.agree("crm", "degraded", 1)  # 3: an open dead letter
        await world.post("billing/pause")
        await world.agree("billing", "paused")  # 4
        await world.sms(3)
        await world.agree("crm", "degraded", 4)  # 5: more of them, while one is paused
        await world.post("billing/resume")
        await one.until(lambda: len(one.ids) == 4)
        await world.agree("billing", "healthy")  # 6: resumed
        one.behave = broken
        await world.sms(4)
        await world.agree("billing", "down")  # 7
        one.behave = accept
        await one.until(lambda: len(one.ids) == 8)
        await world.agree("billing", "degraded")  # 8: it is back, and most attempts of the last minute failed
        one.behave = gone
        await world.sms()
        await world.agree("billing", "stopped")  # 9
        await world.agree("slow", "degraded")  # 10: its oldest event waits for more than a minute
        is_free.set()
        one.behave = accept
        await world.post("billing/resume")
        await one.until(lambda: len(one.ids) == 9)
        await world.agree("slow", "healthy")  # 11
        process.config["subscribers"] = [*rows[:2], rows[3], webhook("new", one.url)]
        process.write()
        process.process.send_signal(1)  # type: ignore[union-attr]  # SIGHUP
        await world.agree("new", "healthy")  # 12: one is added, and one is gone
        assert "slow" not in await world.api()
        assert await process.terminate() == 0
