"""The benchmarks of single modules as parts of the one command."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator
from typing import Any

import uvloop

from tests.benchmarks import decoders as decoding
from tests.benchmarks import publish as publishing
from tests.benchmarks import report
from tests.broker import cluster


def decoders(rounds: int | None = None) -> dict[str, Any]:
    """Events a second of each decoder, see :mod:`tests.benchmarks.decoders`."""
    if rounds is not None:
        decoding.ROUNDS = rounds
    samples = list(decoding.chosen([]))
    found: dict[str, Any] = {}
    for sample, rate in zip(samples, decoding.best_rates(samples), strict=True):
        label = f"{sample.callback}, {sample.case}"
        found[label] = {
            "us": round(1e6 / rate, 1),
            "per_s": round(rate),
            "wanted": decoding.WANTED_OF.get(sample.callback, decoding.WANTED),
        }
        print(report.line(label, found[label]), flush=True)
    return found


def publish(events: int = 100_000, rounds: int = 3) -> dict[str, Any]:
    """Processor time for each published event, see :mod:`tests.benchmarks.publish`."""
    cpu: dict[str, list[float]] = {name: [] for name in publishing.CONTENDERS}
    rates: dict[str, list[float]] = {name: [] for name in publishing.CONTENDERS}
    with broker() as bootstrap:
        for name in publishing.CONTENDERS:
            uvloop.run(publishing.measure(bootstrap, name, min(10_000, events)))
        for _ in range(rounds):
            for name in publishing.CONTENDERS:
                spent, rate = uvloop.run(publishing.measure(bootstrap, name, events))
                cpu[name].append(spent)
                rates[name].append(rate)
    found: dict[str, Any] = {}
    for name, values in cpu.items():
        found[name] = {
            "cpu_us": report.summary(values),
            "of_plain": report.ratio(values, cpu["plain send()"]),
            "per_s": report.summary(rates[name], 0),
            "per_cpu_s": round(1e6 / statistics.median(values)),
        }
        print(report.line(name, found[name]), flush=True)
    return found


@contextlib.contextmanager
def broker(extra: dict[str, str] | None = None, *, is_fresh: bool = False) -> Iterator[str]:
    """The address of a broker: of KAFKA_BOOTSTRAP_SERVERS, or of one that is started for us.

    Args:
        extra: settings of the broker; with them one is started in any case.
        is_fresh: one is started in any case, as nobody must have used it yet.
    """
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named and not extra and not is_fresh:
        yield named
        return
    made = cluster.create(extra=extra)
    try:
        made.start()
        yield made.bootstrap
    finally:
        made.remove()
