"""Subscribers at run time: add, look at, change, remove, give a new secret, test; pause and resume; read a stream.

=============================================  =============================================================
``POST /api/subscribers``                      a subscriber, with the keys of ``config.yaml``
``GET /api/subscribers/<name>``                its settings, without secrets; ``ETag``
``PATCH /api/subscribers/<name>``              a JSON merge patch (RFC 7386); ``If-Match`` is honoured
``DELETE /api/subscribers/<name>``             ``If-Match`` is honoured
``POST …/<name>/rotate-secret``                ``secret`` (left out: one is made, and shown this once) ``overlap_s``
``DELETE …/<name>/secrets/<fingerprint>``      ends a secret
``POST …/<name>/test``                         ``type``; sends one signed sample, and shows request and answer
=============================================  =============================================================

Those of the configuration file are read only here, and win on names. A secret is never shown again: each has a
fingerprint, the first 12 hex digits of its SHA-256.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin import audit
from gateway.admin.audit import Idempotency
from gateway.admin.auth import ACTOR
from gateway.admin.monitor import Monitor
from gateway.admin.overview import Overview, target
from gateway.admin.parts import NotHere, Parts
from gateway.admin.responses import BadRequest, NotFound, OpenStreams, body, json_response
from gateway.admin.sample_delivery import send_test, types_of
from gateway.clock import SystemClock
from gateway.config import subscriber_document
from gateway.config.settings import Subscriber
from gateway.config.subscriber_document import Tree
from gateway.errors import ConfigError, NotNow, SenderError
from gateway.fanout.sse import EventStream
from gateway.fanout.subscriber_records import HOW_TO_MAKE, Kept, SubscriberDocument, fingerprint, listed
from gateway.fanout.subscriber_store import MOST, SubscriberStore
from gateway.fanout.subscriptions import FanOut

_SECRET_BYTES: Final = 32
_YEAR_S: Final = 365 * 86400.0
#: With Kafka the states kept from before are there when a consumer has joined its group.
_START_S: Final = 15.0


class Unprocessable(SenderError):
    """The settings cannot be used; each problem is named with its key path."""

    status_hint = 422


class Changed(SenderError):
    """The subscriber was changed since the version that ``If-Match`` names. Read it again."""

    status_hint = 412


class SubscriberChanges:
    """Routes of this file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._idempotency = Idempotency()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        once = self._idempotency.once
        router.add_post("/api/subscribers", once(self._add))
        router.add_get("/api/subscribers/{name}", self._show)
        router.add_patch("/api/subscribers/{name}", self._set)
        router.add_delete("/api/subscribers/{name}", self._remove)
        router.add_post("/api/subscribers/{name}/rotate-secret", once(self._rotate))
        router.add_delete("/api/subscribers/{name}/secrets/{fingerprint}", self._remove_secret)
        router.add_post("/api/subscribers/{name}/test", once(self._test))

    async def _add(self, request: web.Request) -> web.Response:
        store = self._parts.needed_stored()
        tree = await _tree(request)
        async with store.changing:
            subscriber = self._read(tree, store)
            self._check_free(subscriber.name, store)
            document = self._document(request, store, tree)
            kept = await store.write(subscriber.name, document)
        audit.note(request, subject=subscriber.name, changed=sorted(tree))
        response = self._described(request, subscriber.name, kept, 201)
        response.headers["Location"] = f"/api/subscribers/{subscriber.name}"
        return response

    def _check_free(self, name: str, store: SubscriberStore) -> None:
        if name in self._parts.of_file:
            raise NotHere(f"the configuration file has a subscriber {name!r}: change it there, or use another name")
        if store.get(name) is not None:
            raise NotHere(f"there is a subscriber {name!r} already; change it with PATCH, or 'gateway subscribers set'")
        if len(store.names()) >= MOST:
            raise NotHere(f"there are {MOST} stored subscribers, and no room for more; remove one")

    async def _show(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        kept = self._parts.stored.get(name) if self._parts.stored is not None else None
        if name not in self._parts.of_file and kept is None:
            raise NotFound(f"there is no subscriber {name!r}")
        return self._described(request, name, kept)

    async def _set(self, request: web.Request) -> web.Response:
        patch, name = await _tree(request), request.match_info["name"]
        store = self._parts.needed_stored()
        async with store.changing:
            kept, before = self._kept(request, store)
            tree = subscriber_document.patched(before.settings, patch)
            if tree.get("name", name) != name:
                raise Unprocessable(
                    "name: cannot be changed, as positions in the log are stored by it; add another subscriber"
                )
            changed = subscriber_document.changed_paths(before.settings, {**tree, "name": name})
            if changed:
                self._read(tree, store)
                kept = await store.write(name, self._document(request, store, {**tree, "name": name}, before))
            else:
                audit.skip(request)
        audit.note(request, changed=changed) if changed else None
        return self._described(request, name, kept)

    async def _remove(self, request: web.Request) -> web.Response:
        await body(request)
        store = self._parts.needed_stored()
        async with store.changing:
            self._kept(request, store, is_removed=True)
            await store.write(request.match_info["name"], None)
        return json_response({"name": request.match_info["name"], "removed": True})

    async def _rotate(self, request: web.Request) -> web.Response:
        given = await body(request)
        overlap_s = given.number("overlap_s", high=_YEAR_S)
        own = given.text("secret")
        made = own or "whsec_" + base64.b64encode(os.urandom(_SECRET_BYTES)).decode()
        store, name = self._parts.needed_stored(), request.match_info["name"]
        async with store.changing:
            _, before = self._kept(request, store)
            old = _secrets(before)
            if made in old:
                raise Unprocessable("secret: it is one of the subscriber's secrets already")
            now = store.now
            ends = {} if overlap_s is None else {fingerprint(one): now + overlap_s for one in old}
            # One that was to end sooner still does.
            retiring = ends | {mark: min(at, ends.get(mark, at)) for mark, at in before.retiring.items()}
            tree = {**before.settings, "secrets": [made, *old]}
            if self._read(tree, store).kind != "webhook":
                raise NotHere(f"{name} is no webhook; only these are signed")
            document = replace(self._document(request, store, tree, before), retiring=retiring).at(now)
            kept = await store.write(name, document)
        audit.note(request, changed=["secrets"], fingerprint=fingerprint(made), overlap_s=overlap_s)
        shown = {"secret": None if own else made, "fingerprint": fingerprint(made)}
        return self._described(request, name, kept, more=shown)

    async def _remove_secret(self, request: web.Request) -> web.Response:
        await body(request)
        store, name, mark = self._parts.needed_stored(), *map(request.match_info.get, ("name", "fingerprint"))
        async with store.changing:
            _, before = self._kept(request, store)
            left = [secret for secret in _secrets(before) if fingerprint(secret) != mark]
            if len(left) == len(_secrets(before)):
                raise NotFound(f"{name} has no secret with the fingerprint {mark}")
            document = self._document(request, store, {**before.settings, "secrets": left}, before)
            kept = await store.write(str(name), document)
        audit.note(request, changed=["secrets"], fingerprint=mark)
        return self._described(request, str(name), kept)

    async def _test(self, request: web.Request) -> web.Response:
        given = await body(request)
        self._parts.needed_fanout()
        subscriber = self._parts.subscriber(request.match_info["name"])
        wanted = given.text("type")
        is_admin = request[ACTOR].role == "admin"
        async with self._parts.scanning(f"test.{subscriber.name}"):
            found = await send_test(subscriber, wanted, self._parts.settings, with_url=is_admin)
        status = found["answer"]["status"] if found["answer"] else None
        audit.note(request, type=found["type"], status=status)
        return json_response(found)

    def _kept(
        self, request: web.Request, store: SubscriberStore, *, is_removed: bool = False
    ) -> tuple[Kept, SubscriberDocument]:
        """Return the stored subscriber that a request is about, as it is now.

        Raises:
            NotHere, NotFound, Changed: it cannot be changed.
        """
        name = request.match_info["name"]
        kept = store.get(name)
        if name in self._parts.of_file:
            raise NotHere(f"{name!r} is a subscriber of the configuration file: change it there")
        if kept is None:
            raise NotFound(f"there is no subscriber {name!r}")
        wanted = request.headers.get("If-Match")
        if wanted is not None and wanted != "*" and kept.etag not in {one.strip(' "') for one in wanted.split(",")}:
            raise Changed(f"{name!r} was changed since you read it; read it again")
        if kept.document is None and not is_removed:
            raise NotHere(f"{name!r} cannot be read: {kept.problem}")
        return kept, kept.document.at(store.now) if kept.document is not None else SubscriberDocument({})

    def _read(self, tree: Tree, store: SubscriberStore) -> Subscriber:
        """See that settings can be used, and stored.

        Raises:
            Unprocessable: all problems.
        """
        try:
            subscriber = subscriber_document.read(tree, self._parts.settings)
        except ConfigError as exc:
            raise Unprocessable("\n".join(exc.problems)) from exc
        if subscriber_document.secrets_of(tree) and not store.takes_secrets:
            raise Unprocessable(
                f"secrets are stored encrypted, and there is no key to encrypt them with: {HOW_TO_MAKE}"
            )
        return subscriber

    def _document(
        self, request: web.Request, store: SubscriberStore, tree: Tree, before: SubscriberDocument | None = None
    ) -> SubscriberDocument:
        now = store.now
        marks = {fingerprint(secret) for secret in _secrets(SubscriberDocument(tree))}
        retiring = {} if before is None else {mark: at for mark, at in before.retiring.items() if mark in marks}
        created_at = now if before is None else before.created_at
        return SubscriberDocument(tree, retiring, created_at, now, request[ACTOR].name)

    def _described(
        self,
        request: web.Request,
        name: str,
        kept: Kept | None,
        status: int = 200,
        more: Mapping[str, Any] | None = None,
    ) -> web.Response:
        found: dict[str, Any]
        if name in self._parts.of_file or kept is None:
            one = self._parts.subscriber(name)
            found = {
                "name": name,
                "source": "file",
                **self._shown(request, SubscriberDocument(subscriber_document.written(one))),
            }
            etag = hashlib.sha256(orjson.dumps(found)).hexdigest()[:16]
        else:
            document = kept.document or SubscriberDocument({})
            found = {"name": name, "source": "api", **self._shown(request, document.at(self._now))}
            found |= {
                "problem": kept.problem or None,
                "created_at": document.created_at,
                "changed_at": document.changed_at,
                "changed_by": document.changed_by,
            }
            etag = kept.etag
        response = json_response({**found, "etag": etag, **(more or {})}, status)
        response.headers["ETag"] = f'"{etag}"'
        return response

    @property
    def _now(self) -> float:
        assert self._parts.stored is not None
        return self._parts.stored.now

    def _shown(self, request: web.Request, document: SubscriberDocument) -> dict[str, Any]:
        """Return settings without secrets; addresses often have one, so that only who may set them sees them whole."""
        settings = subscriber_document.without_secrets(document.settings)
        try:
            one = subscriber_document.read(document.settings, self._parts.settings) if document.settings else None
        except ConfigError:
            one = None
        if "url" in settings and request[ACTOR].role != "admin":
            settings["url"] = target(one) if one is not None else None
        return {
            "settings": settings,
            "secrets": [
                {"fingerprint": mark, "ends_at": document.retiring.get(mark)}
                for mark in map(fingerprint, _secrets(document))
            ],
            "header_names": sorted(document.settings.get("headers") or {}),
            "has_token": bool(document.settings.get("token")),
            "types": [] if one is None else list(types_of(one, self._parts.settings)),
        }


async def _tree(request: web.Request) -> Tree:
    """Return the JSON object of a request.

    Raises:
        BadRequest: it is none, or has more levels than a configuration may have.
    """
    try:
        value = orjson.loads(await request.read())
    except orjson.JSONDecodeError as exc:
        raise BadRequest("the body is not JSON") from exc
    if not isinstance(value, dict):
        raise BadRequest("the body must be an object with the keys of a subscriber")
    if subscriber_document.is_too_deep(value):
        raise BadRequest("the body is nested too deep")
    return value


def _secrets(document: SubscriberDocument) -> list[str]:
    return listed(document.settings.get("secrets"))


class Control:
    """Routes that pause, resume and read subscribers, also those of the configuration file."""

    def __init__(self, parts: Parts, monitor: Monitor, overview: Overview, streams: OpenStreams) -> None:
        self._parts = parts
        self._monitor = monitor
        self._overview = overview
        self._streams = streams
        self._sources: dict[str, tuple[Subscriber, EventStream]] = {}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_post("/api/subscribers/{name}/pause", self._pause)
        router.add_post("/api/subscribers/{name}/resume", self._resume)
        router.add_get("/api/streams/{name}", self._stream)

    async def _pause(self, request: web.Request) -> web.Response:
        await body(request)
        (await self._fanout()).pause(request.match_info["name"])
        return await self._now(request.match_info["name"])

    async def _resume(self, request: web.Request) -> web.Response:
        await body(request)
        (await self._fanout()).resume(request.match_info["name"])
        return await self._now(request.match_info["name"])

    async def _fanout(self) -> FanOut:
        """Return the fan-out, once it knows which subscribers were paused before the start."""
        fanout = self._parts.needed_fanout()
        try:
            async with asyncio.timeout(_START_S):
                await fanout.is_started.wait()
        except TimeoutError as exc:
            raise NotNow("the subscribers have not started yet: the log cannot be read") from exc
        return fanout

    async def _now(self, name: str) -> web.Response:
        await self._monitor.look_at_subscribers()
        return json_response(next((one for one in self._overview.subscribers() if one["name"] == name), {}))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        one = self._parts.subscriber(request.match_info["name"])
        if one.kind != "stream":
            raise NotFound(f"{one.name} is a {one.kind}; only subscribers of kind stream are read here")
        last_event_id = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
        return await self._streams.send(request, self._source(one).events(last_event_id))  # type: ignore[arg-type]

    def _source(self, one: Subscriber) -> EventStream:
        """Return the one event stream of a subscriber as configured now, so that its clients are counted together."""
        known = self._sources.get(one.name)
        if known is None or known[0] != one:
            known = self._sources[one.name] = (one, EventStream(self._parts.needed_log(), one, clock=SystemClock()))
        return known[1]
