from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.event import NotAnEvent, parse
from gateway.fanout import filters
from gateway.fanout.filters import ParsedEvents, compile_filter, wants
from gateway.log import Record
from tests.fanout.events import entry
from tests.rows import rows

EVENT: dict[str, Any] = {
    "type": "nxcloud.sms.dr",
    "subject": "m-1",
    "data": {
        "to": "+6281200000000",
        "delivered": True,
        "segments": 1,
        "price": {"total": "0.02"},
        "statuses": [{"id": "first"}, {"id": "second"}],
        "nothing": None,
    },
}


@rows(
    ("source", "matches"),
    [
        ({"exact": {"type": "nxcloud.sms.dr"}}, True),
        ({"exact": {"type": "nxcloud.sms"}}, False),
        ({"exact": {"type": "nxcloud.sms.dr", "subject": "m-1"}}, True),
        ({"exact": {"type": "nxcloud.sms.dr", "subject": "m-2"}}, False),
        ({"prefix": {"type": "nxcloud."}}, True),
        ({"suffix": {"type": ".dr"}}, True),
        ({"suffix": {"type": ".mo"}}, False),
        ({"prefix": {"data.to": "+62"}}, True),
        ({"exact": {"data.price.total": "0.02"}}, True),
        ({"exact": {"data.statuses.1.id": "second"}}, True),
        ({"exact": {"data.statuses.2.id": "third"}}, False),
        ({"exact": {"data.delivered": True}}, True),
        ({"exact": {"data.segments": 1}}, True),
        ({"exact": {"data.segments": True}}, False),
        ({"exact": {"data.delivered": 1}}, False),
        ({"exact": {"data.segments": "1"}}, False),
        ({"exact": {"account": "main"}}, False),
        ({"prefix": {"account": "main"}}, False),
        ({"suffix": {"data.absent.deeper": "x"}}, False),
        ({"prefix": {"data.segments": "1"}}, False),
        ({"exact": {"data.nothing": "x"}}, False),
        ({"not": {"exact": {"account": "main"}}}, True),
        ({"not": {"exact": {"subject": "m-1"}}}, False),
        ({"all": [{"prefix": {"type": "nx"}}, {"suffix": {"type": "dr"}}]}, True),
        ({"any": [{"exact": {"subject": "m-2"}}, {"exact": {"subject": "m-1"}}]}, True),
        ({"any": [{"exact": {"subject": "m-2"}}, {"exact": {"subject": "m-3"}}]}, False),
        ([{"prefix": {"type": "nx"}}, {"exact": {"subject": "m-2"}}], False),
        ([{"prefix": {"type": "nx"}}, {"exact": {"subject": "m-1"}}], True),
    ],
)
def test_dialects(source: object, matches: bool) -> None:
    """Each dialect means what the CloudEvents subscriptions specification says; what is missing matches nothing."""
    compiled = compile_filter(source)
    assert compiled is not None
    assert matches == compiled.matches(EVENT)
    assert matches == (compiled.mismatch(EVENT) is None)


@pytest.mark.parametrize("source", [None, []])
def test_no_filter_asks_nothing(source: object) -> None:
    """Without a filter nothing is parsed."""
    assert compile_filter(source) is None


def test_mismatch_names_the_part_that_says_no() -> None:
    """Explain can tell why a subscriber did not get an event."""
    compiled = compile_filter({"all": [{"exact": {"subject": "m-1"}}, {"prefix": {"data.to": "+86"}}]})
    assert compiled is not None
    assert "filter.all[1].prefix.data.to" == compiled.mismatch(EVENT)


def test_all_problems_at_once_with_key_paths() -> None:
    """A bad filter is found at configuration time, whole."""
    bad = {
        "all": [
            {"exactly": {"type": "x"}},
            {"exact": {"Type": "x"}},
            {"prefix": {"data.to": 62}},
            {"any": []},
            {"not": {}},
            {"exact": {}},
            {"suffix": {"data.": "x"}},
            "type",
        ]
    }
    with pytest.raises(ConfigError) as caught:
        compile_filter(bad, "subscribers[billing].filter")
    paths = [
        problem.split(": ")[0].removeprefix("subscribers[billing].filter.all") for problem in caught.value.problems
    ]
    assert [
        "[0].exactly",
        "[1].exact.Type",
        "[2].prefix.data.to",
        "[3].any",
        "[4].not",
        "[5].exact",
        "[6].suffix.data.",
        "[7]",
    ] == paths


def test_nesting_is_bounded() -> None:
    """A filter cannot be made to exhaust the stack."""
    bottomless: object = {"exact": {"type": "x"}}
    for _ in range(100):
        bottomless = {"not": bottomless}
    with pytest.raises(ConfigError, match="nested deeper"):
        compile_filter(bottomless)


leaves = st.builds(
    lambda dialect, name, value: {dialect: {name: value}},
    st.sampled_from(["exact", "prefix", "suffix"]),
    st.sampled_from(["type", "subject", "data.to"]),
    st.text("ab", min_size=1, max_size=2),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda part: {"not": part}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
    ),
    max_leaves=12,
)
events = st.fixed_dictionaries(
    {},
    optional={
        "type": st.text("ab", max_size=3),
        "subject": st.text("ab", max_size=3),
        "data": st.fixed_dictionaries({}, optional={"to": st.text("ab", max_size=3)}),
    },
)


def model(source: Any, event: dict[str, Any]) -> bool:
    ((dialect, value),) = source.items()
    if dialect == "not":
        return not model(value, event)
    if dialect in {"all", "any"}:
        return {"all": all, "any": any}[dialect](model(part, event) for part in value)
    ((name, wanted),) = value.items()
    found = event.get("data", {}).get("to") if name == "data.to" else event.get(name)
    if found is None:
        return False
    return bool({"exact": str.__eq__, "prefix": str.startswith, "suffix": str.endswith}[dialect](found, wanted))


@given(source=trees, event=events)
def test_compiled_filter_agrees_with_a_naive_reading(source: object, event: dict[str, Any]) -> None:
    """Any tree of dialects on any event: the compiled form and a direct reading agree, and so does explain."""
    compiled = compile_filter(source)
    assert compiled is not None
    assert model(source, event) == compiled.matches(event)
    assert model(source, event) == (compiled.mismatch(event) is None)


def test_an_event_is_parsed_once_for_all_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred subscribers with a filter each ask a batch: each event is parsed once."""
    asked: list[bytes] = []

    def counting(value: bytes) -> dict[str, object]:
        asked.append(value)
        return parse(value)

    monkeypatch.setattr(filters, "parse", counting)
    monkeypatch.setattr(filters.EVENTS, "_events", {})
    records = [Record("events", n, 0.0, *entry(n)) for n in range(500)]
    asking = [wants(compile_filter({"exact": {"data.number": number}})) for number in range(100)]
    found = [sum(is_wanted(record) for record in records) for is_wanted in asking if is_wanted is not None]
    assert found == [1] * 100
    assert len(asked) == 500


@given(st.lists(st.integers(0, 3000), max_size=200), st.integers(1, 50), st.integers(1, 40_000))
def test_what_is_kept_is_bounded_and_right(numbers: list[int], most: int, most_bytes: int) -> None:
    """In any order of events, at any bound; an event that is larger than the bound is parsed all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "_MAX_EVENTS", most)
        patch.setattr(filters, "_MAX_BYTES", most_bytes)
        events = ParsedEvents()
        for number in numbers:
            value = entry(number).value
            assert events.get(value) == parse(value)
            assert len(events._events) <= most
            assert events._bytes == sum(map(len, events._events))
            assert events._bytes <= most_bytes or len(events._events) == 1


def test_what_is_no_event_is_said_each_time() -> None:
    """A fault is not kept in the place of an event."""
    events = ParsedEvents()
    for _ in range(2):
        with pytest.raises(NotAnEvent, match="not JSON"):
            events.get(b"{")
