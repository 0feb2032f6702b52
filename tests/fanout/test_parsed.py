"""One parsing for all subscribers, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import NotAnEvent, parse
from gateway.fanout import parsed
from gateway.fanout.filters import compile_filter
from gateway.fanout.parsed import ParsedEvents
from gateway.fanout.planning import wants
from gateway.log import Record
from tests.fanout.events import entry


def test_an_event_is_parsed_once_for_all_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred subscribers with a filter each ask a batch: each event is parsed once."""
    asked: list[bytes] = []

    def counting(value: bytes) -> dict[str, object]:
        asked.append(value)
        return parse(value)

    monkeypatch.setattr(parsed, "parse", counting)
    monkeypatch.setattr(parsed.EVENTS, "_events", {})
    records = [Record("events", n, 0.0, *entry(n)) for n in range(500)]
    filters = [wants(compile_filter({"exact": {"data.number": number}})) for number in range(100)]
    found = [sum(is_wanted(record) for record in records) for is_wanted in filters if is_wanted is not None]
    assert found == [1] * 100
    assert len(asked) == 500


@given(st.lists(st.integers(0, 3000), max_size=200), st.integers(1, 50), st.integers(1, 40_000))
def test_what_is_kept_is_bounded_and_right(numbers: list[int], most: int, most_bytes: int) -> None:
    """In any order of events, at any bound; an event that is larger than the bound is parsed all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsed, "_MAX_EVENTS", most)
        patch.setattr(parsed, "_MAX_BYTES", most_bytes)
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
