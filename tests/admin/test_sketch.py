from __future__ import annotations

from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.metrics import bucket, quantile

DURATIONS = st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=60)


@given(DURATIONS, st.floats(0.01, 1.0))
def test_a_quantile_is_within_a_hundredth_of_the_exact_one(durations: list[float], share: float) -> None:
    exact = sorted(durations)[ceil(share * len(durations)) - 1]
    assert quantile(Counter(map(bucket, durations)), share) == pytest.approx(exact, rel=0.01)


@given(DURATIONS, DURATIONS)
def test_the_difference_of_two_readings_is_what_happened_in_between(before: list[float], later: list[float]) -> None:
    first, all_of_them = Counter(map(bucket, before)), Counter(map(bucket, before + later))
    assert all_of_them - first == Counter(map(bucket, later))


@given(st.floats(allow_nan=False))
def test_there_are_few_buckets_whatever_is_counted(seconds: float) -> None:
    """A clock that jumps, 0 and infinity among them."""
    assert bucket(1e-6) <= bucket(seconds) <= bucket(1e6)
    assert bucket(1e6) - bucket(1e-6) < 1500


def test_nothing_counted_is_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({3: 0}, 0.5) is None
