"""A gateway with one subscriber that is well, one that refuses, one that is filtered, and a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.admin.running import Running, running, webhook
from tests.gateway.subscriber import Subscriber, refuse


@pytest.fixture
async def well() -> AsyncIterator[Subscriber]:
    async with Subscriber() as one:
        yield one


@pytest.fixture
async def refusing() -> AsyncIterator[Subscriber]:
    async with Subscriber(refuse) as one:
        yield one


@pytest.fixture
async def gateway(tmp_path: Path, well: Subscriber, refusing: Subscriber) -> AsyncIterator[Running]:
    subscribers = [
        webhook("billing", well.url, start="earliest"),
        webhook("broken", refusing.url, breaker={"min_attempts": 1000}),
        webhook("picky", well.url, filter={"exact": {"type": "no.such"}}),
        {"name": "feed", "topics": ["sms.dr"], "kind": "stream", "start": "earliest"},
    ]
    async with running(tmp_path, subscribers=subscribers) as started:
        yield started
