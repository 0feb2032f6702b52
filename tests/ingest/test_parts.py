"""Whose request it is."""

from __future__ import annotations

from ipaddress import ip_network

from gateway.ingest.client_ip import caller
from tests.rows import rows

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@rows(
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
