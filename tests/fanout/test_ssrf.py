from __future__ import annotations

import socket
from ipaddress import ip_address
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.errors import ConfigError
from gateway.fanout.ssrf import Allowed, refusal, socket_factory
from gateway.fanout.webhook import WebhookSink
from gateway.log import Record
from gateway.signing import Signer
from tests.fanout.events import entry
from tests.fanout.receiver import Receiver, status
from tests.rows import rows

RECORD = Record("p", 0, 0.0, *entry(1))

REFUSED = [
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("::1", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("fc00::1", "private"),
    ("fdff::1", "private"),
    ("169.254.1.1", "link-local"),
    ("fe80::1", "link-local"),
    ("169.254.169.254", "metadata"),
    ("fd00:ec2::254", "metadata"),
    ("100.100.100.200", "metadata"),
    ("100.64.0.1", "carrier-grade"),
    ("100.127.255.255", "carrier-grade"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("::", "unspecified"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("ff02::1", "multicast"),
    ("255.255.255.255", "reserved"),
    ("240.0.0.1", "reserved"),
    ("192.0.2.1", "reserved"),
    ("198.18.0.1", "reserved"),
    ("2001:db8::1", "reserved"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "metadata"),
    ("::127.0.0.1", "loopback"),
    ("::a00:1", "private"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::a00:1", "private"),
    ("64:ff9b:1::c0a8:1", "private"),
    ("64:ff9b:1:a00:0:100:808:808", "private"),
    ("::ffff:0:127.0.0.1", "loopback"),
    ("::ffff:0:a00:1", "private"),
    ("168.63.129.16", "metadata"),
    ("192.0.0.192", "metadata"),
    ("192.0.0.8", "reserved"),
    ("192.88.99.1", "reserved"),
    ("3fff::1", "reserved"),
    ("3fff:fff::1", "reserved"),
    ("4000::1", "reserved"),
    ("5f00::1", "reserved"),
    ("100::1", "reserved"),
    ("2002:7f00:1::", "loopback"),
    ("2002:a9fe:a9fe::", "metadata"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "teredo"),
]


@rows(("address", "reason"), REFUSED)
def test_refused_by_default(address: str, reason: str) -> None:
    """Nothing inside can be reached, also where an IPv4 address hides in an IPv6 one."""
    assert reason == refusal(ip_address(address), Allowed())


@rows(
    "address",
    [
        "1.1.1.1",
        "203.1.113.1",
        "100.63.255.255",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "::ffff:0:1.1.1.1",
    ],
)
def test_public_addresses_are_reached(address: str) -> None:
    """The guard is not in the way of the internet."""
    assert refusal(ip_address(address), Allowed()) is None


@rows(("address", "reason"), REFUSED)
def test_allow_private_opens_the_inside_and_no_more(address: str, reason: str) -> None:
    """``allow_private`` is about own networks; multicast, reserved and unspecified stay refused."""
    is_inside = reason in {"loopback", "private", "link-local", "metadata", "carrier-grade"}
    assert (None if is_inside else reason) == refusal(ip_address(address), Allowed(private=True))


def test_allow_lists_open_networks_and_hosts() -> None:
    """A CIDR opens its addresses, a host name whatever it resolves to, neither opens multicast."""
    allowed = Allowed.parse(["10.1.0.0/16", "fd12::/16", "hooks.internal"])
    assert refusal(ip_address("10.1.2.3"), allowed) is None
    assert refusal(ip_address("::ffff:10.1.2.3"), allowed) is None
    assert refusal(ip_address("fd12::1"), allowed) is None
    assert "private" == refusal(ip_address("10.2.0.1"), allowed)
    assert refusal(ip_address("10.2.0.1"), allowed, "Hooks.Internal.") is None
    assert "multicast" == refusal(ip_address("224.0.0.1"), allowed, "hooks.internal")


@rows("entry", ["10.1.0.0/33", "10.1.2.3/8", "300.1.1.1", "", "::gg", "0177.0.0.1"])
def test_bad_allow_entries_are_named(entry: str) -> None:
    """A network that is none is found at configuration time and not taken for a host name."""
    with pytest.raises(ConfigError) as caught:
        Allowed.parse(["10.0.0.0/8", entry])
    assert ["allow[1]"] == [problem.split(":")[0] for problem in caught.value.problems]


@given(st.ip_addresses())
def test_every_address_is_public_or_refused(address: Any) -> None:
    """No address is let through that the standard library does not call globally reachable."""
    if refusal(address, Allowed()) is None:
        inner = address if address.version == 4 else (address.ipv4_mapped or address.sixtofour or address)
        assert inner.is_global
        assert not inner.is_multicast


@rows(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0.0.0.0",
    ],
)
async def test_no_spelling_of_a_local_address_is_connected(host: str) -> None:
    """Literal, octal, decimal, hexadecimal, short and named: the server behind it never sees a request."""
    async with Receiver() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        sink = WebhookSink(f"http://{host}:{port}/", Signer([]), clock=SystemClock(), rng=Random(1))
        result = await sink.attempt(RECORD, is_replay=False)
        await sink.close()
    assert ("refused_address", []) == (result.error, receiver.posts)


class ChangingResolver(AbstractResolver):
    """A name server that answers with something else each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self.answers.pop(0)
        return [
            ResolveResult(hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=0) for one in found
        ]

    async def close(self) -> None:
        pass


async def test_a_name_that_changes_its_answer_is_checked_at_each_connect() -> None:
    """DNS rebinding: what is checked is the address of the very connection."""
    asked: list[str] = []
    factory = socket_factory(Allowed.parse(["127.0.0.0/30"]), "rebind.example")

    def noting(info: Any) -> socket.socket:
        asked.append(info[4][0])
        return factory(info)

    async with Receiver() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        connector = aiohttp.TCPConnector(
            resolver=ChangingResolver(["127.0.0.1"], ["127.0.0.9", "127.0.0.10"]),
            use_dns_cache=False,
            force_close=True,
            socket_factory=noting,
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.post(
                f"http://rebind.example:{port}/", data=RECORD.value, headers={"webhook-id": "x"}
            ) as one:
                assert 200 == one.status
            with pytest.raises(aiohttp.ClientConnectorError, match="is refused: loopback"):
                await session.post(f"http://rebind.example:{port}/", data=RECORD.value)
    assert 1 == len(receiver.posts)
    assert {"127.0.0.1", "127.0.0.9", "127.0.0.10"} == set(asked)


async def test_redirects_to_the_inside_are_not_followed() -> None:
    """A redirect is an answer like any other failure; nobody is asked at its target."""
    async with Receiver() as target, Receiver(status(307, headers={"Location": target.url})) as first:
        sink = WebhookSink(first.url, Signer([]), clock=SystemClock(), rng=Random(1), allowed=Allowed(private=True))
        result = await sink.attempt(RECORD, is_replay=False)
        await sink.close()
    assert (307, False, []) == (result.status, result.is_success, target.posts)
