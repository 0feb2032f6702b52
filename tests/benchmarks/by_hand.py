"""The same job written by hand, durable on all sides: ``python -m tests.benchmarks by_hand``.

SMS receipts go to a Kafka topic with ``acks=all`` and idempotence. ``aiohttp`` and ``fastapi`` answer when Kafka has
acknowledged; ``gateway`` answers when its journal has, and publishes behind that: its processor time is counted until
everything is published. ``bare`` is the yardstick of the other parts. Bars (issue 7): ``gateway`` at most 1.25 of
``bare``; at least 2 × the events per processor second of ``aiohttp`` and 6 × of ``fastapi``, at no worse p99.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import uvloop

from gateway.log.kafka import topics
from gateway.log.kafka.options import KafkaOptions
from tests.benchmarks import ingest, ingest_requests, report, scrape, wrk
from tests.benchmarks.machine import Service, cores, running
from tests.benchmarks.parts import broker
from tests.ports import free_port

SIDES = ("bare", "gateway", "aiohttp", "fastapi")


def by_hand(kind: str, bootstrap: str, folder: Path) -> Service:
    port = free_port()
    return Service([
        "-m", f"tests.benchmarks.by_hand_{kind}", str(port), bootstrap], port, log=folder / f"{kind}.log",
    )  # fmt: skip


def run(*, rounds: int = 5, seconds: float = 5.0, connections: int = 64) -> dict[str, Any]:
    wrk.check()
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    loads: dict[str, list[wrk.Load]] = {side: [] for side in SIDES}
    with broker() as bootstrap, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uvloop.run(topics.create(KafkaOptions((bootstrap,)), ["sms.dr", "by-hand.aiohttp", "by-hand.fastapi"]))
        admin_port = free_port()
        requests = ingest_requests.write("sms-dr", folder)
        sides = {
            "bare": ingest.bare(folder),
            "gateway": ingest.gateway(
                folder, "gateway", kafka={"bootstrap_servers": bootstrap}, admin={"port": admin_port}
            ),
            "aiohttp": by_hand("aiohttp", bootstrap, folder),
            "fastapi": by_hand("fastapi", bootstrap, folder),
        }
        with running(*sides.values()):
            for service in sides.values():
                _warm_up(service, requests, folder)
            _published(admin_port)
            for number in range(rounds):
                for side, service in sides.items():
                    before = service.cpu_s()
                    load, _ = ingest.measure(
                        service, requests, folder, connections=connections, seconds=seconds, start=number * 4001
                    )
                    if side == "gateway":
                        _published(admin_port)
                    cpu[side].append((service.cpu_s() - before) / load.requests * 1e6)
                    loads[side].append(load)
    found: dict[str, Any] = {"cores": {"measured": sorted(cores()[0]), "load": sorted(cores()[1])}}
    for side in SIDES:
        found[side] = {
            "cpu_us": report.summary(cpu[side]),
            "of_bare": report.ratio(cpu[side], cpu["bare"]),
            "gateway_is_times": report.ratio(cpu[side], cpu["gateway"]),
            "per_s": report.summary([load.per_s for load in loads[side]], 0),
            "p99_ms": report.summary([load.p99_s * 1000 for load in loads[side]]),
            "wrk_cpu": report.summary([load.cpu_share for load in loads[side]], 2),
        }
        print(report.line(side, found[side]), flush=True)
    return found


def _warm_up(service: Service, requests: Path, folder: Path) -> None:
    """Until it answers within a run: connections to Kafka are made, caches are filled."""
    for _ in range(20):
        if wrk.drive(service.url, requests, folder, connections=4, seconds=2.0, start=11).requests:
            return
    raise RuntimeError("a side does not answer")


def _published(admin_port: int) -> None:
    """Wait until the publisher has nothing left."""
    scrape.wait_for_zero(admin_port, "gateway_publisher_lag_records")
