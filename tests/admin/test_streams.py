"""Streams that say nothing for long, on real connections: they end when their clients go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from gateway.fanout.sse import MAX_CLIENTS
from tests.admin.running import Running, running
from tests.waiting import until


async def opened(gateway: Running, path: str) -> aiohttp.ClientResponse:
    """A stream that has begun; while all places are taken it is asked for again, as a client does."""

    async def asked() -> aiohttp.ClientResponse | None:
        response = await gateway.session.get(gateway.url + path)
        if response.status != 503:
            return response
        response.close()
        return None

    response = await until(asked)
    assert response is not None
    assert await response.content.readline() == b": connected\n"
    return response


@pytest.mark.parametrize("path", ["/api/streams/narrow", "/api/events?topic=no.such"])
async def test_a_client_that_goes_gives_its_place_back(tmp_path: Path, path: str) -> None:
    """Within seconds, and long before the next comment is due, while a busy topic brings nothing that it wants."""
    narrow = {"name": "narrow", "topics": ["sms.dr"], "kind": "stream", "filter": {"exact": {"type": "no.such"}}}
    async with running(tmp_path, subscribers=[narrow]) as gateway:

        async def busy() -> None:
            number = 0
            while True:
                number += 1
                await gateway.sms(number)

        traffic = asyncio.create_task(busy())
        async with asyncio.timeout(60):
            for _ in range(3):
                clients = [await opened(gateway, path) for _ in range(MAX_CLIENTS)]
                for client in clients:
                    client.close()
        assert not traffic.done()
        traffic.cancel()
