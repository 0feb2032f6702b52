"""How long others wait, and what memory it takes, while hostile bodies of 1 MiB are taken in: ``… hostile``.

Each shape of :mod:`tests.hostile.shapes` is posted to a gateway of its own process, with a journal, search and two
subscribers' filters, as users run it; meanwhile another connection posts small callbacks as fast as they are answered.
At the end 64 connections post the worst of them at once. Bar: the longest wait of a small callback below 250 ms on two
processors, and memory below 300 MiB.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import report
from tests.gateway.process import GatewayProcess
from tests.hostile.corpus import sized
from tests.hostile.shapes import form_shapes, json_shapes
from tests.waiting import pause

MIB: Final = 1024 * 1024
TOGETHER: Final = 64


#: Small callbacks that are sent after an attack is over: what it left behind meets them.
AFTER: Final = 50


def run(size: int = MIB, rounds: int = 3, together: int = TOGETHER, after: int = AFTER) -> dict[str, Any]:
    """Return longest wait and memory for each shape, the best of some rounds: other load only adds to it."""
    return asyncio.run(measured(size, rounds, together, after))


async def measured(size: int, rounds: int, together: int, after: int) -> dict[str, Any]:
    """See :func:`run`."""
    cases = {name: ("whatsapp", body[:size]) for name, body in json_shapes(size).items()}
    cases |= {name: ("sms-dr", body[:size]) for name, body in form_shapes(size).items()}
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with gateway(Path(folder)) as running:
            quiet = await longest_wait(running, lambda: pause(1.0, "so long it is measured"), after)
            figures["nothing else"] = {"wait_ms": quiet, "memory_mib": memory(running)}
            for name, (path, body) in cases.items():
                waits = [
                    await longest_wait(running, lambda: post(running, path, body), after)  # noqa: B023
                    for _ in range(rounds)
                ]
                figures[name] = {"wait_ms": min(waits), "memory_mib": memory(running)}
                print(report.line(name, figures[name]), flush=True)
            worst = max(cases, key=lambda name: figures[name]["wait_ms"])
            path, body = cases[worst]
            for name in (worst, "items with an envelope", "fractions"):
                path, body = cases[name]
                label = f"{together} at once: {name}"
                wait = await longest_wait(
                    running, lambda: asyncio.gather(*(post(running, path, body) for _ in range(together))),  # noqa: B023
                    after,
                )  # fmt: skip
                figures[label] = {"wait_ms": wait, "memory_mib": memory(running)}
                print(report.line(label, figures[label]), flush=True)
    figures["worst"] = {name: max(row[name] for row in figures.values()) for name in ("wait_ms", "memory_mib")}
    print(report.line("worst", figures["worst"]), flush=True)
    return figures


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway with everything that reads events behind it."""
    subscribers = [
        {"name": f"s{number}", "kind": "file", "path": str(folder / f"s{number}"), "topics": ["message.status"]}
        | {"filter": {"prefix": {"data.to": f"+{number}"}}}
        for number in range(2)
    ]
    running = GatewayProcess(folder, {"subscribers": subscribers})
    await running.start()
    try:
        yield running
    finally:
        await running.terminate()


async def longest_wait(running: GatewayProcess, attack: Callable[[], Awaitable[Any]], after: int) -> float:
    """Milliseconds of the slowest of the small callbacks that were sent during an attack, and of some after it."""
    port = int(running.config["ingest"]["port"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    task = asyncio.ensure_future(attack())
    longest, number = 0.0, 0
    left = after
    while left:
        left -= task.done()
        number += 1
        started = time.perf_counter()
        writer.write(sized(b"messageid=%d-%d&phone=15550100200&status=2" % (time.monotonic_ns(), number)))
        answer = await reader.readuntil(b"success")
        assert answer.startswith(b"HTTP/1.1 200 ")
        longest = max(longest, time.perf_counter() - started)
        await pause(0.002, "the rate of a quiet sender")
    writer.close()
    await task
    return round(longest * 1000, 1)


async def post(running: GatewayProcess, path: str, body: bytes) -> bytes:
    """Post one body; the status line of its answer, or nothing when the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.config["ingest"]["port"]))
    status = b""
    with suppress(OSError):
        kind = b"Content-Type: application/json" if path == "whatsapp" else b""
        writer.write(sized(body, *([kind] if kind else []), target=b"/callbacks/" + path.encode()))
        status = await reader.readline()
    writer.close()
    assert status.split(b" ", 2)[1:2] in ([b"200"], [b"400"], [b"503"], []), status
    return status


def memory(running: GatewayProcess) -> float:
    """Most memory that its processes ever held, MiB, each at its own time; what they share now is counted once."""
    peaks = shared = 0
    for pid in running.pids():
        status = Path(f"/proc/{pid}/status").read_text()
        peaks += kibibytes(status, "VmHWM")
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        shared += kibibytes(rollup, "Rss") - kibibytes(rollup, "Pss")
    return round((peaks - shared) / 1024, 1)


def kibibytes(text: str, name: str) -> int:
    """One figure of a file that proc(5) describes."""
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
