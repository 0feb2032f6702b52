"""Credentials of a path: tokens, addresses, a signature. A request has to pass every configured check.

Tokens and signatures are compared in constant time. A path without checks accepts every sender; the gateway logs a
warning at its start.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.callbacks import form
from gateway.callbacks.masking import redacted
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.signature import SignaturePolicy, verify
from gateway.errors import Forbidden, Unauthenticated

#: Query parameter that may have the token.
TOKEN_FIELD: Final = "token"  # noqa: S105 - a name
#: Headers that may have the token; NXLink sends ``token`` (protocol.md, section 8).
_TOKEN_HEADERS: Final = ("token", "x-gateway-token")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The checks of one path, created once.

    Args:
        tokens: accepted tokens, several during a rotation; none may be empty.
        allow_ips: accepted networks of senders, behind trusted proxies.
        signature: see :class:`SignaturePolicy`.
    """

    tokens: tuple[str, ...] = ()
    allow_ips: tuple[IPv4Network | IPv6Network, ...] = ()
    signature: SignaturePolicy | None = None

    def __post_init__(self) -> None:
        if not all(self.tokens):
            raise ValueError("an empty token would accept every request; leave it out instead")

    @property
    def is_open(self) -> bool:
        """Whether the path has no check."""
        return not (self.tokens or self.allow_ips or self.signature)

    @property
    def fields(self) -> frozenset[str]:
        """Query and form fields with the gateway's token, for ``DecodeContext.credential_fields``."""
        return frozenset({TOKEN_FIELD}) if self.tokens else frozenset()

    def check(self, request: CallbackRequest, now: datetime) -> CallbackRequest:
        """Return the authentic part of a request: the whole, or the signed part if a signature is configured.

        The address is checked first, because its check is the cheapest.

        Args:
            request: as received.
            now: time of arrival, timezone-aware UTC.

        Raises:
            Forbidden: the peer's address is not in ``allow_ips``.
            Unauthenticated: the token or signature is missing or wrong, or a valid signature covers no body and so no
                data of an event.
        """
        self.check_address(request)
        if self.tokens and not any(map(self.is_token, _candidates(request))):
            raise Unauthenticated("the token is missing or wrong")
        if self.signature is None:
            return request
        signed = verify(self.signature, request, now)
        if not signed.body:
            raise Unauthenticated("the body is empty: fields in the query are not signed")
        return signed

    def check_address(self, request: CallbackRequest) -> None:
        """Check only the sender's address.

        Raises:
            Forbidden: the address is not in ``allow_ips``.
        """
        if self.allow_ips and not self._is_allowed(request.peer):
            raise Forbidden("the sender's address is not allowed")

    def is_token(self, candidate: bytes) -> bool:
        """Return whether the bytes are one of the tokens, in constant time."""
        fits = False
        for token in self.tokens:
            fits |= hmac.compare_digest(token.encode(), candidate)
        return fits

    def without_tokens(self, data: bytes, *, is_text: bool = False) -> bytes:
        """Return the bytes with a mark in place of each token.

        Args:
            data: to be stored.
            is_text: see :func:`gateway.callbacks.masking.redacted`.
        """
        return redacted(data, self.tokens, is_text=is_text)

    def _is_allowed(self, peer: str) -> bool:
        try:
            address: IPv4Address | IPv6Address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.allow_ips)


def _candidates(request: CallbackRequest) -> list[bytes]:
    """Return the possible tokens: in a header, in the query, and in the last segment of the path."""
    headers = request.headers
    found = [headers[name].encode("utf-8", "surrogateescape") for name in _TOKEN_HEADERS if name in headers]
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(bearer.strip().encode("utf-8", "surrogateescape"))
    if b"token" in request.query or b"%" in request.query:
        found += [value.encode() for name, value in form.pairs(request.query) if name == TOKEN_FIELD]
    segment = request.path.rpartition("/")[2] or request.path.rstrip("/").rpartition("/")[2]
    found.append(unquote_to_bytes(segment.encode("utf-8", "surrogateescape")))
    return found
