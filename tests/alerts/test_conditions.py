from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts.rules import (
    DAY_S,
    AlertFacts,
    JournalFacts,
    Key,
    Rhythm,
    Rhythms,
    SubscriberFacts,
    is_unknown,
    problems,
)
from gateway.config.sections import AlertThresholds, Rule

NOW = 20_000 * DAY_S
LIMITS = AlertThresholds()


def rules(facts: AlertFacts) -> set[tuple[str, str]]:
    return {(key.rule, key.subject) for key in problems(facts, LIMITS)}


@pytest.mark.parametrize(
    ("state", "letters", "expected"),
    [
        ("healthy", 0, set()),
        ("degraded", 0, set()),
        ("paused", 0, set()),
        (None, None, set()),
        ("down", 0, {("subscriber_down", "billing")}),
        ("stopped", None, {("subscriber_down", "billing")}),
        ("degraded", 3, {("dead_letters", "billing")}),
    ],
)
def test_subscribers(state: str | None, letters: int | None, expected: set[tuple[str, str]]) -> None:
    facts = AlertFacts(NOW, {"billing": SubscriberFacts(state, "Because.", letters)})
    assert rules(facts) == expected
    given: tuple[tuple[Rule, object], ...] = (("subscriber_down", state), ("dead_letters", letters))
    for rule, value in given:
        assert is_unknown(facts, Key(rule, "billing")) == (value is None)
        assert not is_unknown(facts, Key(rule, "removed"))


def test_a_full_journal_that_everybody_has_read_is_no_problem() -> None:
    """The oldest events go first; only what somebody still needs makes it one."""
    for used, held, expected in ((79, "Kafka", set()), (80, "", set()), (80, "Kafka", {("journal_filling", "")})):
        assert rules(AlertFacts(NOW, journal=JournalFacts(used, 100, held))) == expected


def test_topics_that_kafka_does_not_accept() -> None:
    assert rules(AlertFacts(NOW, topics={"sms.dr": "no right to write."})) == {("topic_stuck", "sms.dr")}
    assert rules(AlertFacts(NOW, topics=None)) == set()


def test_a_callback_is_silent_after_a_multiple_of_its_longest_pause() -> None:
    """Not in its first day; never before a quarter of an hour; what is usual is learned."""
    often = Rhythm(NOW - 2 * DAY_S, NOW - 901, {19_999: 60.0})
    daily = Rhythm(NOW - 7 * DAY_S, NOW - 30 * 3600, {19_995: 16 * 3600.0})
    new = Rhythm(NOW - DAY_S + 1, NOW - DAY_S + 1)
    facts = AlertFacts(NOW, rhythms={"sms-dr": often, "pns": daily, "ota": new})
    assert rules(facts) == {("callback_silent", "sms-dr")}


@given(st.lists(st.integers(1, 3 * 86_400), min_size=1, max_size=40))
def test_a_rhythm_remembers_a_week_and_outgrows_an_outage(pauses: list[int]) -> None:
    """The limit is never below a pause of the last days that was not an outage; a restart keeps it."""
    rhythms, now = Rhythms(None, NOW), NOW
    for calls, pause_s in enumerate(pauses, 1):
        now += pause_s
        rhythms.see({"sms-dr": float(calls)}, now)
        rhythms.see({"sms-dr": float(calls)}, now)
    one = rhythms.by_name["sms-dr"]
    assert len(one.longest) <= 7
    assert one.last_at == now
    assert max(one.longest.values()) <= max(pauses)
    again = Rhythms(orjson.loads(orjson.dumps(rhythms.document(), option=orjson.OPT_NON_STR_KEYS)), now + 5)
    assert again.by_name["sms-dr"].limit_s(now + 5, 2.0, 900.0) == one.limit_s(now + 5, 2.0, 900.0)
    assert again.by_name["sms-dr"].last_at == now + 5


def test_an_outage_does_not_hide_the_next_one() -> None:
    one = Rhythm(NOW - 3 * DAY_S, NOW, {20_000: 600.0})
    one.called(NOW + 30 * 3600)
    assert one.limit_s(NOW + 30 * 3600, 2.0, 900.0) == 2400.0


@pytest.mark.parametrize("kept", [None, [], "x", {"a": 1}, {"a": {}}, {"a": {"first_at": "x", "longest": {}}}])
def test_what_cannot_be_read_is_learned_again(kept: object) -> None:
    assert Rhythms(kept, NOW).by_name == {}
