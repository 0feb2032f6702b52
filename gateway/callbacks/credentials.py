"""Who may push to a path: tokens, addresses, a signature. Every configured check must pass.

Tokens and signatures are compared in constant time. Where nothing is configured everybody may; the start
of the gateway warns of that.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.callbacks import form
from gateway.callbacks.redaction import redacted
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.signature import SignaturePolicy, verify
from gateway.errors import Forbidden, Unauthenticated

#: Name of the query parameter that may hold the token.
TOKEN_FIELD: Final = "token"  # noqa: S105 - a name
#: Headers that may hold the token; NXLink sends ``token`` (protocol.md, section 8).
_TOKEN_HEADERS: Final = ("token", "x-gateway-token")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The checks of one path, built once.

    Args:
        tokens: any of them opens; several while one is being rotated. None may be empty.
        allow_ips: networks of the sender, after trusted proxies.
        signature: see :class:`SignaturePolicy`.
    """

    tokens: tuple[str, ...] = ()
    allow_ips: tuple[IPv4Network | IPv6Network, ...] = ()
    signature: SignaturePolicy | None = None

    def __post_init__(self) -> None:
        if not all(self.tokens):
            raise ValueError("an empty token would let everybody in; leave it out instead")

    @property
    def is_open(self) -> bool:
        """Whether nothing is checked at all."""
        return not (self.tokens or self.allow_ips or self.signature)

    @property
    def fields(self) -> frozenset[str]:
        """For ``DecodeContext.credential_fields``: query and form fields that hold our token."""
        return frozenset({TOKEN_FIELD}) if self.tokens else frozenset()

    def check(self, request: CallbackRequest, now: datetime) -> CallbackRequest:
        """Return the authentic part of a request: all of it, or what the signature covers where one is configured.

        The address is checked first: it costs the least.

        Raises:
            Forbidden: the peer's address is in none of ``allow_ips``.
            Unauthenticated: no right token, no right signature, or a right one over no body: then nothing that is
                signed could make an event.
        """
        if self.allow_ips and not self._is_allowed(request.peer):
            raise Forbidden("the sender's address is not allowed")
        if self.tokens and not any(map(self.is_token, _candidates(request))):
            raise Unauthenticated("the token is missing or wrong")
        if self.signature is None:
            return request
        signed = verify(self.signature, request, now)
        if not signed.body:
            raise Unauthenticated("the body is empty: fields in the query are not signed")
        return signed

    def is_token(self, candidate: bytes) -> bool:
        """Whether these bytes are one of the tokens; takes the same time whichever it is."""
        fits = False
        for token in self.tokens:
            fits |= hmac.compare_digest(token.encode(), candidate)
        return fits

    def without_tokens(self, data: bytes, *, is_text: bool = False) -> bytes:
        """Return the same bytes with a mark in place of each token (:func:`gateway.callbacks.redaction.redacted`)."""
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
    """What might be the token: in a header, in the query, or the last segment of the path."""
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
