"""The real application in this process, with traffic and subscribers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from gateway.app import App
from gateway.callbacks import CALLBACKS
from gateway.config.settings import Settings
from gateway.telemetry.metric_catalogue import CATALOGUE
from gateway.telemetry.metrics import METRICS
from gateway.traffic.client import ClientConnection, Target, encode
from gateway.traffic.simulator import requests
from tests.waiting import until


class Running:
    """A gateway and a client of its admin port."""

    def __init__(self, app: App, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.url = f"http://127.0.0.1:{app.admin.port}"
        self.ingest_url = f"http://127.0.0.1:{app.ingest.port}"
        self.session = session
        self.headers: dict[str, str] = {}

    async def get(self, path: str, status: int = 200, **query: object) -> Any:
        """A document."""
        given = {name: str(value) for name, value in query.items()}
        async with self.session.get(self.url + path, params=given, headers=self.headers) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def post(self, path: str, body: object, status: int = 200, **headers: str) -> Any:
        """Have something done."""
        async with self.session.post(self.url + path, json=body, headers={**self.headers, **headers}) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def send(self, callback: str, count: int = 1, *, seed: int = 1) -> None:
        """Traffic as the platform sends it."""
        target = Target.parse(self.ingest_url)
        made = requests(callback, Random(seed), lambda: datetime.now(UTC))
        async with ClientConnection(target) as connection:
            for _ in range(count):
                answer = await connection.exchange(encode(target, f"/callbacks/{callback}", next(made), []))
                assert answer.status == 200

    async def send_all(self, count: int = 5) -> None:
        """Some of every callback."""
        for callback in CALLBACKS:
            await self.send(callback, count)

    async def sms(self, number: int, **fields: str) -> int:
        """One receipt about message ``m-<number>``; the status of the answer."""
        form = {"messageid": f"m-{number}", "phone": "6281234567890", "result": "DELIVRD", "status": "1", **fields}
        async with self.session.post(f"{self.ingest_url}/callbacks/sms-dr", data=form) as response:
            return response.status

    async def until(self, path: str, is_so: Callable[[Any], bool], **query: object) -> Any:
        """Ask until something holds."""

        async def look() -> Any:
            return [found] if is_so(found := await self.get(path, **query)) else None

        return (await until(look, within_s=30, look_s=0.05))[0]

    async def indexed(self) -> None:
        """Everything stored can be found."""
        search = self.app._parts.search
        assert search is not None
        assert await search.indexer.caught_up()


@asynccontextmanager
async def running(folder: Path, **config: Any) -> AsyncIterator[Running]:
    """A gateway on a folder of its own, stopped at the end."""
    settings = Settings.model_validate(
        {
            **config,
            "ingest": {"port": 0, **config.get("ingest", {})},
            "admin": {"port": 0, **config.get("admin", {})},
            "journal": {"dir": str(folder / "data")},
        }
    )
    for metric in CATALOGUE:  # they are the process's, and outlive a gateway
        if metric.labels:
            METRICS._by_name[metric.name].clear()
    METRICS.sketches.clear()
    app = App(settings)
    await app.start()
    await app.fanout.is_started.wait()
    try:
        async with aiohttp.ClientSession() as session:
            yield Running(app, session)
    finally:
        await app.stop()


def webhook(name: str, url: str, **more: Any) -> dict[str, Any]:
    """A row of ``subscribers``: two attempts, then given up."""
    retry = {"attempts": 2, "first_delay_s": 0.02, "max_delay_s": 0.02}
    return {"name": name, "topics": ["sms.dr"], "url": url, "allow_private": True, "retry": retry, **more}
