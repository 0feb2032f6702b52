"""The address of a webhook: read once, the same way by everything that handles it.

What a subscriber's ``url`` says behind the host goes into the request line character by character: ``%2F`` and ``/``,
``%7e`` and ``~``, ``//`` and ``/`` are different to servers that route or sign by them, and only the subscriber knows
(RFC 3986, section 6: normalisation is for comparing). What is not allowed in a request line is refused, with one
exception: characters beyond ASCII become their UTF-8 bytes, percent-encoded, as there is no other way to send them
(RFC 3987, section 3.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from yarl import URL

_FORM: Final = "an address of the form https://host/path is needed"
_UNSENDABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]")
_AUTHORITY: Final = re.compile(r"https?://([^/?#]+)", re.IGNORECASE)
_NAME: Final = re.compile(r"[0-9a-z_-]{1,63}(?:\.[0-9a-z_-]{1,63})*\.?")
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """An address, taken apart.

    Args:
        scheme: ``http`` or ``https``.
        host: lower case; a name beyond ASCII in its IDNA form, an IPv6 address without brackets.
        port: also where the address does not name it.
        target: of the request line (RFC 9112, section 3.2.1), as configured.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """Return scheme, host and any non-default port: all that may be shown, as path and query may hold a secret."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of ``Host`` (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@lru_cache(maxsize=1024)
def parse(text: str) -> WebhookUrl:
    """Parse an address.

    Raises:
        ValueError: it cannot be used; a sentence on what to write instead.
    """
    found = _UNSENDABLE.search(text)
    if found is not None:
        raise ValueError(
            f"holds {_named(found[0])} at position {found.start() + 1}, which cannot be sent in a request line; "
            f"write {quote(found[0], errors='replace')} if it belongs there"
        )
    authority = _AUTHORITY.match(text)
    if authority is None:
        raise ValueError(_FORM)
    if "@" in authority[1]:
        raise ValueError("keep credentials out of the address; use headers with ${NAME}")
    if "#" in text:
        raise ValueError("what follows # is never sent; leave it out, or write %23 if it belongs to the address")
    scheme, host, port = _server(text)
    target = _BEYOND_ASCII.sub(lambda beyond: quote(beyond[0]), text[authority.end() :])
    return WebhookUrl(scheme, host, port, target if target.startswith("/") else f"/{target}")


def _server(text: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(text)
        port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
        host = URL.build(scheme=parts.scheme, host=parts.hostname or "", port=port).raw_host
    except (ValueError, KeyError) as exc:
        raise ValueError(_FORM) from exc
    host = (host or "").lower()
    if not port or not (_NAME.fullmatch(host) or _is_ip(host)):
        raise ValueError(_FORM)
    return parts.scheme, host, port


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _named(character: str) -> str:
    names = {" ": "a space", "\t": "a tab", "\n": "a line end", "\r": "a line end"}
    return names.get(character, f"the control character U+{ord(character):04X}")
