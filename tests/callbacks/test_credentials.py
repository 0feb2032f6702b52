"""Whose request it is, and who may push to a path."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from gateway.callbacks import CallbackRequest
from gateway.callbacks.credentials import Credentials, caller
from gateway.callbacks.signature import SignaturePolicy, callbot_signature
from gateway.errors import Forbidden, Unauthenticated
from tests.rows import rows

NOW = datetime(2025, 1, 1, tzinfo=UTC)
TOKENS = Credentials(tokens=("old", "tok€n"))


def request(
    path: str = "/callbacks/sms-dr", query: bytes = b"", peer: str = "203.0.113.7", **headers: str
) -> CallbackRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CallbackRequest("POST", path, query, named, b"{}", NOW, peer)


@rows(
    "sent",
    [
        request(token="old"),
        request(token="tok€n"),
        request(x_gateway_token="old"),
        request(authorization="Bearer old"),
        request(authorization="bearer  old "),
        request(query=b"a=b&token=old"),
        request(query=b"token=wrong&token=old"),
        request(query=b"%74oken=tok%E2%82%ACn"),
        request(path="/callbacks/sms-dr/old"),
        request(path="/callbacks/sms-dr/tok%E2%82%ACn"),
        request(path="/callbacks/sms-dr/old/"),
    ],
)
def test_a_token_opens_from_every_place(sent: CallbackRequest) -> None:
    """Header, bearer, query parameter and last path segment are all looked at; each of several tokens opens."""
    TOKENS.check(sent, NOW)


@rows(
    "sent",
    [
        request(),
        request(token=""),
        request(token="ol"),
        request(token="oldd"),
        request(token="OLD"),
        request(authorization="Basic old"),
        request(authorization="old"),
        request(query=b"token="),
        request(query=b"tokens=old"),
        request(path="/callbacks/old/sms-dr"),
        request(path="/callbacks/sms-dr/"),
        request(cookie="token=old"),
        request(token="\udcff"),
    ],
)
def test_anything_else_does_not(sent: CallbackRequest) -> None:
    """A missing, empty, shortened, lengthened or misplaced token is refused with 401."""
    with pytest.raises(Unauthenticated) as refusal:
        TOKENS.check(sent, NOW)
    assert 401 == refusal.value.status_hint
    assert "old" not in str(refusal.value)


NETWORKS = Credentials(allow_ips=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")))


@pytest.mark.parametrize("peer", ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"])
def test_an_address_of_a_listed_network(peer: str) -> None:
    """Addresses of both families are allowed, an IPv4 one that arrives mapped into IPv6 included."""
    NETWORKS.check(request(peer=peer), NOW)


@rows("peer", ["198.51.100.1", "2001:db9::1", "::ffff:198.51.100.1", "", "unknown", "203.0.113.7, 1.1.1.1"])
def test_any_other_address(peer: str) -> None:
    """An address outside, or none at all, is refused with 403."""
    with pytest.raises(Forbidden) as refusal:
        NETWORKS.check(request(peer=peer), NOW)
    assert 403 == refusal.value.status_hint


def test_every_configured_check_must_pass() -> None:
    """Token, address and signature are not alternatives."""
    both = Credentials(("t",), NETWORKS.allow_ips, SignaturePolicy("callbot", ("s",)))
    sign = callbot_signature("s", request_id="r", uuid="u", create_ts="1", body=b"{}")
    right = {"token": "t", "requestid": "r", "uuid": "u", "createts": "1", "sign": sign}
    both.check(request(**right), NOW)
    with pytest.raises(Forbidden):
        both.check(request(peer="198.51.100.1", **right), NOW)
    for name in right:
        with pytest.raises(Unauthenticated):
            both.check(request(**{**right, name: "x"}), NOW)


def test_nothing_configured() -> None:
    """Without any check everybody may, and the credentials say so, that a warning can be given."""
    Credentials().check(request(peer=""), NOW)
    assert Credentials().is_open
    assert not TOKENS.is_open
    assert frozenset() == Credentials().fields
    assert frozenset({"token"}) == TOKENS.fields


def test_an_empty_token_cannot_be_configured() -> None:
    """An empty token would open the path to everybody, so it is refused when the credentials are made."""
    with pytest.raises(ValueError, match="empty token"):
        Credentials(tokens=("a", ""))


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
