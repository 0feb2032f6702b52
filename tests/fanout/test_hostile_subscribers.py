"""Subscribers that answer with anything: what counts is the status, and nothing keeps the event loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log import Record
from tests.effort import examples
from tests.fanout.events import entries, entry
from tests.fanout.hostile_server import KINDS
from tests.fanout.memory_log import MemoryLog
from tests.fanout.receiver import Receiver
from tests.fanout.running import webhook
from tests.fanout.test_http_answer import FLAWS
from tests.fanout.test_subscriptions import running
from tests.fanout.test_subscriptions import subscriber as subscriber_settings
from tests.pace import slowness
from tests.waiting import pause, turn

RECORD = Record("p", 0, 0.0, *entry(1))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
#: The longest that another task may have to wait for its turn.
MOST_LATE_S = 0.05


@asynccontextmanager
async def subscriber(handler: Handler) -> AsyncIterator[str]:
    """A TCP server that reads one request after the other and does with each as the handler does."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head


def saying(*parts: bytes, then_close: bool = False) -> Handler:
    """Answer each request so."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
            if then_close:
                return

    return handler


@pytest.mark.parametrize("status", [200, 204, 410, 429, 500])
async def test_the_status_line_decides(status: int) -> None:
    """Over a real connection; a success is known at once where its end is not worth waiting for."""

    async def statuses(flaw: bytes) -> list[int | None]:
        async with subscriber(saying(b"HTTP/1.1 %d Said\r\n" % status + flaw)) as url:
            sink = webhook(url, timeout_s=3)
            results = [await sink.attempt(RECORD, is_replay=False) for _ in range(2)]
            await sink.close()
        return [result.status for result in results]

    found = await asyncio.gather(*map(statuses, FLAWS.values()))  # most of them wait for an end that does not come
    assert {name: [status, status] for name in FLAWS} == dict(zip(FLAWS, found, strict=True))


async def test_bytes_behind_an_answer_are_not_the_next_answer() -> None:
    """What comes unasked ends the connection: a late answer must not confirm the next event."""
    connections = 0
    late = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await late.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()  # until the gateway closes
        closed.set()

    closed = asyncio.Event()
    async with subscriber(handler) as url:
        sink = webhook(url)
        await sink.attempt(RECORD, is_replay=False)
        late.set()
        async with asyncio.timeout(5):
            await closed.wait()
        assert 200 == (await sink.attempt(RECORD, is_replay=False)).status
        await sink.close()
    assert 2 == connections


async def test_a_reset_behind_the_head_does_not_matter() -> None:
    """The connection breaks while the body is due."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        await writer.drain()
        await pause(0.05, "a reset overtakes what was not read yet")
        writer.transport.abort()

    async with subscriber(handler) as url:
        sink = webhook(url)
        assert 200 == (await sink.attempt(RECORD, is_replay=False)).status
        await sink.close()


async def test_a_subscriber_that_does_not_read_keeps_no_connection() -> None:
    """When the time of an attempt is up its connection is gone, however much of the event was not sent."""
    release = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await release.wait()
        writer.transport.resume_reading()
        with suppress(OSError):
            while await reader.read(1 << 20):
                pass

    large = RECORD._replace(value=b"x" * 32_000_000)
    async with subscriber(handler) as url:
        sink = webhook(url, timeout_s=0.3)
        before = len(os.listdir("/proc/self/fd"))
        results = [await sink.attempt(large, is_replay=False) for _ in range(3)]
        await turn()
        opened = len(os.listdir("/proc/self/fd")) - before
        release.set()
        await sink.close()
    assert ["timeout"] * 3 == [result.error for result in results]
    assert opened <= 4  # the subscriber's own ends, and the event loop's


@settings(max_examples=examples(50), deadline=None)
@given(st.text("".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"), max_size=40))
def test_the_request_target_is_the_configured_text(text: str) -> None:
    """Character by character on the wire."""

    async def sent() -> bytes:
        head = b""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal head
            head = await read_request(reader)
            writer.write(b"HTTP/1.1 204 x\r\n\r\n")
            await writer.drain()

        async with subscriber(handler) as url:
            sink = webhook(f"{url}/{text}")
            await sink.attempt(RECORD, is_replay=False)
            await sink.close()
        return head

    assert f"POST /hook/{text} HTTP/1.1".encode() == asyncio.run(sent()).split(b"\r\n")[0]


async def test_ids_and_traces_cannot_write_headers() -> None:
    """A record of another producer may hold anything."""
    trace = "00-" + "a" * 32 + "-" + "b" * 8 + "\r\nX: y\r\n-00"
    assert 55 == len(trace)
    head = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal head
        head = await read_request(reader)
        writer.write(b"HTTP/1.1 204 x\r\n\r\n")
        await writer.drain()

    async with subscriber(handler) as url:
        sink = webhook(url)
        assert 204 == (await sink.attempt(RECORD._replace(headers=(("traceparent", trace),)), is_replay=False)).status
        await sink.close()
    assert b"X: y" not in head


@pytest.fixture(scope="module")
def hostile_port() -> Iterator[int]:
    """The process of :mod:`tests.fanout.hostile_server`."""
    command = [sys.executable, "-m", "tests.fanout.hostile_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


async def most_held(for_s: float) -> float:
    """Processor time of this thread between two turns of a task, at most; other processes are not measured."""
    worst, end = 0.0, time.monotonic() + for_s
    while time.monotonic() < end:
        before = time.thread_time()
        await pause(0.002, "a turn that others may delay: it is measured")
        worst = max(worst, time.thread_time() - before)
    return worst


@pytest.mark.parametrize("kind", KINDS)
async def test_no_endless_answer_keeps_the_loop(kind: str, hostile_port: int) -> None:
    """While it is listened to on 8 connections, other tasks get their turn and other subscribers their events."""
    log = MemoryLog()
    await log.append(entries(400, 100))
    ill = subscriber_settings(
        "ill",
        f"http://127.0.0.1:{hostile_port}/{kind}",
        concurrency=8,
        timeout_s=0.5,
        ordering="none",
        retry={"first_delay_s": 0.01, "max_delay_s": 0.01, "attempts": 1000},
        breaker={"min_attempts": 10_000},
    )
    found: list[float] = []
    async with Receiver() as receiver, running(log, subscriber_settings("well", receiver.url), ill):
        while len(found) < 3 and (not found or found[-1] >= MOST_LATE_S):
            found.append(await most_held(0.3) / slowness())
        await receiver.until_delivered(400, within_s=10)
    assert found[-1] < MOST_LATE_S, found


@pytest.mark.parametrize("kind", KINDS)
async def test_an_endless_answer_has_an_end(kind: str, hostile_port: int) -> None:
    """Each attempt ends with a status, or as what is not HTTP, long before the time is up."""
    sink = webhook(f"http://127.0.0.1:{hostile_port}/{kind}", timeout_s=30)
    async with asyncio.timeout(10):
        result = await sink.attempt(RECORD, is_replay=False)
    await sink.close()
    assert result.status in {101, 200, 500} or result.error == "protocol"
