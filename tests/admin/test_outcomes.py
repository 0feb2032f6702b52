from __future__ import annotations

import pytest

from gateway.admin.outcomes import delivery_status
from gateway.admin.subscriber_states import SubscriberState
from gateway.fanout.attempts import Attempt


def attempt(outcome: str, result: str = "500", number: int = 1) -> Attempt:
    return Attempt("billing", "0" * 32, float(number), outcome, result, number, 10)


def status(state: str) -> SubscriberState:
    return SubscriberState(state, f"It is {state}.")  # type: ignore[arg-type]


def replayed(outcome: str, result: str = "200", number: int = 1, name: str = "r-12") -> Attempt:
    return attempt(outcome, result, number)._replace(replay=name)


GIVEN_UP_WHY = f"given up after 2 attempts; the last one: {attempt('retried').sentence}"
AGAIN_WHY = f"in replay r-12: given up after one attempt; the last one: {attempt('retried', '422').sentence}"
GIVEN_UP = [attempt("retried"), attempt("dead_lettered", number=2)]


@pytest.mark.parametrize(
    ("attempts", "outcome", "why"),
    [
        (
            [attempt("delivered", "200"), replayed("delivered")],
            "delivered",
            "at the first attempt; delivered again by replay r-12",
        ),
        (
            [*GIVEN_UP, replayed("delivered")],
            "delivered",
            f"{GIVEN_UP_WHY}; delivered by replay r-12",
        ),
        (
            [*GIVEN_UP, replayed("retried", "503"), replayed("delivered", number=2)],
            "delivered",
            f"{GIVEN_UP_WHY}; delivered by replay r-12 after 2 attempts",
        ),
        (
            [*GIVEN_UP, replayed("dead_lettered", "422")],
            "dead_lettered",
            f"{GIVEN_UP_WHY}; {AGAIN_WHY}",
        ),
        (
            [*GIVEN_UP, replayed("dead_lettered", "422"), replayed("delivered", name="r-13")],
            "delivered",
            f"{GIVEN_UP_WHY}; {AGAIN_WHY}; delivered by replay r-13",
        ),
        (
            [*GIVEN_UP, replayed("withdrawn", "withdrawn", 0)],
            "dead_lettered",
            f"{GIVEN_UP_WHY}; replay r-12 was cancelled before it was delivered again",
        ),
        (
            [attempt("delivered", "200"), replayed("dead_lettered", "422")],
            "delivered",
            f"at the first attempt; {AGAIN_WHY}",
        ),
        ([replayed("delivered")], "delivered", "delivered again by replay r-12"),
    ],
)
def test_a_replay_is_named_and_its_attempts_are_counted_by_themselves(
    attempts: list[Attempt], outcome: str, why: str
) -> None:
    """Never as more attempts of the first delivery."""
    found = delivery_status(attempts, status("healthy"), left_out_by=None, is_passed=True)
    assert (outcome, why) == (found.outcome, found.why)


@pytest.mark.parametrize(
    ("attempts", "state", "left_out_by", "is_passed", "outcome", "word"),
    [
        ([attempt("delivered", "200")], "healthy", None, True, "delivered", "first"),
        ([attempt("retried"), attempt("delivered", "200", 2)], "healthy", None, True, "delivered", "2 attempts"),
        ([attempt("retried")], "down", None, False, "retrying", "down"),
        ([attempt("parked")], "healthy", None, True, "parked", "500"),
        ([attempt("dead_lettered", number=12)], "healthy", None, True, "dead_lettered", "12"),
        ([attempt("dead_lettered"), attempt("lost", "poison")], "healthy", None, True, "lost", "replay"),
        ([attempt("stopped", "410")], "stopped", None, False, "stopped", "410"),
        ([attempt("delivered", "200"), attempt("retried")], "healthy", None, True, "delivered", "2"),
        ([], "healthy", "filter.exact.type", True, "skipped", "its filter.exact.type leaves"),
        ([], "healthy", None, True, "unknown", "position"),
        ([], "paused", None, False, "waiting", "paused"),
        ([], "down", None, False, "waiting", "down"),
        ([], "healthy", None, None, "waiting", "Not attempted"),
    ],
)
def test_what_is_said_of_an_event(
    attempts: list[Attempt], state: str, left_out_by: str | None, is_passed: bool | None, outcome: str, word: str
) -> None:
    """The outcome, and a sentence with what an operator looks for."""
    found = delivery_status(attempts, status(state), left_out_by=left_out_by, is_passed=is_passed)
    assert (found.outcome, word in found.why) == (outcome, True)


def test_a_subscriber_of_another_process() -> None:
    assert delivery_status([], None, left_out_by=None, is_passed=None).outcome == "unknown"
