"""Who may ask what: token, host, origin; the role that each change needs; and the headers that lock the pages down.

* A token, once one is set, for everything but health and the console's own files (they hold no secret). It is
  a header, so that no other site's page can send it along. A stream that has a token of its own is read with that
  one, too; it opens nothing else, and is asked for also where no admin token is set.
* A token is of a name and a role (``admin.tokens``). Reading needs the role ``read``, which each token has. Each route
  that changes something is listed in :data:`CHANGES`; one that is missing there needs ``operate``.
* A wrong token is counted, logged, and answered late: guessing becomes slow and visible; the protection is a long
  token. Guesses never slow requests with a right one. The state is a few numbers for the process: an address proves
  nothing behind a proxy, and a table of addresses would be the guesser's to fill. Beyond :data:`MAX_WAITING` late
  answers at a time the next one is refused at once with 429, so guesses in parallel take neither memory nor time of the
  event loop.
* On a loopback address the ``Host`` must be one of this machine or an IP address: a page of another site whose name is
  made to resolve to 127.0.0.1 (DNS rebinding) is of the same origin as we for its browser, but keeps its name.
* What changes something must be ``application/json``: a form of another site cannot send that, and a script of
  another site may not, as we answer no preflight (Fetch standard, "CORS-safelisted request-header"). Browsers
  also say where a request comes from (``Sec-Fetch-Site``, ``Origin``), and what comes from elsewhere is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from pydantic import SecretStr

from gateway.config.rules import is_loopback
from gateway.config.sections import ADMIN, Admin, Role
from gateway.config.settings import Subscriber
from gateway.errors import Forbidden, SenderError, Unauthenticated
from gateway.telemetry.metrics import METRICS

_RANKS: Final[Mapping[Role, int]] = {"read": 0, "operate": 1, "admin": 2}
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
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
#: Before a wrong token is answered: a person does not notice; ten times more, and commands with an old one look broken.
PAUSE_S: Final = 0.3
#: Answers that wait. Ten times more would let guessers hold the admin port's connections.
MAX_WAITING: Final = 16
_LOG_EVERY_S: Final = 10.0

_COUNT: Final = METRICS.counter("gateway_admin_unauthenticated")

_log = structlog.get_logger("gateway.admin")


class RouteChange(NamedTuple):
    """A route that changes something.

    Args:
        role: the least role that it needs.
        action: its word in the audit record.
        summary: what it does, for the documents.
    """

    role: Role
    action: str
    summary: str


#: By method and route, as it is registered.
CHANGES: Final[Mapping[tuple[str, str], RouteChange]] = {
    ("POST", "/api/subscribers"): RouteChange("admin", "add", "Add a subscriber"),
    ("PATCH", "/api/subscribers/{name}"): RouteChange(
        "admin", "set", "Change a subscriber: a JSON merge patch (RFC 7386)"
    ),
    ("DELETE", "/api/subscribers/{name}"): RouteChange("admin", "remove", "Remove a subscriber"),
    ("POST", "/api/subscribers/{name}/rotate-secret"): RouteChange("admin", "rotate", "Give a subscriber a new secret"),
    ("DELETE", "/api/subscribers/{name}/secrets/{fingerprint}"): RouteChange("admin", "end-secret", "End a secret"),
    ("POST", "/api/subscribers/{name}/test"): RouteChange("operate", "test", "Send one signed sample of a type"),
    ("POST", "/api/subscribers/{name}/pause"): RouteChange("operate", "pause", "Hold its events back"),
    ("POST", "/api/subscribers/{name}/resume"): RouteChange("operate", "resume", "Continue after a pause or a 410"),
    ("POST", "/api/replay"): RouteChange("operate", "replay", "Deliver events again"),
    ("POST", "/api/replays/{number}/cancel"): RouteChange(
        "operate", "cancel-replay", "Withdraw what it did not deliver yet"
    ),
    ("POST", "/api/replays/{number}/resume"): RouteChange("operate", "resume-replay", "Continue it as a new replay"),
    ("POST", "/api/dead-letters/resolve"): RouteChange("operate", "resolve", "Close dead letters with a note"),
    ("POST", "/api/rejected/replay"): RouteChange("operate", "replay-rejected", "Decode rejected callbacks again"),
}
_OTHER: Final = RouteChange("operate", "change", "")


class Actor(NamedTuple):
    """Who asks.

    Args:
        name: of the token; ``"anonymous"`` where no token is needed.
        role: what it permits.
    """

    name: str
    role: Role


#: Where a request has whom it is of.
ACTOR: Final = web.RequestKey("actor", Actor)
#: Where no token is set, only this machine can ask.
ANONYMOUS: Final = Actor("anonymous", "admin")


def find_actor(given: bytes, settings: Admin) -> Actor | None:
    """Return whom a token is of; each is compared, in constant time."""
    found = [actor for text, actor in _tokens(settings) if hmac.compare_digest(given, text.encode())]
    return found[0] if found else None


def _tokens(settings: Admin) -> list[tuple[str, Actor]]:
    found = [(one.token.get_secret_value(), Actor(one.name, one.role)) for one in settings.tokens]
    if text := settings.token.get_secret_value():
        found.append((text, Actor(ADMIN, "admin")))
    return found


def change_of(request: web.Request) -> RouteChange | None:
    """Return what a request changes; None if it only reads."""
    if request.method in SAFE_METHODS:
        return None
    resource = request.match_info.route.resource
    return CHANGES.get((request.method, resource.canonical if resource is not None else ""), _OTHER)


def check_role(actor: Actor, change: RouteChange) -> None:
    """Check that an actor may do this.

    Raises:
        Forbidden: the role does not permit it; says which does.
    """
    if _RANKS[actor.role] < _RANKS[change.role]:
        raise Forbidden(
            f"this needs a token with the role {change.role!r}, and the token {actor.name!r} has {actor.role!r}"
        )


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


class TooManyWrongTokens(SenderError):
    """Many wrong tokens come at the same time, this one among them. Send the right one; it is not slowed."""

    status_hint = 429
    retry_after_s = 1.0


class WrongTokens:
    """Counts and slows down wrong tokens of one process."""

    def __init__(self) -> None:
        #: Answers that wait now.
        self.waiting = 0
        self._unlogged = 0
        self._logged_at = -_LOG_EVERY_S

    async def slow_down(self, peer: str) -> None:
        """Count a request with a wrong token, and wait before it is answered.

        Args:
            peer: address at the other end of the connection, for the log.

        Raises:
            TooManyWrongTokens: too many wait already.
        """
        self._note(peer)
        if self.waiting >= MAX_WAITING:
            raise TooManyWrongTokens("too many wrong tokens at a time; send the right one")
        self.waiting += 1
        try:
            await asyncio.sleep(PAUSE_S)
        finally:
            self.waiting -= 1

    def _note(self, peer: str) -> None:
        _COUNT.inc()
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            _log.warning(
                "admin.unauthenticated",
                peer=peer,
                attempts=self._unlogged,
                advice="a page or script with an old admin.token, or someone who guesses; see who that address is",
            )
            self._logged_at, self._unlogged = now, 0


WRONG_TOKENS: Final = WrongTokens()
