"""From the platform to the subscriber: ``python -m tests.benchmarks end_to_end``.

SMS receipts come in by HTTP and go out as signed webhooks to a receiver that only says 200, all in one gateway
process on the embedded log. Processor time of the gateway is counted until the last one is delivered. ``in and out``
is the least that Python can do: the bare aiohttp handler's cost plus that of a bare aiohttp client's post.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from tests.benchmarks import fanout, ingest, ingest_requests, report, scrape, wrk
from tests.benchmarks.machine import Service, cores, running
from tests.fanout.events import entry
from tests.ports import free_port
from tests.waiting import hold_up


def run(*, rounds: int = 5, seconds: float = 5.0, connections: int = 64, pinned: bool = True) -> dict[str, Any]:
    wrk.check()
    measured, loading = cores() if pinned else (os.sched_getaffinity(0), os.sched_getaffinity(0))
    cpu: dict[str, list[float]] = {"bare": [], "gateway": []}
    posts, per_s = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = ingest_requests.write("sms-dr", folder)
        receiver_port, admin_port = free_port(), free_port()
        receiver = Service(
            ["-m", "tests.benchmarks.end_to_end", str(receiver_port)],
            receiver_port,
            log=folder / "receiver.log",
            processors=loading,
        )
        url = f"http://127.0.0.1:{receiver_port}/hook"
        subscriber = {
            "name": "all", "topics": ["sms.dr"], "url": url, "allow_private": True, "start": "earliest",
            "secrets": [fanout.SECRET],
        }  # fmt: skip
        gateway = ingest.gateway(
            folder, "gateway", processors=measured, subscribers=[subscriber], admin={"port": admin_port}
        )
        bare = ingest.bare(folder, measured)
        with running(receiver, gateway, bare):
            sent = 0.0
            for number in range(rounds):
                before, wall = gateway.cpu_s(), time.monotonic()
                load, _ = ingest.measure(
                    gateway, requests, folder, connections=connections, seconds=seconds, start=number * 4001,
                    processors=loading,
                )  # fmt: skip
                count = _all_delivered(admin_port, sent + load.requests) - sent
                sent += count
                cpu["gateway"].append((gateway.cpu_s() - before) / count * 1e6)
                per_s.append(count / (time.monotonic() - wall))
                _, spent = ingest.measure(
                    bare, requests, folder, connections=connections, seconds=seconds, start=0, processors=loading
                )
                cpu["bare"].append(spent)
                bodies = [entry(at, f"key-{at % 997}", text="x" * 400) for at in range(2000)]
                posts.append(1e6 / uvloop.run(fanout.bare(url, bodies, 32)))
    both = [one + other for one, other in zip(cpu["bare"], posts, strict=True)]
    found = {
        "gateway": {
            "cpu_us": report.summary(cpu["gateway"]),
            "of_in_and_out": report.ratio(cpu["gateway"], both),
            "per_s": report.summary(per_s, 0),
        },
        "in and out": {
            "cpu_us": report.summary(both),
            "in_us": round(statistics.median(cpu["bare"]), 1),
            "out_us": round(statistics.median(posts), 1),
        },
    }
    for label, figures in found.items():
        print(report.line(label, figures), flush=True)
    return found


def _all_delivered(admin_port: int, wanted: float, timeout_s: float = 300.0) -> float:
    """Wait for the deliveries that are due, and for stragglers that wrk did not wait for."""
    deadline, last = time.monotonic() + timeout_s, -1.0
    while time.monotonic() < deadline:
        now = scrape.value(admin_port, "gateway_deliveries_total", outcome="delivered", subscriber="all") or 0.0
        if now >= wanted and now == last:
            return now
        last = now
        hold_up(0.5, "between two samples")
    raise RuntimeError(f"{last:.0f} of {wanted:.0f} events were delivered in time")


async def receive(port: int) -> None:
    """The subscriber."""
    server = await asyncio.get_running_loop().create_server(fanout.Sinkhole, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(receive(int(sys.argv[1])))
