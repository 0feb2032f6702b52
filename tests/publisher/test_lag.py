"""How much is not published yet, beside a list of what is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.publisher.lag import PublishLag

_COMMITS = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.lists(st.sampled_from("abc"), max_size=2)),
    max_size=400,
)


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
