"""Durable accept beside a bare aiohttp handler: ``python -m tests.benchmarks ingest``.

Sides, in turn: ``bare`` reads the body and answers the same bytes; ``accept`` authenticates, decodes, stores durably
and answers; ``ordinary`` is that with ``ingest.fast_path: false``; ``run`` is the whole of ``gateway run``, which
indexes what it stores for look-ups, in a thread behind the accept path. Bars (issue 7): at 64 connections and more
``accept`` costs at most 1.0 of ``bare`` for each event, ``ordinary`` 1.6; 4,096 connections at most 15 % more than 64.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks import ingest_requests, report, wrk
from tests.benchmarks.machine import Service, running
from tests.ports import free_port

SIDES = ("bare", "accept", "ordinary", "run")
#: Callback, connections, keep-alive.
CASES = (
    *(("sms-dr", connections, True) for connections in (1, 64, 512, 4096)),
    *(("sms-dr", connections, False) for connections in (1, 64, 512)),
    ("callbot-task", 64, True),
    ("whatsapp", 64, True),
)


def gateway(
    folder: Path,
    name: str,
    *,
    is_alone: bool = False,
    command: str = "run",
    processors: set[int] | None = None,
    source: Path | None = None,
    **sections: Any,
) -> Service:
    """A gateway of its own folder, with the settings of the benchmarks; whole, or its accept path alone.

    Args:
        folder: for its configuration, its journal and its output.
        name: of all of these.
        is_alone: the accept path without anything that reads.
        command: of the whole gateway, ``run`` or ``serve``.
        processors: to run on; None for those of what is measured.
        source: folder of the code; this repository by default.
        sections: of the configuration.
    """
    port = free_port()
    ingest: dict[str, Any] = {
        "port": port,
        "dedup_window": ingest_requests.COUNT // 10,
        "callbacks": {
            "callbot-task": {"auth": {"signature": {"secret": ingest_requests.SECRET, "algorithm": "md5"}}},
        },
        **sections.pop("ingest", {}),
    }
    config = {
        "ingest": ingest,
        "journal": {"dir": str(folder / name)},
        "admin": {"port": free_port()},
        "log": {"level": "warning", "format": "json"},
        **sections,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    program = ["tests.benchmarks.ingest_alone", str(path)] if is_alone else ["gateway", command, "-c", str(path)]
    return Service(["-m", *program], port, log=folder / f"{name}.log", processors=processors, folder=source)


def bare(folder: Path, processors: set[int] | None = None) -> Service:
    port = free_port()
    arguments = ["-m", "tests.benchmarks.ingest_bare", str(port)]
    return Service(arguments, port, log=folder / "bare.log", processors=processors)


def start(side: str, folder: Path) -> Service:
    if side == "bare":
        return bare(folder)
    return gateway(folder, side, is_alone=side != "run", ingest={"fast_path": side != "ordinary"})


def measure(
    service: Service,
    requests: Path,
    folder: Path,
    *,
    connections: int,
    seconds: float,
    start: int,
    processors: set[int] | None = None,
) -> Any:
    """Load on one side: what wrk saw, and processor µs of the side for each request."""
    before = service.cpu_s()
    load = wrk.drive(
        service.url, requests, folder, connections=connections, seconds=seconds, start=start, processors=processors
    )
    spent = service.cpu_s() - before
    if load.other_answers or not load.requests:
        raise RuntimeError(
            f"{load.other_answers} of {load.requests} answers are not 200, {load.socket_errors} socket errors, "
            f"at {service.url}; its last lines:\n{service.last_lines()}"
        )
    return load, spent / load.requests * 1e6


def run(*, rounds: int = 5, seconds: float = 5.0, cases: tuple[tuple[str, int, bool], ...] = CASES) -> dict[str, Any]:
    """All cases; each round drives every side once."""
    wrk.check()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = {side: start(side, folder) for side in SIDES}
        with running(*sides.values()):
            for callback, connections, keep_alive in cases:
                label = f"{callback}, {connections} connections{'' if keep_alive else ', one request each'}"
                found[label] = _case(sides, folder, callback, connections, keep_alive, rounds, seconds)
                for side, figures in found[label].items():
                    print(report.line(f"{label}: {side}", figures), flush=True)
    return found


def _case(
    sides: dict[str, Service],
    folder: Path,
    callback: str,
    connections: int,
    keep_alive: bool,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    requests = ingest_requests.write(callback, folder, keep_alive=keep_alive)
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    loads: dict[str, list[wrk.Load]] = {side: [] for side in sides}
    for number in range(rounds):
        for side, service in sides.items():
            load, spent = measure(
                service, requests, folder, connections=connections, seconds=seconds, start=number * 4001
            )
            cpu[side].append(spent)
            loads[side].append(load)
    return {
        side: {
            "cpu_us": report.summary(cpu[side]),
            "of_bare": report.ratio(cpu[side], cpu["bare"]),
            "per_s": report.summary([load.per_s for load in loads[side]], 0),
            "p99_ms": report.summary([load.p99_s * 1000 for load in loads[side]]),
            "wrk_cpu": report.summary([load.cpu_share for load in loads[side]], 2),
        }
        for side in sides
    }
