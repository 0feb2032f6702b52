"""Handshakes of senders that ask for permission before they send: Meta by GET, CloudEvents senders by OPTIONS.

Sources: Meta, "Webhooks: getting started", "Verification requests"; CloudEvents, "HTTP 1.1 Web Hooks for Event
Delivery", section 4 (abuse protection). ``WebHook-Request-Callback`` asks for a later answer at an address that the
sender chooses. The gateway answers at once and never calls this address.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.callbacks import form
from gateway.callbacks.answers import Answer

_TEXT: Final = "text/plain; charset=utf-8"
#: Form of a challenge; Meta's is a number. An echoed challenge must not be markup.
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9._\-]{1,256}")
_ORIGIN: Final = re.compile(r"[A-Za-z0-9.:_\-]{1,255}")
_NO_SNIFFING: Final = ("X-Content-Type-Options", "nosniff")


@dataclass(frozen=True, slots=True)
class Handshake:
    """Handshakes of one path.

    Args:
        verify_token: token of Meta's verification request; empty: the request is not answered.
        allowed_origins: names of accepted CloudEvents senders in lower case, or ``*``; empty: OPTIONS is not answered.
    """

    verify_token: str = ""
    allowed_origins: frozenset[str] = frozenset()

    @property
    def methods(self) -> frozenset[str]:
        """HTTP methods of the answered handshakes."""
        asked = {"GET": self.verify_token, "OPTIONS": self.allowed_origins}
        return frozenset(method for method, setting in asked.items() if setting)

    def answer(self, method: str, query: bytes, headers: Mapping[str, str]) -> Answer | None:
        """Return the answer to a handshake, 200 or 403; None for another request.

        Args:
            method: method of the request.
            query: raw bytes after ``?``.
            headers: names in lower case.
        """
        if method == "GET" and self.verify_token and b"hub.mode" in query:
            return self._challenge(dict(form.pairs(query)))
        if method == "OPTIONS" and self.allowed_origins and "webhook-request-origin" in headers:
            return self._permission(headers)
        return None

    def _challenge(self, fields: Mapping[str, str]) -> Answer:
        challenge = fields.get("hub.challenge", "")
        is_right = hmac.compare_digest(self.verify_token.encode(), fields.get("hub.verify_token", "").encode())
        if is_right and fields.get("hub.mode") == "subscribe" and _CHALLENGE.fullmatch(challenge):
            return Answer(200, _TEXT, challenge.encode(), (_NO_SNIFFING,))
        return Answer(403, _TEXT, b"error", (_NO_SNIFFING,))

    def _permission(self, headers: Mapping[str, str]) -> Answer:
        origin = headers["webhook-request-origin"].strip()
        is_allowed = "*" in self.allowed_origins or origin.lower() in self.allowed_origins
        if not is_allowed or not _ORIGIN.fullmatch(origin):
            return Answer(403, _TEXT, b"error", (("Allow", "POST"),))
        found = [("Allow", "POST"), ("WebHook-Allowed-Origin", origin)]
        if "webhook-request-rate" in headers:
            found.append(("WebHook-Allowed-Rate", "*"))
        return Answer(200, _TEXT, b"", tuple(found))
