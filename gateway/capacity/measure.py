"""Measure this machine with the product itself: ``gateway run`` in a temporary folder, with load and one subscriber.

The load is SMS receipts on persistent connections. The figures are processor time (user and system, all threads) of the
processes, as the kernel accounts it, divided by the number of events; so neither the load, the subscriber nor another
program is measured. Full load is measured first: each connection sends as fast as it is answered, and the processes
share the machine with the load. Then events are sent with random gaps at shares of that rate, where fewer of them share
a commit, a write and a wake-up, so that an event costs more.

Figures are kept in a file, which the sizing reads. ``recorded.json`` is such a file, used where the user has none. To
record it again, on an idle machine: ``gateway plan --measure --figures gateway/capacity/recorded.json``, then
``python -m tests.readme``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, NamedTuple, cast

import orjson

from gateway import __version__
from gateway.capacity.model import Figures
from gateway.errors import Broken, ConfigError
from gateway.traffic.client import Target, encode
from gateway.traffic.simulator import requests

RECORDED: Final = Path(__file__).with_name("recorded.json")
#: A time of an event in microseconds, a size in bytes, or a rate of one process, that no machine has.
_ABSURD: Final = 1e7
#: They have one number for each rate.
_CURVES: Final = ("rates_per_s", "accept_us", "commit_us", "deliver_us")
#: Rates of the figures, as shares of full load. Each takes as long as full load does.
_SHARES: Final = (0.05, 0.25, 0.5, 0.85)
_CONNECTIONS: Final = 64
#: Before the measurement: code, caches and connections are warm.
_WARM_UP: Final = 2_000
_READY_S: Final = 60.0
#: Without a delivery for so long, something is broken.
_STALLED_S: Final = 60.0


def load(path: Path) -> Figures:
    """Return the figures of a file.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        found: Any = orjson.loads(path.read_bytes())
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    except orjson.JSONDecodeError as exc:
        raise ConfigError([f"{path}: is not JSON: {exc}"]) from exc
    names = [one.name for one in dataclasses.fields(Figures)]
    if not isinstance(found, dict) or set(found) != set(names):
        raise ConfigError([f"{path}: needs exactly the keys {', '.join(names)}"])
    problems = [f"{path}: {name}: {reason}" for name in names if (reason := _problem(name, found[name]))]
    if not problems and len({len(found[name]) for name in _CURVES}) > 1:
        problems = [f"{path}: {', '.join(_CURVES)}: must have one number for each rate"]
    if problems:
        raise ConfigError(problems)
    return Figures(**found | {name: tuple(found[name]) for name in _CURVES})


def save(figures: Figures, path: Path) -> None:
    """Write the figures to a file.

    Args:
        figures: the figures.
        path: of the file; replaced if it exists.

    Raises:
        Broken: the file cannot be written.
    """
    try:
        path.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as exc:
        raise Broken(f"{path}: cannot be written: {exc.strerror}") from exc


def _problem(name: str, value: Any) -> str:
    if name in ("machine", "measured", "version"):
        return "" if isinstance(value, str) else "must be a text"
    if name not in _CURVES:
        value = [value]
    elif not isinstance(value, list) or not value:
        return "must be a list of numbers"
    least = 0 if name == "load_average" else 1e-9
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not least <= one < _ABSURD for one in value):
        return "must be a number above 0 and below 10,000,000"
    return "must ascend" if name == "rates_per_s" and sorted(set(value)) != value else ""


async def measure(count: int = 10_000, rounds: int = 3) -> Figures:
    """Return the figures of this machine: medians of some rounds.

    Args:
        count: events of a round at full load, at least 100; a round at a lower rate takes as long.
        rounds: number of rounds at each rate, at least 1.

    Raises:
        Broken: not on Linux, the gateway did not start, answer or deliver, or it did not keep up with a rate.
    """
    load_average = os.getloadavg()[0]
    async with running() as gateway:
        full = [await gateway.round(count) for _ in range(rounds)]
        rate = median(one.rate_per_s for one in full)
        paced = [[await gateway.round(round(one * count), one * rate) for one in _SHARES] for _ in range(rounds)]
        event_bytes = gateway.sink.body_bytes / gateway.sink.deliveries
    columns = (zip(*one, strict=True) for one in [*zip(*paced, strict=True), full])
    points = [[round(median(numbers), 1) for numbers in one] for one in columns]
    rates_per_s, accept_us, commit_us, deliver_us = zip(*points, strict=True)
    if sorted(set(rates_per_s)) != list(rates_per_s):
        raise Broken("other work took the processors during the measurement; measure with nothing else running")
    return Figures(
        rates_per_s,
        accept_us,
        commit_us,
        deliver_us,
        event_bytes=round(event_bytes),
        machine=_machine(),
        measured=f"{datetime.now(UTC):%Y-%m-%d}",
        version=__version__,
        load_average=round(load_average, 1),
    )


class Round(NamedTuple):
    """Events a second until the last was delivered, and the processor time of an event in each process, in µs."""

    rate_per_s: float
    accept_us: float
    commit_us: float
    deliver_us: float


class MeasuredGateway:
    """A gateway with one ingest worker, and its subscriber."""

    def __init__(self, pid: int, target: Target, sink: _Sink) -> None:
        self._pid = pid
        self._target = target
        self.sink = sink

    async def round(self, count: int, rate_per_s: float | None = None) -> Round:
        """Send events, wait until all are answered and delivered, and return what they cost.

        Args:
            count: number of events, at least 1.
            rate_per_s: with random gaps; None: as fast as they are answered.

        Raises:
            Broken: an answer is not 200, a connection ended, or nothing was answered or delivered for long.
        """
        rows = requests("sms-dr", Random(), lambda: datetime.now(UTC))
        messages = [encode(self._target, "/callbacks/sms-dr", next(rows), []) for _ in range(count)]
        before, began, deliveries = _processor_us(self._pid), time.perf_counter(), self.sink.deliveries
        await _send(self._target, messages, rate_per_s)
        await self.sink.wait(deliveries + count)
        took_s, after = time.perf_counter() - began, _processor_us(self._pid)
        return Round(count / took_s, *((after[name] - before[name]) / count for name in ("ingest-0", "log", "deliver")))


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[MeasuredGateway]:
    """Start a gateway that has handled some events already; stop it at the end."""
    if not sys.platform.startswith("linux"):
        raise Broken("--measure reads the processor time of other processes, which only Linux has")
    with tempfile.TemporaryDirectory(prefix="gateway-plan-") as folder:
        sink = _Sink()
        server = await asyncio.get_running_loop().create_server(sink.connection, "127.0.0.1", 0)
        async with server, _process(Path(folder), server.sockets[0].getsockname()[1]) as (pid, target):
            gateway = MeasuredGateway(pid, target, sink)
            await gateway.round(_WARM_UP)
            yield gateway


@contextlib.asynccontextmanager
async def _process(folder: Path, subscriber_port: int) -> AsyncIterator[tuple[int, Target]]:
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
        yield process.pid, Target("127.0.0.1", ports[0], has_tls=False)
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


async def _send(target: Target, messages: Sequence[bytes], rate_per_s: float | None) -> None:
    """Send each message on a connection that has its answer, and wait for the answers."""
    loop, random = asyncio.get_running_loop(), Random()
    free: asyncio.Queue[_Sender] = asyncio.Queue()
    connections = [
        (await loop.create_connection(lambda: _Sender(free), target.host, target.port))[1] for _ in range(_CONNECTIONS)
    ]
    due = loop.time()
    try:
        async with asyncio.timeout(_STALLED_S + 2 * len(messages) / (rate_per_s or 200)):
            for message in messages:
                if rate_per_s:
                    due += random.expovariate(rate_per_s)
                    await asyncio.sleep(max(0.0, due - loop.time()))
                (await _answered(free)).transport.write(message)
            for _ in connections:
                await _answered(free)
    except TimeoutError as exc:
        raise Broken("the measured gateway did not answer in time") from exc
    finally:
        for one in connections:
            one.transport.abort()


async def _answered(free: asyncio.Queue[_Sender]) -> _Sender:
    found = await free.get()
    if found.problem:
        raise Broken(f"the measured gateway {found.problem}")
    return found


class _Sender(asyncio.Protocol):
    """One connection of the load: free at first, after each answer, and when something is wrong."""

    def __init__(self, free: asyncio.Queue[_Sender]) -> None:
        self._free = free
        self.problem = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._free.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        # An answer is a word behind a short head, written at once: it comes in one piece.
        if not data.startswith(b"HTTP/1.1 200 "):
            self.problem = f"answered {data[:100]!r}"
        self._free.put_nowait(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.problem = self.problem or "closed a connection"
        self._free.put_nowait(self)


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


def _processor_us(pid: int) -> dict[str, float]:
    """Return the processor time of each child of the supervisor, by its name without ``gw:``.

    ``/proc/PID/stat`` has the same time, in ticks of 10 ms. The clock of a process is that of clock_getcpuclockid(3).
    """
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        name = Path(f"/proc/{child}/comm").read_text().strip().removeprefix("gw:")
        found[name] = time.clock_gettime(~int(child) << 3 | 2) * 1e6
    return found
