"""Two ingest processes beside one: ``python -m tests.benchmarks workers``.

``gateway serve`` on one port with one ingest process and with two, which share the log process, without Kafka to write
to (its broker is away, so that publishing is no part of it) and without fan-out. What is measured is all processes.
Load comes by a connection for each 64. An event should cost the same with two, within 5 %; how many more events two
take depends on the processors that load and log process leave to them: on two processors in all, hardly any.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks import ingest, ingest_requests, report, wrk
from tests.benchmarks.machine import Service, running
from tests.ports import free_port

WORKERS = (1, 2)


def serve(folder: Path, workers: int) -> Service:
    """``gateway serve`` with so many workers, on all processors."""
    name = f"workers-{workers}"
    port = free_port()
    config = {
        "ingest": {"port": port, "dedup_window": ingest_requests.COUNT // 10},
        "journal": {"dir": str(folder / name)},
        "kafka": {"bootstrap_servers": "127.0.0.1:9"},
        "admin": {"port": free_port()},
        "log": {"level": "error", "format": "json"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    arguments = ["-m", "gateway", "serve", "--workers", str(workers), "-c", str(path)]
    return Service(arguments, port, log=folder / f"{name}.log", processors=set(os.sched_getaffinity(0)))


def run(*, rounds: int = 5, seconds: float = 5.0, connections: int = 64) -> dict[str, Any]:
    """One and two in turn."""
    wrk.check()
    cpu: dict[int, list[float]] = {count: [] for count in WORKERS}
    per_s: dict[int, list[float]] = {count: [] for count in WORKERS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests = ingest_requests.write("sms-dr", folder)
        sides = {count: serve(folder, count) for count in WORKERS}
        with running(*sides.values()):
            for number in range(rounds):
                for count, service in sides.items():
                    load, spent = ingest.measure(
                        service, requests, folder, connections=connections, seconds=seconds, start=number * 4001
                    )
                    cpu[count].append(spent)
                    per_s[count].append(load.per_s)
    found: dict[str, Any] = {"processors": len(os.sched_getaffinity(0))}
    for count in WORKERS:
        label = f"{count} worker{'s' if count > 1 else ''}"
        found[label] = {
            "cpu_us": report.summary(cpu[count]),
            "of_one": report.ratio(cpu[count], cpu[1]),
            "per_s": report.summary(per_s[count], 0),
            "times_one": report.ratio(per_s[count], per_s[1]),
        }
        print(report.line(label, found[label]), flush=True)
    return found
