"""What is made of attempts that were written down."""

from __future__ import annotations

import pytest

from tests.benchmarks import report
from tests.benchmarks.pauses import Deliveries, summary
from tests.benchmarks.receiver import Attempt

#: Events of two keys, each a second after the one before.
GIVEN = [float(number) for number in range(10)]


def deliveries(*attempts: Attempt) -> Deliveries:
    return Deliveries(GIVEN, 2, attempts)


def at_once(*numbers: int) -> list[Attempt]:
    return [Attempt(number, GIVEN[number] + 0.1, GIVEN[number] + 0.2) for number in numbers]


def test_all_is_well() -> None:
    found = summary([deliveries(*at_once(*range(10)))], 0.0, 20.0)
    assert found == {
        "pause_median_s": pytest.approx(0.1),
        "pause_max_s": pytest.approx(0.1),
        "repeats": 0,
        "out_of_order": 0,
        "in_flight_twice": 0,
    }


def test_a_pause_lasts_from_the_event_that_waits() -> None:
    """And not from the last one that came: nothing waited in between."""
    late = [Attempt(4, 7.5, 7.6), Attempt(6, 7.6, 7.7), Attempt(8, 8.1, 8.2)]
    found = deliveries(*at_once(0, 2, 1, 3, 5, 7, 9), *late)
    assert found.pauses(0.0, 20.0) == pytest.approx([3.5, 0.1])
    assert found.pauses(5.0, 20.0) == pytest.approx([2.5, 0.1])
    assert found.lost() == 0


def test_an_attempt_at_what_came_before_is_a_repeat_and_no_disorder() -> None:
    found = deliveries(*at_once(*range(10)), Attempt(2, 9.5, 9.6))
    assert (found.repeats(), found.out_of_order(), found.in_flight_twice()) == (1, 0, 0)
    assert (summary([found], 0.0, 9.4)["repeats"], summary([found], 9.4, 20.0)["repeats"]) == (0, 1)


def test_disorder_is_an_event_that_comes_first_after_a_later_one() -> None:
    found = deliveries(*at_once(0, 4, 6, 8, 1, 3, 5, 7, 9), Attempt(2, 9.0, 9.1))
    assert found.out_of_order() == 1
    assert (summary([found], 0.0, 8.9)["out_of_order"], summary([found], 8.9, 20.0)["out_of_order"]) == (0, 1)


def test_two_attempts_of_a_key_at_once_are_seen() -> None:
    found = deliveries(Attempt(0, 0.1, 3.0), Attempt(2, 2.5, 2.6), Attempt(1, 1.0, 9.0))
    assert found.in_flight_twice() == 1
    assert found.lost() == 7


def test_bars_that_are_missed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"one": {"cpu": 1.0, "speed": 9.0}, "two": {"cpu": 4.0, "speed": 2.0, "more": 7}}
    bars = {"one": {"cpu": 3.0}, "two": {"cpu": 3.0, "more": 7.0}}
    missed = report.judge(rows, bars, least={"two": {"speed": 5.0}})
    assert missed == ["two: cpu 4.0 > 3", "two: speed 2.0 < 5"]
    printed = capsys.readouterr().out
    assert "1.0 ≤ 3" in printed
    assert "7 ≤ 7" in printed
