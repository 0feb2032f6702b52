"""Who asks, and what that permits: one table of the routes that change something, with the role that each needs.

A token is of a name and a role (``admin.tokens``). Reading needs the role ``read``, which each token has. Each route
that changes something is listed in :data:`CHANGES`; one that is missing there needs ``operate``.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from aiohttp import web

from gateway.config.admin_settings import ADMIN, Admin, Role
from gateway.errors import Forbidden

_RANKS: Final[Mapping[Role, int]] = {"read": 0, "operate": 1, "admin": 2}
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


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
