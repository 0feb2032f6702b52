"""Texts of several processes become one that Prometheus takes."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.merging import Merged
from gateway.telemetry.metrics import METRICS
from tests.deploy.artefacts import run


def exported(callbacks: int, client: str) -> str:
    """As one worker exports it: each kind, with labels and without, and a text that needs escaping."""
    registry = CollectorRegistry()
    Counter("callbacks", "Callbacks.", ["callback"], registry=registry).labels("sms-dr").inc(callbacks)
    Gauge("up", 'Is "up".', ["client"], registry=registry).labels(client).set(1)
    seconds = Histogram("seconds", "Time.", buckets=(0.1, 1.0), registry=registry)
    for _ in range(callbacks):
        seconds.observe(0.5)
    return generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_sample_is_kept_and_told_apart_by_its_worker() -> None:
    """Nothing is summed, nothing lost, nothing invented."""
    texts = {0: exported(3, "a"), 7: exported(5, 'b"\\\n')}
    wanted = {
        (name, labels | {("worker", str(number))}): value
        for number, text in texts.items()
        for (name, labels), value in samples(text).items()
    }
    assert wanted == samples(Merged("", texts).text().decode())


def test_a_family_is_described_once() -> None:
    """Prometheus refuses a second TYPE of one name, and samples of it that do not stand together."""
    lines = Merged("", {number: exported(1, "a") for number in range(3)}).text().decode().splitlines()
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) > 2
    names = [line.split("{")[0] for line in lines if not line.startswith("#")]
    groups = [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
    assert {"callbacks_total", "up"} <= {name for name in groups if groups.count(name) == 1}


def test_own_families_stay_as_they_are() -> None:
    """Also where a worker exports the same name without a sample, as it does."""
    own = METRICS.counter("gateway_worker_restarts")
    own.labels("1").inc(0)
    before = own.labels("1")._value.get()
    described = "# HELP gateway_worker_restarts_total x\n# TYPE gateway_worker_restarts_total counter\n"
    text = Merged(METRICS.exported("gateway_worker_restarts"), {0: described}).text().decode()
    assert samples(text)["gateway_worker_restarts_total", frozenset({("worker", "1")})] == before
    assert text.count("# TYPE gateway_worker_restarts_total counter") == 1


def test_a_text_that_is_none_is_refused() -> None:
    """An answer of something else must not become half a metric."""
    with pytest.raises(ValueError, match=r"could not convert|[Ii]nvalid"):
        Merged("", {0: "<html> is no metric </html>"})


def test_promtool_takes_what_several_workers_export() -> None:
    """Prometheus' own linter, on everything that the gateway counts."""
    texts = {number: generate_latest(METRICS.registry).decode() for number in range(2)}
    own = METRICS.exported("gateway_worker_restarts", "gateway_worker_up")
    text = Merged(own, texts).text().decode()
    assert 'gateway_journal_used_bytes{worker="1"}' in text
    run("promtool", "check", "metrics", install="apt-get install prometheus", given=text)
