"""Strangers who open connections, where the process may open few files: callbacks, probes and deliveries go on."""

from __future__ import annotations

import asyncio
import resource
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fanout.receiver import Receiver
from tests.fanout.running import SECRET
from tests.gateway.process import GatewayProcess
from tests.hostile import corpus
from tests.hostile.test_corpus import port_of
from tests.hostile.test_neighbours import healthy

DESCRIPTORS = 256
STRANGERS = 400
SAYINGS = {
    "nothing": b"",
    "part of a head": healthy(1)[:30],
    "part of a body": healthy(1)[:-5],
    "a request": corpus.sized(b""),
}


class Restricted(GatewayProcess):
    """A gateway that may open few files: the limit is set before it starts, and cannot be raised."""

    async def _spawn(self, environment: dict[str, str], folder: Path | None = None) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))  # this process needs more
        wrapper = self.folder / "sitecustomize.py"
        limits = self.limits
        wrapper.write_text(f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, {limits!r})\n")
        path = f"{self.folder}:{Path.cwd()}"
        await super()._spawn({**environment, "PYTHONPATH": path}, folder)

    limits = (DESCRIPTORS, DESCRIPTORS)


@asynccontextmanager
async def strangers(port: int, count: int, says: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections, opened as fast as they are taken; each says this and then nothing."""
    readers: list[asyncio.StreamReader] = []
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(says)
            readers.append(reader)
            writers.append(writer)
        yield readers
    finally:
        for writer in writers:
            writer.transport.abort()


async def posted(gateway: GatewayProcess, number: int) -> int:
    """The status of a callback on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway))
    try:
        async with asyncio.timeout(5):
            writer.write(healthy(number))
            return int((await reader.readuntil(b"\r\n")).split()[1])
    finally:
        writer.close()


async def fetched(gateway: GatewayProcess, path: str) -> str:
    """A page of the admin port."""

    def fetch() -> str:
        with urllib.request.urlopen(gateway.admin_url + path, timeout=5) as response:
            return str(response.read().decode())

    return await asyncio.to_thread(fetch)


@asynccontextmanager
async def restricted(folder: Path, **config: Any) -> AsyncIterator[GatewayProcess]:
    running = Restricted(folder, config)
    await running.start()
    try:
        yield running
    finally:
        await running.kill()


@pytest.mark.parametrize(
    "says",
    [b"", healthy(1)[:30], healthy(1)[:-5], corpus.sized(b"")],
    ids=["nothing", "part of a head", "part of a body", "a request"],
)
@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "ordinary"])
async def test_strangers_leave_room_for_callbacks_probes_and_deliveries(
    tmp_path: Path, is_fast: bool, says: bytes
) -> None:
    """400 connections at 256 descriptors: callbacks are answered at once and delivered, and probes are answered."""
    async with Receiver() as receiver:
        subscriber = {
            "name": "billing", "url": receiver.url, "topics": ["sms.dr"], "secrets": [SECRET], "allow_private": True
        }  # fmt: skip
        config = {"ingest": {"port": 0, "fast_path": is_fast}, "subscribers": [subscriber]}
        async with restricted(tmp_path, **config) as gateway, strangers(port_of(gateway), STRANGERS, says):
            assert [200] * 20 == [await posted(gateway, 100 + number) for number in range(20)]
            assert "ok\n" == await fetched(gateway, "/healthz")
            await receiver.until_delivered(20, within_s=10)
            metrics = await fetched(gateway, "/metrics")
            assert 'gateway_connections_closed_total{port="ingest",process="ingest-0",reason="full"}' in metrics
            assert (await gateway.logged("connections.full"))["port"] == "ingest"


async def test_strangers_on_the_admin_port_leave_room_for_probes(tmp_path: Path) -> None:
    """The admin port has a bound of its own, and callbacks do not notice."""
    async with restricted(tmp_path) as gateway:
        admin_port = int(gateway.admin_url.rpartition(":")[2])
        async with strangers(admin_port, STRANGERS), strangers(port_of(gateway), STRANGERS):
            assert "ok\n" == await fetched(gateway, "/healthz")
            assert [200] * 5 == [await posted(gateway, number) for number in range(5)]


async def test_a_used_connection_outlives_strangers(tmp_path: Path) -> None:
    """A sender that keeps its connection keeps it while strangers come and go."""
    async with restricted(tmp_path) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway))
        writer.write(healthy(100))
        assert b"200" in await reader.readuntil(b"success")
        for number in range(3):
            async with strangers(port_of(gateway), STRANGERS):
                writer.write(healthy(number))
                assert b"200" in await reader.readuntil(b"success")
        writer.close()


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "ordinary"])
async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path, is_fast: bool) -> None:
    """After the time-out of a request, and not after that of kept connections."""
    ingest = {"port": 0, "fast_path": is_fast, "read_timeout": 1.0}
    async with restricted(tmp_path, ingest=ingest) as gateway, strangers(port_of(gateway), 3) as readers:
        async with asyncio.timeout(5):
            for reader in readers:
                assert b"" == await reader.read()
        metrics = await fetched(gateway, "/metrics")
        assert 'gateway_connections_closed_total{port="ingest",process="ingest-0",reason="silent"} 3.0' in metrics


async def test_the_soft_limit_is_raised(tmp_path: Path) -> None:
    """To the hard one, at start."""
    running = Restricted(tmp_path, {})
    running.limits = (128, 512)
    await running.start()
    try:
        assert {(512, 512)} == {resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in running.pids()}
    finally:
        await running.kill()


async def test_more_connections_than_there_are_descriptors_are_not_promised(tmp_path: Path) -> None:
    """The configured number is cut to what can be had, and a warning says so."""
    async with restricted(tmp_path, ingest={"port": 0, "max_connections": 10_000}) as gateway:
        line = await gateway.logged("ingest.max_connections_reduced")
        assert (10_000, DESCRIPTORS) == (line["configured"], line["descriptors"])
        assert line["connections"] < DESCRIPTORS


async def test_subscribers_that_want_more_connections_than_there_are_descriptors_are_named(tmp_path: Path) -> None:
    """With the number that they may have, and what to do."""
    subscribers = [
        {"name": f"s{number}", "url": "http://127.0.0.1:9/", "topics": ["sms.dr"], "allow_private": True}
        for number in range(3)
    ]
    async with restricted(tmp_path, subscribers=subscribers) as gateway:
        line = await gateway.logged("subscribers.many_connections")
        assert (96, DESCRIPTORS // 4) == (line["configured"], line["share"])


class WithoutInput(GatewayProcess):
    """A gateway that was started with its standard input closed, as ``<&-`` does."""

    async def _spawn(self, environment: dict[str, str], folder: Path | None = None) -> None:
        closing = "import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        arguments = ("-m", "gateway", self.command, "-c", str(self.path))
        await self._spawn_program("-c", closing, *arguments, cwd=folder, env=environment)


async def test_without_standard_input_no_port_is_taken_for_it(tmp_path: Path) -> None:
    """The first socket would have its number, and children replace their standard input."""
    gateway = WithoutInput(tmp_path, {})
    await gateway.start()
    assert await gateway.terminate() == 0
