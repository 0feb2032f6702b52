from __future__ import annotations

import time

import orjson
import pytest
from prometheus_client import CollectorRegistry

from gateway.admin.rates import Rates
from gateway.telemetry.metrics import BatchedMetrics, Counts, Metrics, counts


async def test_rates_shares_and_quantiles_of_what_happened() -> None:
    """Differences over time, per label; what did not happen is not in a point."""
    metrics = Metrics(CollectorRegistry())
    rates = Rates(metrics)
    rates.take(100.0, {})
    metrics.counter("gateway_callbacks").labels("sms-dr", "accepted").inc(20)
    metrics.counter("gateway_callbacks").labels("sms-dr", "rejected").inc(2)
    metrics.counter("gateway_deliveries").labels("billing", "delivered").inc(8)
    metrics.counter("gateway_deliveries").labels("billing", "retried").inc(2)
    batched = BatchedMetrics("gateway_callbacks", "gateway_callback_answer_seconds", metrics)
    for _ in range(22):
        batched.took("sms-dr", 0.0015)
    point = rates.take(102.0, {"journal:all:records": 7.0, "nothing:all:lag": 0.0})
    assert point.values["callback:sms-dr:rate"] == 11
    assert point.values["callback:sms-dr:refused"] == 1
    assert point.values["subscriber:billing:delivered"] == 4
    assert point.values["subscriber:billing:failed"] == 1
    assert point.values["intake:all:p99"] == pytest.approx(0.0015, rel=0.01)
    assert (point.values["journal:all:records"], "nothing:all:lag" in point.values) == (7.0, False)
    assert rates.rate("gateway_callbacks", "sms-dr") == 11
    assert rates.rate("gateway_callbacks", "voice-dr") == 0
    assert rates.total("gateway_callbacks", "sms-dr", "accepted") == 20
    assert rates.quantile("gateway_callback_answer_seconds", 0.99) == pytest.approx(0.0015, rel=0.01)
    assert rates.quantile("gateway_delivery_attempt_seconds", 0.5, "billing") is None
    assert rates.take(104.0, {}).values == {}


async def test_a_time_out_is_shown_as_long_as_it_is() -> None:
    """Attempts that all end after the 3 s of ``timeout_s: 3`` have 3 s at each quantile, not an edge of a bucket."""
    metrics = Metrics(CollectorRegistry())
    rates = Rates(metrics)
    rates.take(100.0, {})
    batched = BatchedMetrics("gateway_deliveries", "gateway_delivery_attempt_seconds", metrics)
    for _ in range(40):
        batched.took("billing", 3.002)
    values = rates.take(102.0, {}).values
    for share in ("p50", "p99"):
        assert values[f"subscriber:billing:{share}"] == pytest.approx(3.0, rel=0.011)


def test_nothing_was_read_yet() -> None:
    rates = Rates(Metrics(CollectorRegistry()))
    assert (rates.rate("gateway_callbacks"), rates.names("gateway_callbacks")) == (0.0, [])
    assert rates.quantile("gateway_callback_answer_seconds", 0.5) is None


def test_hundreds_of_idle_subscribers_cost_next_to_nothing() -> None:
    """A reading of 300 that have delivered takes less than a hundredth of the time between two."""
    metrics = Metrics(CollectorRegistry())
    for number in range(300):
        for outcome in ("delivered", "retried", "parked"):
            metrics.counter("gateway_deliveries").labels(f"subscriber-{number}", outcome).inc()
        metrics.sketch("gateway_delivery_attempt_seconds", f"subscriber-{number}").update(dict.fromkeys(range(20), 1))
    rates = Rates(metrics)
    rates.take(100.0, {})
    began = time.thread_time()
    for step in range(20):
        assert rates.take(102.0 + 2 * step, {}).values == {}
    assert (time.thread_time() - began) / 20 < 0.02  # of the 2 s; 2 ms on a quiet machine


def test_counts_travel_as_json() -> None:
    """What another process reads is what was counted."""
    metrics = Metrics(CollectorRegistry())
    metrics.counter("gateway_deliveries").labels("billing", "delivered").inc(3)
    metrics.observe("gateway_journal_commit_seconds", 0.004)
    found = Counts.parse(orjson.loads(orjson.dumps(counts(metrics).document())))
    assert found == counts(metrics)
    assert found.counters == {("gateway_deliveries", ("billing", "delivered")): 3.0}
    assert list(found.durations) == [("gateway_journal_commit_seconds", ())]
