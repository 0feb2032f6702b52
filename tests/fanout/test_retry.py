from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout.attempt import AttemptResult
from gateway.fanout.retry import GiveUp, Retry, RetryPolicy, Stop, decide, retry_after_s
from tests.rows import rows

POLICY = RetryPolicy(attempts=5, first_delay_s=2.0, max_delay_s=10.0, max_age_s=3600.0)


@rows("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    """Any 2xx: there is nothing to decide."""
    assert AttemptResult(status).is_success


def test_410_stops() -> None:
    """410 says that the subscriber wants no more events."""
    assert Stop("gone") == decide(POLICY, 1, AttemptResult(410), Random(1))


@rows("status", [100, 301, 302, 307, 308, 400, 401, 404, 408, 422, 429, 500, 502, 503, 599])
def test_every_other_answer_is_retried_and_then_given_up(status: int) -> None:
    """Redirects are failures as well; after the last attempt the event is given up with a reason."""
    assert not AttemptResult(status).is_success
    assert isinstance(decide(POLICY, 4, AttemptResult(status), Random(1)), Retry)
    assert GiveUp("attempts") == decide(POLICY, 5, AttemptResult(status), Random(1))


def test_failing_events_are_given_up_by_age() -> None:
    """Age counts for what fails only."""
    assert GiveUp("age") == decide(POLICY, 1, AttemptResult(error="timeout"), Random(1), age_s=3600.0)
    assert isinstance(decide(POLICY, 1, AttemptResult(error="timeout"), Random(1), age_s=3599.0), Retry)


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_full_jitter_stays_below_the_exponential_bound(attempt: int, seed: int) -> None:
    """The wait is between 0 and first * 2^(n-1), and never above the maximum, at any attempt."""
    policy = RetryPolicy(attempts=20_000, first_delay_s=2.0, max_delay_s=10.0)
    outcome = decide(policy, attempt, AttemptResult(500), Random(seed))
    assert isinstance(outcome, Retry)
    assert 0.0 <= outcome.delay_s <= min(10.0, 2.0 * 2.0 ** min(attempt - 1, 10))


def test_jitter_is_full() -> None:
    """Waits are spread over the whole range: their mean is half of the bound."""
    rng = Random(3)
    waits = [decide(POLICY, 3, AttemptResult(500), rng) for _ in range(4000)]
    mean = sum(wait.delay_s for wait in waits if isinstance(wait, Retry)) / len(waits)
    assert mean == pytest.approx(4.0, rel=0.05)


@given(asked=st.floats(0, 10**9), seed=st.integers())
def test_retry_after_is_a_lower_bound_up_to_the_cap(asked: float, seed: int) -> None:
    """Not earlier than asked for, unless that is longer than we ever wait."""
    outcome = decide(POLICY, 1, AttemptResult(503, retry_after_s=asked), Random(seed))
    assert isinstance(outcome, Retry)
    assert min(asked, POLICY.max_delay_s) <= outcome.delay_s <= POLICY.max_delay_s


@rows(
    ("text", "expected"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("9" * 400, 999_999_999_999.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        ("Friday, 31-Dec-99 23:59:59 GMT", 59.0),
        ("Fri Dec 31 23:59:59 1999", 59.0),
        ("Fri, 31 Dec 1999 23:00:00 GMT", 0.0),
        ("Fri, 99 Dec 1999 23:00:00 GMT", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 1999 23:59:59 +99999999999999999999", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str | None, expected: float | None) -> None:
    """RFC 9110, section 10.2.3: seconds or any of the three forms of a date; nonsense counts as absent."""
    assert expected == retry_after_s(text, 946684740.0)  # 1999-12-31T23:59:00Z


@given(st.text())
def test_retry_after_never_raises(text: str) -> None:
    """A subscriber cannot break its reader with a header."""
    found = retry_after_s(text, 0.0)
    assert found is None or found >= 0.0
