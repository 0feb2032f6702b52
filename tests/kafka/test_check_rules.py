"""What ``gateway check`` makes of a cluster's answers, for answers that the tests' cluster does not give."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.finding import Finding, Gathered, listed
from gateway.log.kafka import KafkaOptions, check_rules
from gateway.log.kafka.check_rules import ClusterAnswers, ClusterTopic, Needs, TopicNeed
from gateway.log.kafka.diagnosis import OPERATIONS, operations_of
from tests.effort import examples

_OPTIONS = KafkaOptions(("localhost:9092",), partitions=2)
_OPERATIONS = st.frozensets(st.sampled_from(sorted(OPERATIONS)))
_NAMES = ("a", "b", "c")


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Needs, ClusterAnswers]:
    """Needs of up to three topics and groups, and answers with anything missing."""
    needs = Needs(
        [
            TopicNeed(name, f"path.{name}", draw(st.sampled_from([frozenset({"READ"}), frozenset({"READ", "WRITE"})])))
            for name in draw(st.sets(st.sampled_from(_NAMES), min_size=1))
        ],
        sorted(draw(st.sets(st.sampled_from(["g", "h"])))),
    )
    states = st.builds(
        ClusterTopic, st.sampled_from([0, 3, 29]), st.just((1, 1)), st.just((1, 1)), st.just(0), st.none() | _OPERATIONS
    )
    read = st.dictionaries(
        st.sampled_from(check_rules.TOPIC_SETTINGS), st.sampled_from(["1", "delete", "604800000", "9999999", ""])
    )
    answers = ClusterAnswers(
        brokers=1,
        cluster_operations=draw(st.none() | _OPERATIONS),
        topics=draw(st.dictionaries(st.sampled_from(_NAMES), states)),
        topic_settings=draw(st.dictionaries(st.sampled_from(_NAMES), read)),
        groups=draw(st.dictionaries(st.sampled_from(["g", "h"]), _OPERATIONS)),
    )
    return needs, answers


def is_allowed(need: TopicNeed, answers: ClusterAnswers) -> bool:
    """The rule, said once more: all operations are known to be there, and the topic is or can be made."""
    state = answers.topics.get(need.name)
    if state is None or state.error == 29 or state.operations is None or not need.operations <= state.operations:
        return False
    return state.error == 0 or "CREATE" in state.operations or "CREATE" in (answers.cluster_operations or ())


def judged(needs: Needs, answers: ClusterAnswers, options: KafkaOptions = _OPTIONS) -> list[Finding]:
    found = Gathered()
    check_rules.judge_rights(options, needs, answers, found)
    check_rules.judge_settings(options, needs, answers, found)
    return found.findings()


@settings(max_examples=examples(30))
@given(clusters())
def test_what_is_not_known_to_be_there_is_never_counted_as_good(cluster: tuple[Needs, ClusterAnswers]) -> None:
    """The line that says ok counts exactly what was answered, and everything else has a line of its own."""
    needs, answers = cluster
    found = judged(needs, answers)
    good = [need.name for need in needs.topics if is_allowed(need, answers)]
    groups = [name for name in needs.groups if "READ" in answers.groups.get(name, ())]
    counted = [re.findall(r"(\d+) of \d+", one.text) for one in found if one.text.startswith("the rights are there")]
    expected = [str(len(good)), *([str(len(groups))] if needs.groups else [])]
    assert ([expected] if good or groups else []) == counted
    told = [one.text for one in found if one.path == "kafka.security" and one.level in ("problem", "unknown")]
    named = {name for text in told for name in re.split(r"[ ,:]+", text.partition(":")[0])}
    assert {need.name for need in needs.topics if need.name not in good} <= named
    assert set(needs.groups) - set(groups) <= named


@settings(max_examples=examples(30))
@given(clusters())
def test_settings_that_were_not_read_are_said_to_be_unknown(cluster: tuple[Needs, ClusterAnswers]) -> None:
    """For each topic that exists and may be seen; and without broker settings the defaults are."""
    needs, answers = cluster
    found = judged(needs, answers)
    unread = {
        need.name
        for need in needs.topics
        if (state := answers.topics.get(need.name)) is not None and state.error == 0
        if need.name not in answers.topic_settings
    }
    told = [one.text for one in found if one.level == "unknown" and "settings not checked" in one.text]
    assert unread == {name for text in told for name in re.split(r"[ ,:]+", text.partition(":")[0])} & set(_NAMES)
    assert any("offsets.retention.minutes and defaults not checked" in one.text for one in found)


@pytest.mark.parametrize(
    ("is_old", "cluster", "level"),
    [
        (False, frozenset(), "ok"),
        (True, frozenset({"IDEMPOTENT_WRITE"}), "ok"),
        (True, frozenset(), "problem"),
        (True, None, "unknown"),
    ],
)
def test_brokers_before_2_8_ask_for_a_right_on_the_cluster(
    is_old: bool, cluster: frozenset[str] | None, level: str
) -> None:
    """Since then WRITE on a topic is enough for an idempotent producer (KIP-679)."""
    needs = Needs([TopicNeed("a", "x", frozenset({"WRITE"}))])
    state = ClusterTopic(0, (1,), (1,), 0, frozenset({"WRITE"}))
    answers = ClusterAnswers(1, cluster, needs_idempotent_write=is_old, topics={"a": state})
    found = [one for one in judged(needs, answers) if "IDEMPOTENT_WRITE" in one.text or "write once" in one.text]
    assert [level] == [one.level for one in found]


@pytest.mark.parametrize(
    ("said", "retention"),
    [
        ({"log.retention.ms": "60000", "log.retention.minutes": "9", "log.retention.hours": "168"}, 60_000),
        ({"log.retention.minutes": "9", "log.retention.hours": "168"}, 540_000),
        ({"log.retention.hours": "1"}, 3_600_000),
    ],
)
def test_a_topic_to_be_created_is_judged_by_the_brokers_defaults(said: dict[str, str], retention: int) -> None:
    """Of the three names of retention the finest counts, as in Kafka."""
    needs = Needs([TopicNeed("retry.60s", "x", frozenset({"READ"}), longest_wait_s=retention / 1000)])
    state = ClusterTopic(3, operations=frozenset({"READ", "CREATE"}))
    answers = ClusterAnswers(1, frozenset(), topics={"retry.60s": state}, broker_settings={1: said})
    answers.broker_settings[1] = {**said, "log.cleanup.policy": "delete"}
    (problem,) = [one for one in judged(needs, answers) if one.level == "problem"]
    assert f"retention.ms is {retention}, and an event waits in it for up to {retention / 1000:g} s" in problem.text
    own = KafkaOptions(("localhost:9092",), topic_config={"retention.ms": str(retention + 1)})
    assert [] == [one for one in judged(needs, answers, own) if one.level == "problem"]


def test_a_topic_without_a_leader_or_with_too_few_in_sync_refuses_writes() -> None:
    """Both are problems now; a replica that is behind is a warning."""
    needs = Needs([TopicNeed(name, "x", frozenset({"WRITE"})) for name in _NAMES])
    may = frozenset({"WRITE"})
    answers = ClusterAnswers(
        3,
        frozenset(),
        topics={
            "a": ClusterTopic(0, (3, 3), (3, 3), 1, may),
            "b": ClusterTopic(0, (3, 3), (3, 1), 0, may),
            "c": ClusterTopic(0, (3, 3), (3, 2), 0, may),
        },
        topic_settings={name: {"min.insync.replicas": "2", "cleanup.policy": "delete"} for name in _NAMES},
    )
    found = {(one.level, one.text) for one in judged(needs, answers)}
    assert ("problem", "topic a: 1 partitions have no leader and can be neither written nor read") in found
    text = "topic b: a partition has 1 replicas in sync, and min.insync.replicas is 2: it refuses writes"
    assert ("problem", text) in found
    assert ("warning", "topic c: a partition has 2 of 3 replicas in sync") in found


def test_many_topics_with_one_trouble_are_one_line() -> None:
    """Five are named."""
    assert "topic a" == listed("topic", ["a"])
    assert "topics a, b, c, d, e and 2 more" == listed("topic", list("abcdefg"))


def test_operations_that_a_broker_does_not_say_are_not_none() -> None:
    """The least number means 'not asked'; 0 means that nothing is allowed."""
    assert operations_of(-(2**31)) is None
    assert frozenset() == operations_of(0)
    assert frozenset({"READ", "WRITE", "DESCRIBE"}) == operations_of(1 << 3 | 1 << 4 | 1 << 8)
