"""Figures that a gateway publishes about itself, read from its admin port."""

from __future__ import annotations

import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import hold_up


def value(admin_port: int, name: str, **labels: str) -> float | None:
    """Return the sum of the samples of this name and these labels, over all processes; None where there are none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics") as answer:
        text = answer.read().decode()
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def wait_for_zero(admin_port: int, *names: str, timeout_s: float = 120.0) -> None:
    """Wait until all of these gauges are 0. A gauge that the gateway does not have is waited for no longer.

    Raises:
        RuntimeError: the time is over; names the gauge and its value.
    """
    deadline = time.monotonic() + timeout_s
    for name in names:
        while last := value(admin_port, name):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is {last:g} after {timeout_s:g} s")
            hold_up(0.5, "a scrape costs the gateway a few milliseconds, which are counted as its own")
