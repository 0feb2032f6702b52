"""A process that reports, as a program: ``python -m tests.admin.reporting SOCKET NAME CALLBACKS [PROBLEM]``.

Counts so many callbacks first. Prints a line when it listens, and one for each SIGUSR1 after it has counted one more.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.admin.parts import Check, own_report
from gateway.telemetry.metrics import BatchedMetrics, Metrics
from gateway.telemetry.reports import ReportServer


async def main(path: Path, name: str, callbacks: int, problem: str) -> None:
    """Serve until SIGTERM."""
    metrics = Metrics(CollectorRegistry())
    batched = BatchedMetrics("gateway_callbacks", "gateway_callback_answer_seconds", metrics)
    metrics.gauge("gateway_kafka_up").labels("publisher").set(float("nan"))

    def count(number: int) -> None:
        metrics.counter("gateway_callbacks").labels("sms-dr", "accepted").inc(number)
        for _ in range(number):
            batched.took("sms-dr", 0.0015)
        print(number, flush=True)  # the test waits for it

    started_at = time.time()
    checks = {"link": lambda: Check("link", problem), "kafka": lambda: Check("kafka", "away", is_needed=False)}
    server = ReportServer(
        path, lambda with_metrics: own_report(name, started_at, checks, metrics, with_metrics=with_metrics)
    )
    await server.start()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, count, 1)
    count(callbacks)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else ""))
