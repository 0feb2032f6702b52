from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.fanout import retry_records
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.retry_records import AttemptHistory
from gateway.log import Record
from tests.fanout.events import entry

RECORD = Record("events-0", 7, 1000.0, *entry(1))
NAMES = ["due", "attempts", "trail", "first-attempt-at", "stored-at", "origin", "replay", "moves"]


def test_what_is_parked_is_read_back() -> None:
    """Attempts, history, age, place and due time travel with the event."""
    trail = (
        AttemptHistory()
        .add(1010.0, AttemptResult(500, duration_s=0.25), 1)
        .add(1020.0, AttemptResult(error="timeout"), 2)
    )
    parked = Record("retry.60s", 0, 1021.0, *retry_records.parked(RECORD, "retry.60s", trail, 1080.0, "billing"))
    read = retry_records.read(parked)
    assert ("billing", 1080.0, False, 0) == (read.subscriber, read.due, read.is_replay, read.moves)
    found = read.trail
    assert (2, ((1010.0, "500", 250), (1020.0, "timeout", 0))) == (found.attempts, found.steps)
    assert (1010.0, 1000.0, "sms.dr@events-0:7") == (found.first_at, found.stored_at, found.origin)


@given(st.dictionaries(st.sampled_from(NAMES), st.text() | st.floats().map(str) | st.integers().map(str)))
@example({"attempts": "inf", "due": "nan", "stored-at": "-inf"})
@example({"trail": '[[1, "500", 1e999]]'})
@example({"trail": "[[1e999, null, 5]]"})
def test_headers_that_cannot_be_read_count_as_not_there(told: dict[str, str]) -> None:
    """Whoever wrote the record cannot break the reader with a header: all numbers are finite."""
    found = retry_records.read(RECORD._replace(headers=tuple((f"gateway-{name}", told[name]) for name in told)))
    trail = found.trail
    times = [trail.first_at, trail.stored_at, *(at for at, _, _ in trail.steps)]
    numbers = [found.due, found.moves, trail.attempts, *times]
    assert all(number is None or math.isfinite(number) for number in numbers)


@pytest.mark.parametrize(("delay_s", "tier"), [(59.9, None), (60.0, 60.0), (599.0, 60.0), (1e6, 600.0)])
def test_the_tier_is_the_longest_that_is_not_too_long(delay_s: float, tier: float | None) -> None:
    """Parked for less than it has to wait, never for more."""
    assert tier == retry_records.tier((60.0, 600.0), delay_s)


@pytest.mark.parametrize(
    ("tier_s", "name"),
    [
        (60.0, "retry.60s"),
        (3600.0, "retry.3600s"),
        (0.001, "retry.1ms"),
        (1.5, "retry.1500ms"),
        (2e6, "retry.2000000s"),
    ],
)
def test_a_retry_topic_is_named_by_its_delay_with_one_dot(tier_s: float, name: str) -> None:
    """So that it is told apart from a topic of one subscriber, and Kafka takes the name."""
    assert name == retry_records.retry_topic(tier_s)
