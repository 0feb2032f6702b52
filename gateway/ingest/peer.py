"""Whose request it is, behind proxies.

``X-Forwarded-For`` is what anyone may write. It is believed only from a trusted proxy, and read from the right: each
trusted hop vouches for the one before it, and the first that is not trusted is the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def caller(socket_peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The caller's address, such as ``203.0.113.7``; what is not an address ends the walk.

    Args:
        socket_peer: address at the other end of the connection; empty for none.
        forwarded_for: the header's value, or empty.
        trusted: networks of our own proxies.
    """
    if not trusted or not forwarded_for:
        return _normal(socket_peer)
    address = _parsed(socket_peer)
    if address is None:
        return socket_peer
    for hop in reversed(forwarded_for.split(",")):
        if not any(address in network for network in trusted):
            break
        before = _parsed(hop.strip())
        if before is None:
            break
        address = before
    return str(address)


@lru_cache(maxsize=1024)
def _normal(text: str) -> str:
    """An address in its usual spelling; what is none as it came. Remembered: a few peers send all requests."""
    address = _parsed(text)
    return text if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address; one with IPv4 inside IPv6 (``::ffff:192.0.2.1``, from a dual-stack socket) as the IPv4 it is."""
    try:
        address = ip_address(text.split("%", 1)[0].strip("[]"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
