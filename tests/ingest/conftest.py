"""A real ingest server over a real journal, and raw sockets to talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.settings import Ingest
from gateway.ingest.accept import Acceptor
from gateway.ingest.endpoints import endpoints
from gateway.ingest.server import IngestServer
from gateway.log import Record
from gateway.log.journal import Journal, Retention


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Running:
    """A started server."""

    port: int
    journal: Journal
    server: IngestServer

    async def raw(self, *chunks: bytes) -> Reply:
        """Send bytes as they are, chunk by chunk, and read one answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
            return await read_reply(reader)
        finally:
            writer.close()

    async def post(self, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        """A plain POST."""
        return await self.raw(request_bytes("POST", target.encode(), body, headers))

    async def stored(self) -> list[Record]:
        """Everything in the journal."""
        reader = await self.journal.browse("test", [], start="earliest")
        records = list(await reader.fetch(max_records=1000, wait_s=0))
        await reader.close()
        return records

    async def events(self) -> list[dict[str, Any]]:
        """Everything in the journal, parsed."""
        return [orjson.loads(record.value) for record in await self.stored()]


def request_bytes(method: str, target: bytes, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """One request as bytes, with a length and whatever else is given."""
    lines = [f"{name}: {value}" for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items()]
    head = "\r\n".join(["Host: test", *lines]).encode()
    return method.encode() + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n\r\n" + body


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One answer from a connection that may stay open."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(int(head[0].split()[1]), headers, body)


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
async def serve(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Start servers with any ``ingest`` settings, on both ways through; all are stopped at the end."""
    started: list[Running] = []

    async def start(*, retention: Retention | None = None, **settings: Any) -> Running:
        section = Ingest.model_validate({"port": 0, "fast_path": request.param, **settings})
        folder, kept = tmp_path / f"journal-{len(started)}", retention or Retention(1 << 30, 3600.0)
        journal = Journal(folder, kept, known_ids=section.dedup_window)
        await journal.start()
        acceptor = Acceptor(journal, clock=lambda: datetime.now(UTC), max_waiting=section.max_waiting)
        server = IngestServer(section, endpoints(section), acceptor, clock=lambda: datetime.now(UTC))
        await server.start()
        running = Running(server.port, journal, server)
        started.append(running)
        return running

    yield start
    for running in started:
        await running.server.stop(1.0)
        await running.journal.stop()
