"""Measure this machine with the product itself: ``gateway run`` in a temporary folder, with load and one subscriber.

The load is SMS receipts on persistent connections, each with one request in progress, as fast as they are answered.
The figures are processor time (user and system, all threads) of the processes, as the kernel accounts it, divided by
the number of events; so neither the load, the subscriber nor another program is measured. The processes share the
machine with the load. Where an event waits for a processor, more events share a commit and an event costs less, as at
the peak of an installation; at low rates an event costs more, on processors that have time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Final, cast

import orjson

from gateway import __version__
from gateway.capacity.model import Figures
from gateway.errors import Broken
from gateway.traffic.client import Target, encode
from gateway.traffic.simulator import requests

_CONNECTIONS: Final = 64
#: Before the measurement: code, caches and connections are warm.
_WARM_UP: Final = 2_000
_READY_S: Final = 60.0
#: Without a delivery for so long, something is broken.
_STALLED_S: Final = 60.0
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


async def measure(count: int = 10_000, rounds: int = 3) -> Figures:
    """Return the figures of this machine: medians of some rounds.

    Args:
        count: events of a round; the clock of the kernel's accounts ticks at 10 ms, so fewer are less accurate.
        rounds: number of rounds, at least 1.

    Raises:
        Broken: not on Linux, or the gateway did not start, answer or deliver.
    """
    if not sys.platform.startswith("linux"):
        raise Broken("--measure reads the processor time of processes from /proc, which only Linux has")
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gateway-plan-") as folder:
        sink = _Sink()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(sink.connection, "127.0.0.1", 0)
        async with server, _gateway(Path(folder), server.sockets[0].getsockname()[1]) as (process, target):
            await _round(target, sink, _WARM_UP)
            accounts = [_processor_s(process.pid)]
            for _ in range(rounds):
                await _round(target, sink, count)
                accounts.append(_processor_s(process.pid))
    spent_us = {
        name: statistics.median((after[name] - before[name]) / count * 1e6 for before, after in pairwise(accounts))
        for name in ("ingest-0", "log", "deliver")
    }
    return Figures(
        accept_us=round(spent_us["ingest-0"], 1),
        commit_us=round(spent_us["log"], 1),
        deliver_us=round(spent_us["deliver"], 1),
        event_bytes=round(sink.body_bytes / sink.deliveries),
        machine=_machine(),
        measured=f"{datetime.now(UTC):%Y-%m-%d}",
        version=__version__,
        load_average=round(load_average, 1),
    )


@contextlib.asynccontextmanager
async def _gateway(folder: Path, subscriber_port: int) -> AsyncIterator[tuple[subprocess.Popen[bytes], Target]]:
    """Start ``gateway run`` with one ingest worker and one subscriber; stop it at the end."""
    ports = _free_ports()
    config = {
        "ingest": {"port": ports[0], "workers": 1},
        "admin": {"port": ports[1]},
        "journal": {"dir": str(folder / "data")},
        "log": {"level": "warning"},
        "subscribers": [
            {
                "name": "measured",
                "topics": ["sms.dr"],
                "url": f"http://127.0.0.1:{subscriber_port}/",
                "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
                "start": "earliest",
                "allow_private": True,
            }
        ],
    }
    path, log = folder / "config.yaml", folder / "log"
    path.write_bytes(orjson.dumps(config))  # YAML, too
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own command; starting it takes no time
            [sys.executable, "-m", "gateway", "run", "-c", str(path)], stdout=out, stderr=out, env=environment
        )
    try:
        await _ready(process, ports[1], log)
        yield process, Target("127.0.0.1", ports[0], has_tls=False)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)


async def _ready(process: subprocess.Popen[bytes], admin_port: int, log: Path) -> None:
    """Wait until the admin port answers that the gateway is ready."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_S):
            while process.poll() is None:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
                    writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                    head = await reader.readuntil(b"\r\n")
                    writer.close()
                    if b" 200 " in head:
                        return
                await asyncio.sleep(0.05)
    raise Broken(f"the measured gateway did not become ready: {_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:].strip()


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        return [one.getsockname()[1] for one in opened]


async def _round(target: Target, sink: _Sink, count: int) -> None:
    """Send events, and wait until all are answered and delivered.

    Raises:
        Broken: an answer is not 200, a connection ended, or nothing was answered or delivered for long.
    """
    rows = requests("sms-dr", Random(), lambda: datetime.now(UTC))
    messages = [encode(target, "/callbacks/sms-dr", next(rows), []) for _ in range(count)]
    before = sink.deliveries
    await _send(target, messages)
    await sink.wait(before + count)


async def _send(target: Target, messages: Sequence[bytes]) -> None:
    left = iter(messages)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Sender(left), target.host, target.port))[1] for _ in range(_CONNECTIONS)
    ]
    try:
        async with asyncio.timeout(_STALLED_S + len(messages) / 100):
            await asyncio.gather(*(one.finished for one in connections))
    except TimeoutError as exc:
        raise Broken("the measured gateway did not answer in time") from exc
    finally:
        for one in connections:
            one.transport.abort()


class _Sender(asyncio.Protocol):
    """One connection of the load: the next message after each answer."""

    def __init__(self, left: Iterator[bytes]) -> None:
        self._left = left
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._next()

    def data_received(self, data: bytes) -> None:
        # An answer is a word behind a short head, written at once: it comes in one piece.
        if data.startswith(b"HTTP/1.1 200 "):
            self._next()
        elif not self.finished.done():
            self.finished.set_exception(Broken(f"the measured gateway answered {data[:100]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(Broken("the measured gateway closed a connection"))

    def _next(self) -> None:
        message = next(self._left, None)
        if message is not None:
            self.transport.write(message)
        elif not self.finished.done():
            self.finished.set_result(None)


class _Sink:
    """The subscriber: finds the end of each request and answers 200."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.body_bytes = 0
        self._arrived = asyncio.Event()

    def connection(self) -> asyncio.Protocol:
        return _SinkConnection(self)

    def note(self, body_bytes: int) -> None:
        self.deliveries += 1
        self.body_bytes += body_bytes
        self._arrived.set()

    async def wait(self, deliveries: int) -> None:
        """Wait for a number of deliveries in all.

        Raises:
            Broken: none arrived for a minute.
        """
        while self.deliveries < deliveries:
            self._arrived.clear()
            try:
                async with asyncio.timeout(_STALLED_S):
                    await self._arrived.wait()
            except TimeoutError as exc:
                raise Broken(f"the measured gateway delivered {self.deliveries} of {deliveries} events") from exc


class _SinkConnection(asyncio.Protocol):
    _ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            size = int(self._buffer[:end].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + size:
                return
            self._buffer = self._buffer[end + 4 + size :]
            self._transport.write(self._ANSWER)
            self._sink.note(size)


def _processor_s(pid: int) -> dict[str, float]:
    """Return the processor time of each child of the supervisor, by its name without ``gw:`` (proc(5))."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        name, _, fields = Path(f"/proc/{child}/stat").read_text().partition("(")[2].rpartition(")")
        values = fields.split()
        found[name.removeprefix("gw:")] = (int(values[11]) + int(values[12])) * _TICK_S
    return found
