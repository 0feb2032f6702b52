"""Time of the answer at a constant rate: ``python -m tests.benchmarks latency``.

Requests have their times, at shares of what the gateway can take; each counts from the moment it was due, whether or
not a connection was free (coordinated omission: a server that stalls must not be asked less). Bar (issue 7): at 70 %
p99 of at most 10 ms and p99.9 of at most 25 ms, on a disk that syncs in 0.4 ms; the disk here is measured too.

Whether the machine kept its speed is told by the gateway's processor time for each request: a round in which it is
higher than in the others at the same rate had less of the machine, and nearer to 1 processor there is a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import uvloop

from tests.benchmarks import ingest, ingest_requests, report, wrk
from tests.benchmarks.machine import cores, running
from tests.waiting import pause

CONNECTIONS = 64
_WARM_UP_S = 0.5


class Sender(asyncio.Protocol):
    """One connection: one request under way, its latency noted when the answer is here."""

    def __init__(self, free: deque[Sender], done: list[float]) -> None:
        self._free = free
        self._done = done
        self.due = 0.0
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._free.append(self)

    def send(self, message: bytes, due: float) -> None:
        self.due = due
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._done.append(time.perf_counter() - self.due)
        if not data.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        self._free.append(self)


async def constant(
    port: int, messages: list[bytes], rate: float, seconds: float, patience_s: float = math.inf
) -> tuple[list[float], float]:
    """Return the latencies at this rate, and the share of a processor that sending took.

    Args:
        port: of the service.
        messages: whole HTTP requests.
        rate: requests a second.
        seconds: how long requests are due.
        patience_s: for those that are late then; what has no answer after that counts as if it came at the end.
    """
    loop = asyncio.get_running_loop()
    free: deque[Sender] = deque()
    done: list[float] = []
    senders = [Sender(free, done) for _ in range(CONNECTIONS)]
    for sender in senders:
        await loop.create_connection(lambda sender=sender: sender, "127.0.0.1", port)  # type: ignore[misc]
    spent, started = time.process_time(), time.perf_counter()
    total, sent = int(rate * seconds), 0
    while len(done) < total and time.perf_counter() - started < seconds + patience_s:
        due_by_now = min(total, int((time.perf_counter() - started) * rate) + 1)
        while sent < due_by_now and free:
            free.popleft().send(messages[sent % len(messages)], started + sent / rate)
            sent += 1
        await pause(0.0005, "the load's rate")
    now = time.perf_counter()
    share = (time.process_time() - spent) / (now - started)
    done += [now - sender.due for sender in senders if sender not in free]
    done += [now - started - number / rate for number in range(sent, total)]
    for sender in senders:
        sender.transport.close()
    if failed := sum(sender.failed for sender in senders):
        raise RuntimeError(f"{failed} of {total} answers are not 200")
    return done, share


async def capacity(port: int, messages: list[bytes], seconds: float) -> float:
    """Answers a second that this sender gets when it asks for more than there is."""
    loop = asyncio.get_running_loop()
    free: deque[Sender] = deque()
    done: list[float] = []
    senders = [Sender(free, done) for _ in range(CONNECTIONS)]
    for sender in senders:
        await loop.create_connection(lambda sender=sender: sender, "127.0.0.1", port)  # type: ignore[misc]
    started, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) - started < seconds:
        while free:
            free.popleft().send(messages[sent % len(messages)], now)
            sent += 1
        await pause(0.0005, "the load's rate")
    for sender in senders:
        sender.transport.close()
    return len(done) / seconds


@contextlib.contextmanager
def sending_on(processors: set[int]) -> Iterator[None]:
    """This process, which sends, runs on these processors inside."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def percentile_ms(sorted_s: list[float], share: float) -> float:
    return round(sorted_s[min(len(sorted_s) - 1, int(len(sorted_s) * share))] * 1000, 2)


def sync_ms(folder: Path) -> float:
    """What one small write with fdatasync takes on this disk, the median of 100."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(100):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return round(statistics.median(times) * 1000, 2)


def run(*, seconds: float = 15.0, rounds: int = 3, shares: tuple[float, ...] = (0.25, 0.5, 0.7, 0.9)) -> dict[str, Any]:
    """Capacity first, as wrk sees it with as many connections; then each share of it."""
    wrk.check()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"disk_sync_ms": sync_ms(folder)}
        requests = ingest_requests.write("sms-dr", folder)
        messages = requests.read_bytes().split(b"\0")
        service = ingest.gateway(folder, "gateway")
        with running(service):
            load, _ = ingest.measure(
                service, requests, folder, connections=CONNECTIONS, seconds=min(5.0, seconds), start=0
            )
            found["capacity_per_s"] = round(load.per_s)
            print(report.line("capacity and disk", found), flush=True)
            with sending_on(cores()[1]):
                for number in range(rounds):
                    for share in shares:
                        rate = load.per_s * share
                        uvloop.run(constant(service.port, messages, rate, _WARM_UP_S))
                        used_s, started = service.cpu_s(), time.perf_counter()
                        done, spent = uvloop.run(constant(service.port, messages, rate, seconds))
                        used_s, took_s = service.cpu_s() - used_s, time.perf_counter() - started
                        done.sort()
                        label = f"{share:.0%} of capacity" + (f", round {number + 1}" if rounds > 1 else "")
                        found[label] = {
                            "per_s": round(rate),
                            "p50_ms": percentile_ms(done, 0.5),
                            "p99_ms": percentile_ms(done, 0.99),
                            "p999_ms": percentile_ms(done, 0.999),
                            "cpu_us": round(used_s / len(done) * 1e6, 1),
                            "processors": round(used_s / took_s, 2),
                            "sender_cpu": round(spent, 2),
                        }
                        print(report.line(label, found[label]), flush=True)
    return found
