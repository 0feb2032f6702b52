"""Which addresses a webhook may be sent to; no request may be forged into the inside (SSRF).

The check is directly before the connection, and nothing can happen between the two: aiohttp asks ``socket_factory``
for a socket with the resolved address that it connects this socket to. So it does not matter how the address was
spelled (octal, decimal, short forms), whether the name has several addresses, or whether its answer changed
since the last look: what is checked is what is connected. Literal addresses go the same way. Redirects are
never followed, and a proxy from the environment is never used.

Refused by default: everything that is not globally reachable unicast (IANA IPv4 and IPv6 Special-Purpose
Address Registries; of IPv6 only ``2000::/3`` is given out at all), also where an IPv4 address hides in an IPv6 one:

===========================  ===========================================================
mapped, compatible           ``::ffff:a.b.c.d`` (RFC 4291), ``::a.b.c.d``
translated                   ``::ffff:0:a.b.c.d`` (RFC 2765, SIIT)
NAT64                        ``64:ff9b::/96`` (RFC 6052)
NAT64 of an own network      ``64:ff9b:1::/48`` (RFC 8215): refused as a whole, as only that network knows where in
                             it the IPv4 address is (RFC 6052, section 2.2); ``allow`` it where DNS64 gives such
6to4                         ``2002::/16`` (RFC 3056)
Teredo                       ``2001::/32`` (RFC 4380): refused as a whole
===========================  ===========================================================

``allow_private`` admits what an own network may hold (loopback, private, link-local, carrier-grade); it never
admits multicast, broadcast, unspecified or reserved addresses. ``allow`` admits networks, or whatever the
named host resolves to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from gateway.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]

#: The last four bytes are an IPv4 address.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::ffff:0:0:0/96"))
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_COMPATIBLE: Final = IPv6Network("::/96")
#: Inside an own network; ``allow_private`` admits them. Named ones come first: the first match is the reason.
_INSIDE: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("169.254.169.254/32", "metadata"),
        ("fd00:ec2::254/128", "metadata"),
        ("100.100.100.200/32", "metadata"),
        ("168.63.129.16/32", "metadata"),  # Azure's, a public address by number
        ("192.0.0.192/32", "metadata"),  # Oracle's
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("10.0.0.0/8", "private"),
        ("172.16.0.0/12", "private"),
        ("192.168.0.0/16", "private"),
        ("fc00::/7", "private"),
        ("64:ff9b:1::/48", "private"),
        ("100.64.0.0/10", "carrier-grade"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
    )
)
#: No webhook's address, whatever is set.
_NEVER: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("::/128", "unspecified"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("fec0::/10", "reserved"),
        ("2001::/32", "teredo"),
    )
)
#: In the registries and not in the standard library of every Python that we run on.
_RESERVED: Final[tuple[Network, ...]] = (
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
    ip_network("3fff::/20"),
)
_MARK: Final = "is refused:"


class AddressRefused(OSError):
    """The address is refused. See ``allow_private`` and ``allow`` of the subscriber."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(None, f"{address} {_MARK} {reason}")
        self.reason = reason


def is_refusal(exc: OSError) -> bool:
    """Return whether an address was refused.

    A name with several refused addresses comes back as one error made of their texts.
    """
    return isinstance(exc, AddressRefused) or _MARK in str(exc)


@dataclass(frozen=True, slots=True)
class Allowed:
    """Addresses that a subscriber may reach in addition to public ones.

    Args:
        private: loopback, private, link-local and carrier-grade addresses.
        networks: any address in these.
        hosts: lower-case names; whatever they resolve to, except what is never allowed.
    """

    private: bool = False
    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def parse(cls, entries: Iterable[str], *, private: bool = False) -> Allowed:
        """Read an ``allow`` list: networks (CIDR), addresses and host names in any order.

        Raises:
            ConfigError: an entry is neither; all such entries at once.
        """
        networks: list[Network] = []
        hosts: set[str] = set()
        problems: list[str] = []
        for position, entry in enumerate(entries):
            try:
                networks.append(ip_network(entry))
            except ValueError as exc:
                if "/" in entry or not entry or entry.strip(".").replace(".", "").isdigit() or ":" in entry:
                    problems.append(f"allow[{position}]: {exc}")
                else:
                    hosts.add(entry.lower().rstrip("."))
        if problems:
            raise ConfigError(problems)
        return cls(private, tuple(networks), frozenset(hosts))


def refusal(address: Address, allowed: Allowed, host: str = "") -> str | None:
    """Return in a word why this address may not be connected to; None when it may.

    Args:
        host: the name in the subscriber's URL, which ``allow`` may name.
    """
    inner = _embedded(address)
    if inner is not None:
        return refusal(inner, allowed, host)
    for network, reason in _NEVER:
        if address in network:
            return reason
    if host.lower().rstrip(".") in allowed.hosts or any(address in network for network in allowed.networks):
        return None
    for network, reason in _INSIDE:
        if address in network:
            return None if allowed.private else reason
    return None if _is_public(address) else "reserved"


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not any(address in network for network in _RESERVED)


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 one leads to."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _COMPATIBLE and int(address) > 1:
        return IPv4Address(int(address))
    return None


def socket_factory(allowed: Allowed, host: str) -> Callable[[AddrInfo], socket.socket]:
    """Return a ``socket_factory`` for aiohttp's ``TCPConnector`` that raises :class:`AddressRefused`.

    Addresses that are not IPv4 or IPv6 are refused: nothing else is a webhook's.
    """

    def make(info: AddrInfo) -> socket.socket:
        family, kind, proto, _, sockaddr = info
        # A scope such as %eth0 may follow a link-local address.
        address = ip_address(str(sockaddr[0]).split("%")[0])
        reason = refusal(address, allowed, host)
        if reason is not None:
            raise AddressRefused(address, reason)
        return socket.socket(family, kind, proto)

    return make
