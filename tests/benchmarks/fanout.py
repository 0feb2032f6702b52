"""What fan-out costs beside a bare aiohttp client: ``python -m tests.benchmarks.fanout``.

Both post the same bytes (body and headers) to the same receiver, 32 in flight, in turns in one run; the receiver
is a process of its own that finds the end of a request and answers 200. The figure is deliveries per second of
*this* process' CPU time, so that neither the receiver nor a busy machine is measured, and the ratio is the median
of the ratios of neighbouring turns. Fan-out does the whole way: log, filter, schedule, signature, delivery,
watermark, commit, metrics, the record of attempts. Issue 5 asks for a ratio of at least 0.7.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from random import Random
from typing import cast

import aiohttp
import orjson
import uvloop
from prometheus_client import CollectorRegistry
from yarl import URL

from gateway.clock import SystemClock
from gateway.fanout.attempt_log import AttemptLog
from gateway.fanout.attempts import AttemptWriter
from gateway.fanout.filters import compile_filter
from gateway.fanout.filters import wants as asks
from gateway.fanout.reader import SubscriberReader
from gateway.fanout.ssrf import Allowed
from gateway.fanout.subscription import Subscription
from gateway.fanout.subscriptions import GROUP
from gateway.fanout.webhook import WebhookSink
from gateway.log import Entry
from gateway.log.shared_reader import SharedReader
from gateway.signing import Signer
from gateway.telemetry import logs
from gateway.telemetry.metrics import Metrics
from tests.fanout.events import entry
from tests.fanout.memory_log import MemoryLog
from tests.waiting import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Sinkhole(asyncio.Protocol):
    """As little of a receiver as can be: finds the end of each request and answers 200."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            size = int(head[at:].split(b"\r\n", 1)[0])
            if len(self.buffer) < end + 4 + size:
                return
            self.buffer = self.buffer[end + 4 + size :]
            self.transport.write(self.answer)


def receive(pipe: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Sinkhole, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


async def bare(url: str, bodies: list[Entry], concurrency: int) -> float:
    """Workers that post the next body: the least an aiohttp client can do."""
    left = iter(bodies)
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {
        "content-type": "application/cloudevents+json",
        "user-agent": "nxcloud-gateway/0.0.0",
        "webhook-id": "0" * 32,
        "webhook-timestamp": "1760000000",
        "webhook-signature": "v1," + "A" * 43 + "=",
        "traceparent": f"00-{'0' * 32}-{'0' * 16}-01",
    }
    async with aiohttp.ClientSession(connector=connector) as session:
        target = URL(url)

        async def work() -> None:
            for body in left:
                async with session.post(target, data=body.value, headers=headers) as response:
                    await response.read()

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return len(bodies) / (time.process_time() - started)


async def fanout(url: str, bodies: list[Entry], concurrency: int, wants: dict[str, object] | None) -> float:
    """The whole way: log, filter, schedule, signature, delivery, watermark, commit."""
    log = MemoryLog()
    await log.append(bodies)
    clock, rng = SystemClock(), Random(1)
    sink = WebhookSink(
        url, Signer([SECRET]), clock=clock, rng=rng, connections=concurrency, allowed=Allowed(private=True)
    )
    plan = Subscription(
        "bench", ("sms.dr",), concurrency=concurrency, start="earliest", tiers=(), wants=asks(compile_filter(wants))
    )
    metrics = Metrics(CollectorRegistry())
    attempts = AttemptWriter(log, clock=clock, metrics=metrics)
    attempt_log = AttemptLog("bench", clock=clock, metrics=metrics, writer=attempts)
    reading = SharedReader(log, GROUP, clock)
    reader = SubscriberReader(plan, log, sink, reading=reading, clock=clock, rng=rng, attempt_log=attempt_log)
    started = time.process_time()
    attempts.start()
    reader.start()
    reading.start()
    await until(lambda: log.committed.get(("gateway.bench", "events-0"), 0) >= len(bodies), within_s=600)
    await attempts.stop()
    taken = time.process_time() - started
    await reader.stop(1.0)
    await reading.stop()
    return len(bodies) / taken


async def compare(port: int, count: int, rounds: int, concurrency: int) -> dict[str, float]:
    url = f"http://127.0.0.1:{port}/hook"
    bodies = [entry(number, f"key-{number % 997}", text="x" * 400) for number in range(count)]
    found: dict[str, list[float]] = {"bare": [], "fanout": [], "fanout_with_filter": []}
    for _ in range(rounds):
        found["bare"].append(await bare(url, bodies, concurrency))
        found["fanout"].append(await fanout(url, bodies, concurrency, None))
        found["fanout_with_filter"].append(await fanout(url, bodies, concurrency, {"prefix": {"data.to": "+62"}}))
    return {
        **{f"{name}_per_cpu_s": round(statistics.median(values)) for name, values in found.items()},
        "ratio": _ratio(found["fanout"], found["bare"]),
        "ratio_with_filter": _ratio(found["fanout_with_filter"], found["bare"]),
    }


def _ratio(ours: list[float], bare: list[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(ours, bare, strict=True)), 3)


def run(count: int = 2000, rounds: int = 21, concurrency: int = 32) -> dict[str, float]:
    """One comparison in this process, with a receiver in another."""
    logs.configure("info")
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    process.start()
    try:
        return uvloop.run(compare(mine.recv(), count, rounds, concurrency))
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    sys.stdout.write(orjson.dumps(run(**vars(options)), option=orjson.OPT_INDENT_2).decode() + "\n")
