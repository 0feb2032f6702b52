"""The promise of the product, on the embedded log: what was answered 200 arrives, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import random

import aiohttp
import pytest

from tests.effort import IS_NIGHTLY
from tests.gateway.conftest import MakeGateway, MakeSubscriber, to
from tests.waiting import pause

KILLS = int(os.environ.get("GATEWAY_TEST_KILLS") or (50 if IS_NIGHTLY else 6))
CLIENTS = 16
#: Between two callbacks of a client: together some hundred a second, which leaves time for what is tested.
PAUSE_S = 0.02


class Load:
    """Clients that send callbacks until told to stop, and remember what was answered 200."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: set[str] = set()
        self.accepted: set[str] = set()
        self.other_answers: list[int] = []
        self._is_stopping = False
        self._next = 0
        self._accepted_event = asyncio.Event()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """One client."""
        while not self._is_stopping:
            self._next += 1
            name = f"m-{self._next}"
            self.sent.add(name)
            body = f"messageid={name}&phone=1555{self._next % 100:07d}&status=2&drtime=2024-01-02 03:04:09"
            try:
                async with session.post(self.url, data=body.encode()) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        assert text == "success"
                        self.accepted.add(name)
                        self._accepted_event.set()
                        await pause(PAUSE_S, "a client's rate")
                    else:
                        self.other_answers.append(answer.status)
            except (aiohttp.ClientError, OSError):
                await pause(0.02, "a client that waits before it tries again")

    async def until_accepted(self, count: int) -> None:
        """Wait until so many more were answered 200."""
        target = len(self.accepted) + count
        async with asyncio.timeout(60):
            while len(self.accepted) < target:
                self._accepted_event.clear()
                await self._accepted_event.wait()

    def stop(self) -> None:
        """Let each client finish what it has sent."""
        self._is_stopping = True


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_callback_answered_200_arrives_although_the_process_is_killed(
    subscriber: MakeSubscriber, gateway: MakeGateway
) -> None:
    """SIGKILL at random points of intake and of delivery: nothing acknowledged is lost, nothing is invented."""
    rng = random.Random(20)
    all_events = await subscriber()
    process = await gateway(subscribers=[to(all_events, "all")])
    load = Load(process.url + "/callbacks/sms-dr")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        clients = [asyncio.create_task(load.run(session)) for _ in range(CLIENTS)]
        for number in range(KILLS):
            if number % 2:
                await load.until_accepted(rng.randint(1, 300))
            else:
                await all_events.until_more(rng.randint(1, 300))
            await process.kill()
            await process.start()
        await load.until_accepted(50)
        load.stop()
        await asyncio.gather(*clients)
    await all_events.until(lambda: load.accepted <= all_events.subjects.keys())
    assert await process.terminate() == 0
    assert load.accepted - all_events.subjects.keys() == set()
    assert all_events.subjects.keys() - load.sent == set()
    assert load.other_answers == []
    assert len(load.accepted) > KILLS * 20
    repeats = sum(all_events.ids.values()) - len(all_events.ids)
    print(f"kills {KILLS}, accepted {len(load.accepted)}, lost 0, delivered twice {repeats}")
