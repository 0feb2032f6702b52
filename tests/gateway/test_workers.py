"""``serve --workers`` from its admin port: what Prometheus, probes, people and commands get there.

Kafka is away all the time, and nobody misses it: callbacks are stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.process import GatewayProcess

TOKEN = "sesame-77aa"
#: Nothing listens there, and nothing can.
NO_KAFKA = {"kafka": {"bootstrap_servers": "127.0.0.1:1"}}


class Workers:
    """Two workers behind one port, and a client with the token."""

    def __init__(self, process: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self.process = process
        self._session = session

    async def ask(self, path: str, token: str = TOKEN, **headers: str) -> tuple[int, str]:
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        async with self._session.get(self.process.admin_url + path, headers=headers) as response:
            return response.status, await response.text()

    async def get(self, path: str) -> Any:
        async with self._session.get(
            self.process.admin_url + path, headers={"Authorization": f"Bearer {TOKEN}"}
        ) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def until_ready(self, status: int = 200) -> str:
        """Wait for this answer of ``/readyz``; its text."""
        async with asyncio.timeout(30):
            while True:
                found, text = await self.ask("/readyz")
                if found == status:
                    return text
                await asyncio.sleep(0.02)

    async def until_whole(self) -> None:
        """Wait until both workers are there."""
        async with asyncio.timeout(30):
            while (await self.metrics())["gateway_worker_up"] != {"0": 1.0, "1": 1.0}:
                await asyncio.sleep(0.05)

    async def sms(self, number: int) -> None:
        """One receipt over a connection of its own, which the kernel deals to one of those that listen."""
        form = {"messageid": f"m-{number}", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
        async with self._session.post(f"{self.process.url}/callbacks/sms-dr", data=form) as response:
            assert response.status == 200

    async def metrics(self) -> dict[str, dict[str | None, float]]:
        """Sum of each series by worker."""
        status, text = await self.ask("/metrics")
        assert status == 200
        found: dict[str, dict[str | None, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values = found.setdefault(sample.name, {})
                worker = sample.labels.get("worker")
                values[worker] = values.get(worker, 0.0) + sample.value
        return found

    def pid(self, number: int) -> int:
        """Of the present life of a worker."""
        started = [line for line in self.process.lines if line.get("event") == "worker.started"]
        return next(int(line["pid"]) for line in reversed(started) if line["worker"] == number)


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    config = {**NO_KAFKA, "ingest": {"port": 0, "workers": 2}, "admin": {"port": 0, "token": TOKEN}}
    process = GatewayProcess(tmp_path, config, "serve")
    await process.start()
    try:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            two = Workers(process, session)
            await two.until_whole()
            yield two
    finally:
        assert await process.terminate() == 0


async def test_metrics_are_of_all_workers_and_tell_them_apart(workers: Workers) -> None:
    """Every callback is counted once, under the worker that took it; the supervisor counts lives."""
    sent = 0
    async with asyncio.timeout(30):
        while True:
            await workers.sms(sent)
            sent += 1
            found = await workers.metrics()
            if len(found.get("gateway_callbacks_total", {})) == 2:
                break
    assert {"0", "1"} == found["gateway_callbacks_total"].keys()
    assert sent == sum(found["gateway_callbacks_total"].values())
    assert {"0": 1.0, "1": 1.0} == found["gateway_worker_up"]
    assert {"0": 0.0, "1": 0.0} == found["gateway_worker_restarts_total"]
    assert {"0", "1"} == found["process_resident_memory_bytes"].keys() == found["gateway_journal_used_bytes"].keys()


async def test_a_worker_that_dies_and_one_that_hangs(workers: Workers) -> None:
    """A death is counted and made good. One that hangs is dealt connections: load balancers must look elsewhere."""
    os.kill(workers.pid(1), signal.SIGKILL)
    await workers.process.logged("worker.died")
    assert (await workers.ask("/healthz"))[0] == 200
    await workers.until_ready()
    await workers.until_whole()
    assert {"0": 0.0, "1": 1.0} == (await workers.metrics())["gateway_worker_restarts_total"]

    os.kill(workers.pid(1), signal.SIGSTOP)
    try:
        text = await workers.until_ready(503)
        assert '"worker-1":"it listens and gives no answer' in text
        assert '"worker-0.journal":"ok"' in text
    finally:
        os.kill(workers.pid(1), signal.SIGCONT)
    await workers.until_ready()


async def test_a_folder_that_is_taken_away_refuses_on_every_worker(workers: Workers) -> None:
    """The journals of all workers are in it: no callback is answered 200, and all continue when it is back."""
    data, away = workers.process.folder / "data", workers.process.folder / "away"
    await workers.sms(1)
    data.rename(away)
    assert "is gone" in await workers.until_ready(503)
    await workers.process.logged("journal.moved", count=2)  # each looks by itself, at most a second later
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        for number in range(20):
            async with session.post(f"{workers.process.url}/callbacks/sms-dr", data=f"messageid=x-{number}") as answer:
                assert answer.status == 503
    away.rename(data)
    await workers.until_ready(200)
    await workers.process.logged("journal.moved_back", count=2)
    await workers.sms(2)


async def test_one_worker_down_leaves_the_other_ready(tmp_path: Path) -> None:
    """A worker that cannot start must not take away the one that stores."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/worker-1").write_text("a file where a folder should be")
    config = {**NO_KAFKA, "ingest": {"port": 0, "workers": 2}, "admin": {"port": 0, "token": TOKEN}}
    process = GatewayProcess(tmp_path, config, "serve")
    await process.start()
    try:
        async with aiohttp.ClientSession() as session:
            workers = Workers(process, session)
            await process.logged("worker.died")
            text = await workers.until_ready()
            assert '"worker-1":"worker 1 does not answer' in text
            assert {"0": 1.0, "1": 0.0} == (await workers.metrics())["gateway_worker_up"]
            # What the one that is away may know is not denied.
            assert (await workers.ask("/api/events/" + "0" * 32))[0] == 503
            assert (await workers.get("/api/search"))["away"] == [1]
            await workers.sms(1)
    finally:
        assert await process.terminate() == 0


async def test_an_admin_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """Said before any worker starts."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = GatewayProcess(
            tmp_path, {**NO_KAFKA, "ingest": {"port": 0, "workers": 2}, "admin": {"port": port}}, "serve"
        )
        with pytest.raises(AssertionError, match="the process ended"):
            await process.start()
    (line,) = process.lines
    assert line["event"] == "gateway.failed"
    assert line["error"].startswith(f"admin.host and admin.port: cannot listen on 127.0.0.1:{port}")
    assert process.process is not None
    assert await process.process.wait() == 1


async def test_events_come_from_whichever_worker_has_them(workers: Workers) -> None:
    """Found by id at one address, which ``gateway explain`` asks; live from the worker that is named."""
    found: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
    number = 0
    async with asyncio.timeout(30):
        while not all(found.values()):
            await workers.sms(number)
            number += 1
            # By its index, which is a little behind.
            found = {one: (await workers.get(f"/workers/{one}/api/search?q=6281234567890"))["events"] for one in found}
    for events in found.values():
        assert (await workers.get(f"/api/events/{events[0]['id']}"))["event"]["id"] == events[0]["id"]
    assert (await workers.ask("/api/events/" + "0" * 32))[0] == 404
    everywhere, place = [], ""
    while place is not None:
        page = await workers.get(f"/api/search?q=6281234567890&limit=2&before={place}")
        assert len(page["events"]) <= 2
        assert page["away"] == []
        everywhere += [event["id"] for event in page["events"]]
        place = page["next"]
    assert {event["id"] for events in found.values() for event in events} <= set(everywhere)
    assert len(everywhere) == len(set(everywhere))
    assert (await workers.ask("/api/search?before=12"))[0] == (await workers.ask("/api/search?limit=x"))[0] == 400
    url = workers.process.admin_url + "/workers/0/api/events"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as stream, asyncio.timeout(30):
        assert await stream.content.readline() == b": connected\n"
        line = b""
        while not line.startswith(b"event: nxcloud.sms.dr"):
            reading = asyncio.ensure_future(stream.content.readline())
            while not reading.done():
                await workers.sms(number)
                number += 1
            line = await reading


async def test_each_worker_has_its_console_and_nothing_is_shown_without_the_token(workers: Workers) -> None:
    """The page of one stands below its number, and says which it is. Probes need no token, here nor behind."""
    for number in (0, 1):
        status, page = await workers.ask(f"/workers/{number}/", token="")
        assert status == 200
        assert 'src="static/console.js"' in page
        assert (await workers.ask(f"/workers/{number}/static/console.js", token=""))[0] == 200
        overview = await workers.get(f"/workers/{number}/api/overview?since=0")
        assert (number, 2) == (overview["worker"], overview["workers"])
    assert (await workers.get("/api/overview"))["worker"] == 0
    assert (await workers.ask("/workers/2/"))[0] == 404
    for path in (
        "/metrics",
        "/api/overview",
        "/api/search",
        "/workers/1/api/overview",
        "/workers/1/metrics",
        "/workers/9/",
    ):
        for token in ("", "wrong"):
            assert (await workers.ask(path, token=token))[0] == (404 if path == "/workers/9/" else 401), path
    for path in ("/healthz", "/readyz", "/", "/workers/1/readyz"):
        assert (await workers.ask(path, token=""))[0] == 200, path
    for path in ("/healthz", "/metrics", "/api/overview", "/workers/1/"):
        assert (await workers.ask(path, Host="evil.example"))[0] == 403, path
