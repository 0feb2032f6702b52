"""Where topics begin, and how much is not published yet, beside a list of what is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.log.journal import EVENTS
from gateway.publisher.topic_cursor import GROUP, PublishLag, cursor_name, is_published, starts

_TOPICS = ["a", "b", "c.d"]
_COMMITS = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.lists(st.sampled_from("abc"), max_size=2)),
    max_size=400,
)


def _rows(**positions: int) -> dict[tuple[str, str], int]:
    return {(name.replace("_", "."), EVENTS): position for name, position in positions.items()}


def test_in_a_new_journal_all_topics_begin_with_its_first_record() -> None:
    """There is no position at all, and what was there before the publisher is published, too."""
    assert starts({}, _TOPICS, 7) == dict.fromkeys(_TOPICS, 7)


def test_the_one_position_of_an_older_version_is_where_all_topics_begin() -> None:
    """Below it everything is in Kafka."""
    assert starts(_rows(publisher=50), _TOPICS, 7) == dict.fromkeys(_TOPICS, 50)


def test_an_older_version_that_ran_in_between_has_published_for_all() -> None:
    """Its position is beyond those of the topics, which it did not know of."""
    positions = _rows(publisher=90, publisher_a=50, publisher_b=95)
    assert starts(positions, ["a", "b"], 7) == {"a": 90, "b": 95}


def test_a_topic_that_is_new_begins_at_the_foremost_position() -> None:
    """No record below it is of that topic: it would have a position."""
    assert starts(_rows(publisher=20, publisher_a=20, publisher_b=80), ["a", "c.d"], 7) == {"a": 20, "b": 80, "c.d": 80}


def test_positions_of_other_streams_and_groups_say_nothing() -> None:
    """A dead letter's position, or that of a subscriber called like a topic."""
    positions = {(GROUP, "dlq.publisher"): 3, ("publisher.a", "dlq.x"): 4, ("gateway.publisher.b", EVENTS): 5}
    assert starts(positions, ["a"], 0) == {"a": 0}


@given(
    st.dictionaries(st.sampled_from(_TOPICS), st.integers(0, 100)),
    st.none() | st.integers(0, 100),
    st.sets(st.sampled_from(_TOPICS), min_size=1),
)
def test_no_topic_goes_back_or_is_left_out(kept: dict[str, int], oldest: int | None, wanted: set[str]) -> None:
    """Whatever positions there are, no topic begins in front of its own, nor of the oldest."""
    positions = {(cursor_name(topic), EVENTS): position for topic, position in kept.items()}
    if oldest is not None:
        positions[GROUP, EVENTS] = oldest
    found = starts(positions, wanted, 0)
    assert found.keys() == wanted | kept.keys()
    assert all(position >= max(kept.get(topic, 0), oldest or 0) for topic, position in found.items())


def test_a_record_is_published_when_its_topic_has_passed_it() -> None:
    """Another topic's position says nothing of it, and the old one only where the topic has none."""
    positions = _rows(publisher=10, publisher_a=30)
    assert [is_published(positions, "a", offset) for offset in (29, 30)] == [True, False]
    assert [is_published(positions, "b", offset) for offset in (9, 10)] == [True, False]


@given(_COMMITS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)))
def test_lag_is_never_too_little_and_right_where_positions_stand_between_commits(
    commits: list[tuple[list[str], list[str]]], begins: dict[str, int]
) -> None:
    """Topics pass what was stored in any order; parts that were put together count until all of them are gone."""
    lag, journal, positions = PublishLag(begins, 0), list[str](), dict(begins)
    for records, passing in commits:
        journal += records
        lag.add(len(journal), Counter(records))
        for topic in passing:
            positions[topic] = len(journal)
            lag.passed(topic, len(journal))
        for topic in "abc":
            left = journal[positions.get(topic, 0) :].count(topic)
            assert lag.of(topic) >= left
            if positions.get(topic, 0) == len(journal):
                assert lag.of(topic) == 0
    assert lag.seen == len(journal)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=2000), st.integers(0, 100))
def test_a_large_backlog_is_known_to_a_hundredth(counts: list[int], percent: int) -> None:
    """Its parts are put together, so that it takes no more memory than a small one."""
    lag, ends = PublishLag({}, 0), [0]
    for count in counts:
        ends.append(ends[-1] + count)
        lag.add(ends[-1], {"a": count})
    position = ends[len(counts) * percent // 100]
    lag.passed("a", position)
    left = ends[-1] - position
    assert left <= lag.of("a") <= left + max(50, ends[-1] // 40)
    assert len(lag._topics["a"]._parts) <= 256


def test_a_position_within_a_commit_leaves_all_of_it() -> None:
    """It is not known which of its records are of the topic; the next commit counts for itself."""
    lag = PublishLag({"a": 0}, 0)
    lag.add(10, {"a": 4, "b": 6})
    lag.passed("a", 5)
    assert (lag.of("a"), lag.of("b")) == (4, 6)
    lag.passed("a", 10)
    lag.add(12, {"a": 2})
    assert (lag.of("a"), lag.of("b")) == (2, 6)
