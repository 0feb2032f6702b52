"""With Kafka, in two processes: what ``serve`` tells, what ``fanout`` tells, and what each leaves to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.admin.running import webhook
from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Subscriber, accept, refuse
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


class Admin:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def get(self, path: str, status: int = 200) -> Any:
        async with self.session.get(self.url + path) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def post(self, path: str, body: object, status: int = 200) -> Any:
        async with self.session.post(self.url + path, json=body) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def until(self, path: str, is_so: Callable[[Any], bool]) -> Any:
        async def look() -> Any:
            return [found] if is_so(found := await self.get(path)) else None

        return (await until(look, within_s=90, look_s=0.2))[0]


@pytest.fixture
async def refusing() -> AsyncIterator[Subscriber]:
    async with Subscriber(refuse) as one:
        yield one


def _is_published_and_attempted_twice(story: Any) -> bool:
    return story["published"].get("offset") is not None and len(story["subscribers"][0]["attempts"]) == 2


def _replays(found: Any) -> list[tuple[Any, ...]]:
    names = ("name", "state", "stored", "delivered", "waiting")
    return [tuple(one[name] for name in names) for one in found["replays"]]


def _is_dead_lettered(found: Any) -> bool:
    return [one["outcome"] for one in found["events"]] == ["dead_lettered"]


async def test_two_processes_tell_one_story(kafka: str, tmp_path: Path, refusing: Subscriber) -> None:
    """Published where, attempted when; dead letters and replay from either; pause where it is delivered."""
    config = {
        "kafka": {"bootstrap_servers": kafka, "partitions": 2},
        "topics": {"prefix": "console."},
        "subscribers": [webhook("crm", refusing.url, start="earliest", breaker={"min_attempts": 1000})],
    }
    processes = []
    for command in ("serve", "fanout"):
        folder = tmp_path / command
        folder.mkdir()
        processes.append(GatewayProcess(folder, dict(config), command))
        await processes[-1].start()
    async with aiohttp.ClientSession() as session:
        serve, fanout = (Admin(session, process.admin_url) for process in processes)
        form = {"messageid": "m-1", "phone": "6281234567890", "result": "DELIVRD", "status": "1"}
        async with session.post(f"{processes[0].url}/callbacks/sms-dr", data=form) as response:
            assert response.status == 200
        letters = await serve.until("/api/dead-letters", lambda found: found["letters"])
        event_id = letters["letters"][0]["id"]
        story = await serve.until(
            f"/api/events/{event_id}",
            lambda story: (
                story["published"].get("offset") is not None and len(story["subscribers"][0]["attempts"]) == 2
            ),
        )
        assert (story["published"]["topic"], story["published"]["offset"]) == ("console.sms.dr", 0)
        attempts = story["subscribers"][0]["attempts"]
        assert [(one["outcome"], one["answer"]["detail"]) for one in attempts] == [
            ("retried", "answered 422 Unprocessable Entity"),
            ("dead_lettered", "answered 422 Unprocessable Entity"),
        ]
        assert dict(attempts[0]["request"]["headers"])["webhook-id"] == event_id
        await serve.until("/api/search?q=m-1", _is_dead_lettered)
        assert (await serve.get("/api/search?subscriber=crm&outcome=delivered"))["events"] == []
        assert (await fanout.get("/api/dead-letters"))["letters"][0]["id"] == event_id
        assert "gateway serve" in (await fanout.get("/api/search?q=m-1", 409))["error"]
        assert "gateway fanout" in (await serve.post("/api/subscribers/crm/pause", {}, 409))["error"]
        assert (await fanout.post("/api/subscribers/crm/pause", {}))["state"] == "paused"
        await fanout.post("/api/subscribers/crm/resume", {})
        await fanout.until("/api/overview", lambda found: found["subscribers"][0]["state"] == "degraded")
        overview = await fanout.until("/api/overview", lambda found: found["subscribers"][0]["last_error"])
        assert (overview["role"], overview["intake"], overview["kafka"]["is_ready"]) == ("fanout", None, True)
        refusing.behave = accept
        await serve.post("/api/replay", {"subscriber": "crm", "from_dlq": True}, 202)
        await refusing.until(lambda: event_id in refusing.ids)
        # Asked of one process, delivered by the other, known to both; and the dead letter is open no more.
        for admin in (serve, fanout):
            await admin.until("/api/replays", lambda found: _replays(found) == [("r-1", "done", 1, 1, 0)])
            await admin.until("/api/dead-letters", lambda found: not found["letters"])
        await fanout.until("/api/overview", lambda found: found["subscribers"][0]["dead_letters"] == 0)
    for process in processes:
        assert await process.terminate() == 0
