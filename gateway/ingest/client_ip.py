"""Find the caller's address behind proxies.

Any client can send ``X-Forwarded-For``. The header is used only if it comes from a trusted proxy. It is read from the
right: each trusted hop confirms the one before it, and the first hop that is not trusted is the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def caller(socket_peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return the caller's address, such as ``203.0.113.7``. A value that is not an address ends the search.

    Args:
        socket_peer: address of the connection's other end; may be empty.
        forwarded_for: value of the header, or empty.
        trusted: networks of the operator's proxies.
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
    """Return an address in its canonical form; other text unchanged. Cached, as a few peers send all requests."""
    address = _parsed(text)
    return text if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, or None. IPv4 in IPv6 (``::ffff:192.0.2.1``, of a dual-stack socket) becomes IPv4."""
    try:
        address = ip_address(text.split("%", 1)[0].strip("[]"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
