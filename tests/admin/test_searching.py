"""Pages of several workers become one list, newest first, with nothing twice and nothing left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.answers import BadRequest
from gateway.admin.searching import Page, merged, parse

#: Gaps in seconds between one event of a worker and the next: journals are in the order of time.
histories = st.dictionaries(st.integers(0, 63), st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=4)


def journal(gaps: list[int]) -> list[dict[str, Any]]:
    """Events of one worker, newest first."""
    at, events = 0, []
    for offset, gap in enumerate(gaps):
        at += gap
        events.append({"offset": offset, "stored_at": at})
    return events[::-1]


def page(events: list[dict[str, Any]], before: int | None, limit: int) -> Page:
    """As one worker answers."""
    found = [event for event in events if before is None or event["offset"] < before]
    return Page(found[:limit], found[limit - 1]["offset"] if len(found) > limit else None)


@given(histories, st.integers(1, 5))
def test_page_after_page_gives_every_event_once_newest_first(gaps: dict[int, list[int]], limit: int) -> None:
    journals = {number: journal(found) for number, found in gaps.items()}
    shown: list[dict[str, Any]] = []
    places: dict[int, int | None] = dict.fromkeys(journals)
    while places:
        pages = {number: page(journals[number], place, limit) for number, place in places.items()}
        events, following = merged(pages, limit)
        assert len(events) == min(limit, sum(len(one.events) for one in pages.values()))
        shown += events
        places = dict(parse(following)) if following else {}
    assert sorted((event["stored_at"] for event in shown), reverse=True) == [event["stored_at"] for event in shown]
    assert {id(event) for event in shown} == {id(event) for events in journals.values() for event in events}
    assert len(shown) == sum(map(len, journals.values()))


@pytest.mark.parametrize("place", ["12", "0:", ":1", "0:1,", "0:-1", "0:1;1:2", "a:1", "0:" + "9" * 20])
def test_a_place_that_we_did_not_give_is_refused(place: str) -> None:
    """It may stand in a bookmark of another page."""
    with pytest.raises(BadRequest):
        parse(place)
