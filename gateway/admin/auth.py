"""Who may ask what: token, host, origin; and the headers that lock the pages down.

* A token, once one is set, for everything but health and the console's own files (they hold no secret). It is
  a header, so that no other site's page can send it along. A stream that has a token of its own is read with that
  one, too; it opens nothing else, and is asked for also where no admin token is set.
* On a loopback address the ``Host`` must be one of this machine or an IP address: a page of another site whose name is
  made to resolve to 127.0.0.1 (DNS rebinding) is of the same origin as we for its browser, but keeps its name.
* What changes something must be ``application/json``: a form of another site cannot send that, and a script of
  another site may not, as we answer no preflight (Fetch standard, "CORS-safelisted request-header"). Browsers
  also say where a request comes from (``Sec-Fetch-Site``, ``Origin``), and what comes from elsewhere is refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import SecretStr

from gateway.admin.roles import ANONYMOUS, SAFE_METHODS, Actor, change_of, check_role, find_actor
from gateway.config.admin_settings import Admin
from gateway.config.rules import is_loopback
from gateway.config.settings import Subscriber
from gateway.errors import Forbidden, SenderError, Unauthenticated

#: Health checks reveal no secret, and probes have no token. The page asks for the token itself.
_OPEN_PATHS: Final = frozenset({"/", "/healthz", "/readyz"})
_OPEN_PREFIX: Final = "/static/"
_STREAMS_PREFIX: Final = "/api/streams/"
#: Forbid frames, other origins and caches; scripts and styles come from the gateway only.
HEADERS: Final = {
    "Server": "gateway",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
}


class NotJson(SenderError):
    """A request that changes something must say ``content-type: application/json``."""

    status_hint = 415


class WrongToken(Unauthenticated):
    """The token that was given is none of ``admin.token`` and ``admin.tokens``. Such answers come late."""


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Signal ``on_response_prepare``: on every answer, streams and errors too."""
    kept = response.headers.get("Cache-Control")
    response.headers.update(HEADERS)
    if kept is not None:
        response.headers["Cache-Control"] = kept


def check(request: web.Request, settings: Admin, subscribers: Sequence[Subscriber] = ()) -> Actor:
    """Check a request and return who asks, or raise.

    Args:
        request: what is asked.
        settings: tokens and their roles.
        subscribers: as in force now; streams among them may have a token.

    Raises:
        Unauthenticated, WrongToken, Forbidden, NotJson: see the module.
    """
    if is_loopback(settings.host) and not _is_of_this_machine(request.host):
        raise Forbidden(
            "the Host header is not an address of this machine; use 127.0.0.1 or localhost, or give the admin port "
            "a host and a token"
        )
    actor = _actor(request, settings, subscribers)
    if (change := change_of(request)) is not None:
        _check_origin(request)
        check_role(actor, change)
    return actor


def _actor(request: web.Request, settings: Admin, subscribers: Sequence[Subscriber]) -> Actor:
    given = _bearer(request)
    actor = find_actor(given, settings) if given is not None else None
    if actor is not None:
        return actor
    of_streams = [text for token in _stream_token(request, subscribers) if (text := token.get_secret_value())]
    if given is not None and any(hmac.compare_digest(given, text.encode()) for text in of_streams):
        return Actor("stream", "read")
    is_open = request.method in SAFE_METHODS and (request.path in _OPEN_PATHS or request.path.startswith(_OPEN_PREFIX))
    if is_open or not (settings.has_token or of_streams):
        return ANONYMOUS
    of_stream = ", or the stream's own" if request.path.startswith(_STREAMS_PREFIX) else ""
    kind = WrongToken if request.headers.get("Authorization") else Unauthenticated
    raise kind(f"the admin token is needed{of_stream}: Authorization: Bearer …")


def _stream_token(request: web.Request, subscribers: Sequence[Subscriber]) -> list[SecretStr]:
    """Return the token of the stream that is requested."""
    if request.method not in SAFE_METHODS or not request.path.startswith(_STREAMS_PREFIX):
        return []
    name = request.path.removeprefix(_STREAMS_PREFIX)
    return [one.token for one in subscribers if one.kind == "stream" and one.name == name]


def _bearer(request: web.Request) -> bytes | None:
    """Return the token that was given, as bytes: a header may hold anything."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else None


def _is_of_this_machine(host_header: str) -> bool:
    host = urlsplit(f"//{host_header}").hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _check_origin(request: web.Request) -> None:
    if request.content_type not in {"application/json", "application/merge-patch+json"}:
        raise NotJson("send application/json")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("requests from other sites are refused")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise Forbidden("requests from other sites are refused")
