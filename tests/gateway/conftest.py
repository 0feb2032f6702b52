"""Gateways and subscribers that are cleaned up whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.process import GatewayProcess
from tests.gateway.subscriber import Behaviour, Subscriber, accept

MakeSubscriber = Callable[..., Awaitable[Subscriber]]
MakeGateway = Callable[..., Awaitable[GatewayProcess]]


@pytest.fixture
async def subscriber() -> AsyncIterator[MakeSubscriber]:
    """Start subscribers."""
    async with AsyncExitStack() as started:

        async def start(behave: Behaviour = accept) -> Subscriber:
            return await started.enter_async_context(Subscriber(behave))

        yield start


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[MakeGateway]:
    """Start gateways by the command line; those still running at the end are killed."""
    started: list[GatewayProcess] = []

    async def start(*, is_fresh: bool = False, **config: Any) -> GatewayProcess:
        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        one = GatewayProcess(folder, config, is_fresh=is_fresh)
        started.append(one)
        await one.start()
        return one

    yield start
    for one in started:
        if one.process is not None and one.process.returncode is None:
            await one.kill()


def to(subscriber: Subscriber, name: str, **settings: Any) -> dict[str, Any]:
    """A row of ``subscribers`` for a subscriber of the test."""
    return {"name": name, "topics": ["sms.dr"], "url": subscriber.url, "allow_private": True, **settings}
