from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.admin.readings import Readings, quantile
from gateway.telemetry.metrics import Metrics


def test_rates_shares_and_quantiles_of_what_happened() -> None:
    """Differences over time, per label; what did not happen is not in a point."""
    metrics = Metrics(CollectorRegistry())
    readings = Readings(metrics)
    readings.take(100.0, {})
    metrics.counter("gateway_callbacks").labels("sms-dr", "accepted").inc(20)
    metrics.counter("gateway_callbacks").labels("sms-dr", "rejected").inc(2)
    metrics.counter("gateway_deliveries").labels("billing", "delivered").inc(8)
    metrics.counter("gateway_deliveries").labels("billing", "retried").inc(2)
    for _ in range(22):
        metrics.histogram("gateway_callback_answer_seconds").labels("sms-dr").observe(0.0015)
    point = readings.take(102.0, {"journal:all:records": 7.0, "nothing:all:lag": 0.0})
    assert point.values["callback:sms-dr:rate"] == 11
    assert point.values["callback:sms-dr:refused"] == 1
    assert point.values["subscriber:billing:delivered"] == 4
    assert point.values["subscriber:billing:failed"] == 1
    assert 0.001 < point.values["intake:all:p99"] <= 0.002
    assert (point.values["journal:all:records"], "nothing:all:lag" in point.values) == (7.0, False)
    assert readings.rate("gateway_callbacks", "sms-dr") == 11
    assert readings.rate("gateway_callbacks", "voice-dr") == 0
    assert readings.total("gateway_callbacks", "sms-dr", "accepted") == 20
    assert readings.quantile("gateway_delivery_attempt_seconds", 0.5, "billing") is None
    assert readings.take(104.0, {}).values == {}


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8), st.floats(0.01, 1.0))
def test_quantiles_lie_in_the_bucket_that_holds_them(counts: list[int], share: float) -> None:
    """Never outside the bounds, rising with the share; nothing counted is no quantile."""
    bounds = [float(number + 1) for number in range(len(counts) - 1)] + [math.inf]
    total = 0
    buckets = [(bound, float(total := total + count)) for bound, count in zip(bounds, counts, strict=True)]
    found = quantile(buckets, share)
    if not total:
        assert found is None
        return
    assert found is not None
    assert 0 <= found <= bounds[-2]
    higher = quantile(buckets, 1.0)
    assert higher is not None
    assert found <= higher + 1e-9


def test_nothing_was_read_yet() -> None:
    readings = Readings(Metrics(CollectorRegistry()))
    assert (readings.rate("gateway_callbacks"), readings.names("gateway_callbacks")) == (0.0, [])
    assert readings.quantile("gateway_callback_answer_seconds", 0.5) is None
    assert quantile([], 0.5) is None
    assert quantile([(1.0, 0.0), (math.inf, 4.0)], 0.5) == pytest.approx(1.0)
