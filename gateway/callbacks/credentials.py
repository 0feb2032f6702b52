"""Who sends a request: the address behind proxies, and the credentials of a path.

A request has to pass every configured check: address, token, signature. Tokens and signatures are compared in constant
time. A path without checks accepts every sender; the gateway logs a warning at its start.

Any client can send ``X-Forwarded-For``. The header is used only if it comes from a trusted proxy. It is read from the
right: each trusted hop confirms the one before it, and the first hop that is not trusted is the caller.

Tokens are removed from stored bytes, in any notation (:func:`redacted`): a proxy in front of the gateway may repeat a
whole address in its own header, and a sender may repeat its configuration in a body. A token is found

* unchanged, in any case, with each character percent-encoded once or several times, or as a JSON escape;
* in base64 of either alphabet, also as part of a longer text such as ``user:token``;
* in hexadecimal.

Tokens shorter than six bytes are not searched: numbers and words may contain them by chance.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.callbacks import form
from gateway.callbacks.payload import CallbackRequest
from gateway.callbacks.sender_signatures import verify
from gateway.callbacks.signature import SignaturePolicy
from gateway.errors import Forbidden, Unauthenticated

Network = IPv4Network | IPv6Network

#: Query parameter that may have the token.
TOKEN_FIELD: Final = "token"  # noqa: S105 - a name
#: Headers that may have the token; NXLink sends ``token`` (protocol.md, section 8).
_TOKEN_HEADERS: Final = ("token", "x-gateway-token")

#: Replaces a secret in stored data.
MARK: Final = b"***"
#: Bytes of the shortest secret that is searched. With ten times more, most tokens would not be removed.
_SHORTEST: Final = 6
#: base64 writes 6 bits in a character: a byte begins with one of three offsets in its group of three bytes.
_BITS: Final = 6
_GROUP: Final = 3
_STANDARD_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")
#: Notations in addresses and in JSON.
_ESCAPES_IN_BASE64: Final = ((b"%2B", b"+"), (b"%2b", b"+"), (b"%2F", b"/"), (b"%2f", b"/"), (b"\\/", b"/"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The checks of one path, created once.

    Args:
        tokens: accepted tokens, several during a rotation; none may be empty.
        allow_ips: accepted networks of senders, behind trusted proxies.
        signature: see :class:`SignaturePolicy`.
    """

    tokens: tuple[str, ...] = ()
    allow_ips: tuple[Network, ...] = ()
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
        if self.allow_ips:
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
            is_text: see :func:`gateway.callbacks.credentials.redacted`.
        """
        return redacted(data, self.tokens, is_text=is_text)

    def _is_allowed(self, peer: str) -> bool:
        address = _parsed(peer)
        return address is not None and any(address in network for network in self.allow_ips)


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


class _Finder(NamedTuple):
    """Finds secrets by two patterns, after cheap tests whether a pattern can match.

    Args:
        spelled: matches a secret character by character.
        encoded: matches a secret in base64 or hexadecimal.
        folded: texts in lower-case data that contain an unchanged secret. Empty if a secret has a non-ASCII character
            or a space, which have several notations.
        in_base64: texts in data that contain a secret in base64, without the characters shared with neighbours.
        in_hex: the same in hexadecimal, lower case.
    """

    spelled: re.Pattern[bytes]
    encoded: re.Pattern[bytes]
    folded: tuple[bytes, ...]
    in_base64: tuple[bytes, ...]
    in_hex: tuple[bytes, ...]

    def without(self, data: bytes) -> bytes:
        """Return the data with marks in place of secrets."""
        has_escapes = b"%" in data or b"\\" in data
        folded = data.lower()
        if has_escapes or not self.folded or any(text in folded for text in self.folded):
            data = self.spelled.sub(MARK, data)
        standard = data.translate(_STANDARD_ALPHABET)
        if has_escapes:
            for escape, character in _ESCAPES_IN_BASE64:
                standard = standard.replace(escape, character)
        if any(text in standard for text in self.in_base64) or any(text in folded for text in self.in_hex):
            data = self.encoded.sub(MARK, data)
        return data


def redacted(data: bytes, secrets: tuple[str, ...], *, is_text: bool = False) -> bytes:
    """Return the bytes with a mark in place of each secret, in time proportional to their size.

    Args:
        data: to be stored.
        secrets: to be removed.
        is_text: keep an unchanged secret that is part of a longer word or number. For payloads that are decoded again.
    """
    long_enough = tuple(secret for secret in secrets if len(secret.encode()) >= _SHORTEST)
    return _finder(long_enough, is_text).without(data) if long_enough and data else data


@lru_cache(maxsize=64)
def _finder(secrets: tuple[str, ...], is_text: bool) -> _Finder:
    longest_first = sorted(secrets, key=len, reverse=True)
    spelled = b"|".join(b"".join(map(_character, secret)) for secret in longest_first)
    if is_text:
        spelled = rb"(?<![0-9A-Za-z])(?:" + spelled + rb")(?![0-9A-Za-z])"
    in_hex = tuple(secret.encode().hex().encode() for secret in longest_first)
    in_base64 = [text for secret in longest_first for text in _base64_texts(secret.encode())]
    encoded = b"|".join([*(b"(?i:" + text + b")" for text in in_hex), *map(_base64_pattern, in_base64)])
    is_plain = all(secret.isascii() and " " not in secret for secret in secrets)
    return _Finder(
        re.compile(spelled, re.IGNORECASE),
        re.compile(encoded),
        tuple(secret.lower().encode() for secret in secrets) if is_plain else (),
        tuple(text.strip(b"?") for text in in_base64),
        in_hex,
    )


def _character(character: str) -> bytes:
    """Return a pattern of one character; it ignores the case of ASCII characters."""
    cases = {character, character.lower(), character.upper()} if not character.isascii() else {character}
    ways = [b"".join(map(_byte, case.encode())) for case in sorted(cases)]
    for case in sorted(cases):
        units = case.encode("utf-16-be")
        ways.append(b"".join(rb"\\u" + units[at : at + 2].hex().encode() for at in range(0, len(units), 2)))
    if character in '"\\/':
        ways.append(re.escape(b"\\" + character.encode()))
    if character == " ":
        ways.append(rb"\+")
    return b"(?:" + b"|".join(ways) + b")"


def _byte(byte: int) -> bytes:
    """Return a pattern of a byte, raw or percent-encoded; the percent sign may be encoded again."""
    return rb"(?:%b|%%(?:%02x|25(?:25)*%02x))" % (re.escape(bytes([byte])), byte, byte)


def _base64_texts(secret: bytes) -> list[bytes]:
    """Return the secret in base64 at each offset; ``?`` is a character that it shares with a neighbour."""
    texts = []
    for offset in range(_GROUP):
        first, beyond = offset * 8, (offset + len(secret)) * 8
        text = base64.b64encode(bytes(offset) + secret).rstrip(b"=")
        whole = text[-(-first // _BITS) : beyond // _BITS]
        texts.append((b"?" if first % _BITS else b"") + whole + (b"?" if beyond % _BITS else b""))
    return texts


def _base64_pattern(text: bytes) -> bytes:
    ways = {
        ord("?"): rb"[0-9A-Za-z+/_\-]",
        ord("+"): rb"(?:[+\-]|%2[Bb])",
        ord("/"): rb"(?:\\?/|_|%2[Ff])",
    }
    return b"".join(ways.get(byte, bytes([byte])) for byte in text) + rb"(?:=|%3[Dd]){0,2}"
