"""Who may ask what: token, host, origin; and the headers that lock the pages down.

* A token, once one is set, for everything but health and the console's own files (they hold no secret). It is
  a header, so that no other site's page can send it along.
* On a loopback address the ``Host`` must be one of this machine or an IP address: a page of another site whose name is
  made to resolve to 127.0.0.1 (DNS rebinding) is of the same origin as we for its browser, but keeps its name.
* What changes something must be ``application/json``: a form of another site cannot send that, and a script of
  another site may not, as we answer no preflight (Fetch standard, "CORS-safelisted request-header"). Browsers
  also say where a request comes from (``Sec-Fetch-Site``, ``Origin``), and what comes from elsewhere is refused.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway.config.settings import Admin
from gateway.errors import Forbidden, SenderError, Unauthenticated

#: Health answers tell no secret, and probes have no token. The page asks for the token itself.
_OPEN_PATHS: Final = frozenset({"/", "/healthz", "/readyz"})
_OPEN_PREFIX: Final = "/static/"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
#: Nothing here is for frames, other origins or caches; scripts and styles are files of ours only.
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


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Signal ``on_response_prepare``: on every answer, streams and errors too."""
    kept = response.headers.get("Cache-Control")
    response.headers.update(HEADERS)
    if kept is not None:
        response.headers["Cache-Control"] = kept


def check(request: web.Request, settings: Admin) -> None:
    """Let a request through or raise.

    Raises:
        Unauthenticated, Forbidden, NotJson: see the module.
    """
    if is_loopback(settings.host) and not _is_of_this_machine(request.host):
        raise Forbidden(
            "the Host header is not an address of this machine; use 127.0.0.1 or localhost, or give the admin port "
            "a host and a token"
        )
    token = settings.token.get_secret_value()
    is_open = request.method in _SAFE_METHODS and (request.path in _OPEN_PATHS or request.path.startswith(_OPEN_PREFIX))
    if token and not is_open and not _has_token(request, token):
        raise Unauthenticated("the admin token is needed: Authorization: Bearer …")
    if request.method not in _SAFE_METHODS:
        _check_origin(request)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on this host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _has_token(request: web.Request, token: str) -> bool:
    """Compared in constant time, as bytes: a header may hold anything."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "surrogateescape"), token.encode()
    )


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
    if request.content_type != "application/json":
        raise NotJson("send application/json")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("requests from other sites are refused")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise Forbidden("requests from other sites are refused")
