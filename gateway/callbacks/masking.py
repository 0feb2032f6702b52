"""Remove secrets from stored bytes, in any notation.

A proxy in front of the gateway may repeat a whole address in its own header, and a sender may repeat its configuration
in a body. A secret is found

* unchanged, in any case, with each character percent-encoded once or several times, or as a JSON escape;
* in base64 of either alphabet, also as part of a longer text such as ``user:token``;
* in hexadecimal.

Secrets shorter than six bytes are not searched: numbers and words may contain them by chance.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Final, NamedTuple

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
