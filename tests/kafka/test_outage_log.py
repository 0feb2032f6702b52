"""What is logged of an outage, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.log.kafka.errors import AUTHENTICATION, AUTHORISATION, AWAY, THROTTLED, UNKNOWN_TOPIC, WORDS, Problem
from gateway.log.kafka.outage import OutageLog

_AWAY = Problem(AWAY, "127.0.0.1:9092: connection refused")
_RIGHT = Problem(AUTHORISATION, "TopicAuthorizationFailed: sms.dr")


class Time:
    """Seconds, and what is due at them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self._due.append((self.now + seconds, function))

    def pass_(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [one for one in self._due if one[0] <= until]:
            first = min(due, key=lambda one: one[0])
            self._due.remove(first)
            self.now = first[0]
            first[1]()
        self.now = until


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


def _log(time: Time) -> OutageLog:
    return OutageLog(monotonic=lambda: time.now, call_later=time.call_later)


def _names(lines: list[Any]) -> list[str]:
    return [line["event"].removeprefix("kafka.") for line in lines]


def test_an_outage_of_many_clients_is_three_kinds_of_line(lines: list[Any]) -> None:
    """One at its begin, with the first client and the advice; one a minute, with the counts; one at its end."""
    time = Time()
    log = _log(time)
    clients = [f"gateway.s{number}" for number in range(100)]
    for _ in range(60):
        for client in clients:
            log.problem(client, "", _AWAY)
        time.pass_(3.0)
    for client in clients:
        log.solved(client, "")
    assert _names(lines) == ["unavailable", *["still_unavailable"] * 3, "available"]
    begin, still, *_, end = lines
    assert (begin["client"], begin["word"], begin["reason"]) == ("gateway.s0", AWAY, _AWAY.text)
    assert begin["advice"] == WORDS[AWAY]
    assert (still["clients"], still["words"], still["lasted_s"]) == (100, {AWAY: 100}, 60.0)
    assert (end["lasted_s"], end["clients"], end["word"]) == (180.0, 100, AWAY)
    time.pass_(600.0)
    assert len(lines) == 5


def test_each_word_and_each_topic_is_an_outage_of_its_own(lines: list[Any]) -> None:
    """A right that is missing on two topics is said for both, also while Kafka is away; each end, too."""
    time = Time()
    log = _log(time)
    log.problem("publisher", "sms.dr", _RIGHT)
    log.problem("publisher", "call.event", _RIGHT)
    log.problem("gateway.billing", "", _AWAY)
    log.problem("publisher", "email.dr", _AWAY)  # not another one: a topic that cannot be reached as Kafka is away
    assert [(line["word"], line["topic"]) for line in lines] == [
        (AUTHORISATION, "sms.dr"),
        (AUTHORISATION, "call.event"),
        (AWAY, None),
    ]
    time.pass_(60.0)
    assert lines[-1]["words"] == {AUTHORISATION: 1, AWAY: 2}
    assert lines[-1]["topics"] == ["call.event", "sms.dr"]
    assert lines[-1]["advice"] == WORDS[AUTHORISATION]
    log.solved("publisher", "call.event")
    assert (lines[-1]["event"], lines[-1]["topic"]) == ("kafka.available", "call.event")


def test_a_reason_that_changes_is_said_and_is_no_end(lines: list[Any]) -> None:
    """Away, then a password that is refused: there is no "available" in between."""
    time = Time()
    log = _log(time)
    log.problem("publisher", "", _AWAY)
    log.problem("publisher", "", Problem(AUTHENTICATION, "invalid user name or password"))
    assert [line["word"] for line in lines] == [AWAY, AUTHENTICATION]
    log.solved("publisher", "")
    assert _names(lines) == ["unavailable", "unavailable", "available"]


def test_what_comes_and_goes_all_the_time_is_said_now_and_then(lines: list[Any]) -> None:
    """As often as six times a minute at most, begin and end together."""
    time = Time()
    log = _log(time)
    for _ in range(600):
        log.problem("publisher", "", _AWAY)
        time.pass_(0.05)
        log.solved("publisher", "")
        time.pass_(0.05)
    assert len(lines) <= 2 * 6 + 2


def test_an_outage_that_comes_back_at_once_is_not_said_again(lines: list[Any]) -> None:
    """However long it lasted: what counts is the time since its end."""
    time = Time()
    log = _log(time)
    log.problem("publisher", "", _AWAY)
    time.pass_(40.0)
    log.solved("publisher", "")
    time.pass_(9.0)
    log.problem("publisher", "", _AWAY)
    log.solved("publisher", "")
    assert _names(lines) == ["unavailable", "available"]
    time.pass_(2.0)
    log.problem("publisher", "", _AWAY)
    assert _names(lines) == ["unavailable", "available", "unavailable"]


def test_a_client_that_is_made_anew_goes_on_with_its_outage(lines: list[Any]) -> None:
    """As a reader is after each try. One that never comes back is forgotten without a word."""
    time = Time()
    log = _log(time)
    for _ in range(20):
        log.problem("gateway.billing", "sms.dr", _RIGHT)
        log.gone("gateway.billing")
        time.pass_(1.0)
    assert _names(lines) == ["unavailable"]
    log.solved("gateway.billing", "sms.dr")
    assert _names(lines) == ["unavailable", "available"]
    time.pass_(60.0)
    log.problem("gateway.billing", "sms.dr", _RIGHT)
    log.gone("gateway.billing")
    time.pass_(600.0)
    assert _names(lines) == ["unavailable", "available", "unavailable", "still_unavailable"]


def test_a_quota_has_lines_of_its_own(lines: list[Any]) -> None:
    """It is no outage."""
    time = Time()
    log = _log(time)
    log.problem("publisher", "quota", Problem(THROTTLED, "by 1.0 s"))
    time.pass_(60.0)
    log.solved("publisher", "quota")
    assert _names(lines) == ["throttled", "still_throttled", "not_throttled"]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["problem", "solved", "gone"]),
        st.sampled_from(["publisher", "gateway.a", "gateway.b"]),
        st.sampled_from(["", "sms.dr"]),
        st.sampled_from([AWAY, AUTHENTICATION, UNKNOWN_TOPIC]),
        st.floats(0.0, 40.0),
    ),
    max_size=60,
)


@given(_STEPS)
def test_lines_are_bounded_and_every_end_has_a_begin(steps: list[tuple[str, str, str, str, float]]) -> None:
    """Whatever clients report, in any order: by time, not by the number of reports."""
    time = Time()
    log = _log(time)
    with capture_logs() as lines:
        for what, client, subject, word, seconds in steps:
            if what == "problem":
                log.problem(client, subject, Problem(word, "said"))
            elif what == "solved":
                log.solved(client, subject)
            else:
                log.gone(client)
            time.pass_(seconds)
    outages = {(line["word"], line["topic"]) for line in lines if "word" in line}
    passed_s = time.now - 1000.0
    begins = [line for line in lines if line["event"] == "kafka.unavailable"]
    ends = [line for line in lines if line["event"] == "kafka.available"]
    still = [line for line in lines if line["event"] == "kafka.still_unavailable"]
    assert len(still) <= passed_s / 60.0
    assert len(begins) <= len(outages) * (1 + passed_s / 10.0)
    assert len(ends) <= len(begins) + len(still)
    assert len(lines) == len(begins) + len(ends) + len(still)
