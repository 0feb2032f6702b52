"""Who may push to a path: tokens, addresses, a signature. Every configured check must pass.

Tokens and signatures are compared in constant time. Where nothing is configured everybody may; the start
of the gateway warns of that.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.callbacks import form
from gateway.callbacks.request import CallbackRequest
from gateway.callbacks.signature import SignaturePolicy, verify
from gateway.errors import Forbidden, Unauthenticated

#: Name of the query parameter that may hold the token.
TOKEN_FIELD: Final = "token"  # noqa: S105 - a name
#: Headers that may hold the token; NXLink sends ``token`` (protocol.md, section 8).
_TOKEN_HEADERS: Final = ("token", "x-gateway-token")

#: Stands in what is kept of a request where a token stood.
TOKEN_MARK: Final = b"***"
#: A token of less bytes is not looked for; ten times more and no token would be.
_SHORTEST: Final = 6


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

    def check(self, request: CallbackRequest, now: datetime) -> None:
        """Let an authentic request pass. The address first: it costs the least.

        Raises:
            Forbidden: the peer's address is in none of ``allow_ips``.
            Unauthenticated: no right token, or no right signature.
        """
        if self.allow_ips and not self._is_allowed(request.peer):
            raise Forbidden("the sender's address is not allowed")
        if self.tokens and not any(map(self.is_token, _candidates(request))):
            raise Unauthenticated("the token is missing or wrong")
        if self.signature is not None:
            verify(self.signature, request, now)

    def is_token(self, candidate: bytes) -> bool:
        """Whether these bytes are one of the tokens; takes the same time whichever it is."""
        fits = False
        for token in self.tokens:
            fits |= hmac.compare_digest(token.encode(), candidate)
        return fits

    def without_tokens(self, data: bytes, *, is_text: bool = False) -> bytes:
        """The same bytes with a mark where a token stands, as it is or percent-encoded, in part or as a whole.

        Tokens of less than six bytes stay: they stand in numbers and words by chance, and whoever wants one guesses it.

        Args:
            is_text: tokens are no place's own there, so one that is part of a longer word or number is none.
        """
        tokens = sorted((token.encode() for token in self.tokens if len(token.encode()) >= _SHORTEST), key=len)
        if not tokens:
            return data
        pattern = b"|".join(b"".join(map(_either_way, token)) for token in reversed(tokens))
        if is_text:
            pattern = rb"(?<![0-9A-Za-z])(?:" + pattern + rb")(?![0-9A-Za-z])"
        return re.sub(pattern, TOKEN_MARK, data)

    def _is_allowed(self, peer: str) -> bool:
        try:
            address: IPv4Address | IPv6Address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.allow_ips)


def _either_way(byte: int) -> bytes:
    """Matches a byte as it is, and percent-encoded; a blank may be a plus (URL standard, forms)."""
    plus = rb"|\+" if byte == ord(" ") else b""
    return rb"(?:%b%b|%%(?i:%02x))" % (re.escape(bytes([byte])), plus, byte)


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
