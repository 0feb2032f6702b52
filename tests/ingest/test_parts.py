"""The window of known ids, and whose request it is."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.known import KnownIds
from gateway.ingest.peer import caller

ids = st.integers(0, 40).map(lambda number: f"{number:032x}")


@given(size=st.integers(1, 10), added=st.lists(ids, max_size=60))
def test_window_knows_at_least_the_newest_and_never_more_than_twice_its_size(size: int, added: list[str]) -> None:
    known = KnownIds(size)
    known.update(added)
    newest = list(dict.fromkeys(reversed(added)))[:size]
    assert all(event_id in known for event_id in newest)
    assert len(known) <= 2 * size
    assert not any(f"{number:032x}" in known for number in range(50, 60))


def test_window_of_size_0_knows_nothing() -> None:
    known = KnownIds(0)
    known.add("0" * 32)
    assert "0" * 32 not in known


PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", "", "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_caller_is_the_first_hop_from_the_right_that_is_not_ours(peer: str, forwarded: str, expected: str) -> None:
    assert expected == caller(peer, forwarded, PROXIES)
