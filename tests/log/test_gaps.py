"""What readers do not get is told once, by one line for all that miss the same, and counted for each of them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.log import Gap
from gateway.log.gaps import clipped, report_each
from gateway.telemetry.metrics import METRICS

_GAP = Gap("sms.dr-0", 3, 7, "expired")


def _names(count: int) -> list[str]:
    """Of readers that nobody counted before."""
    return sorted(f"gateway.{uuid.uuid4()}" for _ in range(count))


def _counted(metric: str, name: str) -> float:
    return METRICS.counter(metric).labels(name)._value.get()


def test_who_misses_the_same_shares_a_line_and_is_counted_alone() -> None:
    """The line says where, in Kafka's words; of many it names ten, and says how many they are."""
    many, other = _names(12), *_names(1)
    with capture_logs() as lines:
        report_each("kafka", [*((name, _GAP) for name in many), (other, _GAP._replace(first=5))])
    shared, alone = lines
    assert (shared["event"], shared["group"], shared["groups"]) == ("kafka.expired", many[:10], 12)
    where = [shared[field] for field in ("topic", "partition", "first", "last", "count")]
    assert where == ["sms.dr", "sms.dr-0", 3, 7, 5]
    assert (alone["group"], alone["groups"], alone["count"]) == (other, 1, 3)
    assert [_counted("gateway_kafka_skipped_offsets", name) for name in (*many, other)] == [5] * 12 + [3]


def test_a_deleted_topic_is_one_line_with_all_of_its_partitions() -> None:
    """For all that were as far in it; a position that is not known is not made up."""
    one, two, other = _names(3)
    found = [Gap("sms.dr-0", 8, None, "deleted"), Gap("sms.dr-1", 4, None, "deleted")]
    with capture_logs() as lines:
        report_each("kafka", [(name, gap) for gap in found for name in (one, two)])
        report_each("kafka", [(other, found[0]), (other, Gap("sms.dr-1", None, None, "deleted"))])
    told = [(line["event"], line["group"], line["topic"], line["positions"]) for line in lines]
    assert told == [
        ("kafka.recreated", [one, two], "sms.dr", {"sms.dr-0": 8, "sms.dr-1": 4}),
        ("kafka.recreated", other, "sms.dr", {"sms.dr-0": 8}),
    ]
    assert [_counted("gateway_kafka_recreated_topics", name) for name in (one, two, other)] == [1, 1, 1]


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_what_was_passed_is_not_missing(first: int, more: int, passed: int) -> None:
    gap = Gap("sms.dr-0", first, first + more, "expired")
    left = clipped(gap, passed)
    missing = [] if left is None else list(range(left.first or 0, (left.last or 0) + 1))
    assert missing == [offset for offset in range(first, first + more + 1) if offset >= passed]


def test_a_place_in_the_new_topic_says_nothing_of_the_deleted_one() -> None:
    gap = Gap("sms.dr-0", 3, None, "deleted")
    assert clipped(gap, 100) == gap
