"""``/api/rejected``: callbacks that were not understood, and decoding them again after a fix."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog
from aiohttp import web

from gateway.admin import audit
from gateway.admin.events import event_summary
from gateway.admin.parts import NotHere, Parts
from gateway.admin.responses import Given, body, json_response
from gateway.callbacks.rejected import TOPIC, UNKNOWN_PATH, request_from
from gateway.callbacks.signature import signed_part
from gateway.errors import CallbackRejected
from gateway.event import Event, NotAnEvent, from_json
from gateway.fanout.scan import scan
from gateway.ingest.accept import serialised
from gateway.ingest.endpoints import Endpoint
from gateway.log import Entry, Record
from gateway.search.keys import callback_of, parsed

#: Looked at by one request: counted for a list, or decoded again; that answer says whether there is more.
_MOST: Final = 10_000

_log = structlog.get_logger("gateway.admin")


@dataclass(slots=True)
class DecodingResult:
    """Result of decoding rejected callbacks again.

    Args:
        decoded: callbacks that are understood now; ``events`` of them were, or would be, stored.
        known: events that are stored already.
        still_rejected: by ``callback: reason``.
        is_more: the bound was reached; run it again with a later ``since``.
    """

    looked_at: int = 0
    decoded: int = 0
    events: int = 0
    known: int = 0
    still_rejected: Counter[str] = field(default_factory=Counter)
    is_more: bool = False
    last_at: float = 0.0


class _Unknown(NamedTuple):
    """How requests to unknown paths are decoded.

    Args:
        decode_as: name or path of the callback; empty: by their own path, which may be configured since.
        is_trusted: also those that did not show what the callback's path asks for.
    """

    decode_as: str
    is_trusted: bool


class Rejections:
    """Routes of this file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/rejected", self._list)
        router.add_post("/api/rejected/replay", self._replay)

    async def _list(self, request: web.Request) -> web.Response:
        given = Given(request.query)
        callback = given.text("callback")
        since = given.number("since") or 0.0
        limit = given.whole("limit", 100, high=500)
        kept: deque[dict[str, Any]] = deque(maxlen=limit)
        counts: Counter[str] = Counter()
        async with aclosing(self._records(callback, since, None, is_newest_first=self._is_indexed)) as records:
            async for record in records:
                line = event_summary(record)
                counts[f"{line['callback']}: {line['fields'].get('reason', '')}"] += 1
                if not self._is_indexed:
                    kept.appendleft(line)
                elif len(kept) < limit:
                    kept.append(line)
                if counts.total() == _MOST:
                    break
        return json_response({"rejected": list(kept), "counts": counts})

    async def _replay(self, request: web.Request) -> web.Response:
        given = await body(request)
        parts = self._parts
        if parts.endpoints is None or parts.journal is None or parts.search is None:
            raise NotHere("this process accepts no callbacks; ask the admin port of 'gateway serve' or 'gateway run'")
        is_dry_run = given.flag("dry_run")
        if is_dry_run:
            audit.skip(request)
        ids = given.texts("ids")
        async with parts.scanning("rejected"):
            await parts.search.indexer.caught_up()
            found = await self._again(
                given.text("callback"),
                given.number("since") or 0.0,
                given.number("until"),
                ids,
                _Unknown(given.text("as"), given.flag("unauthenticated")),
                is_dry_run=is_dry_run,
            )
        if not is_dry_run:
            _log.info("rejected.replayed", looked_at=found.looked_at, decoded=found.decoded, events=found.events)
        return json_response(
            {
                "dry_run": is_dry_run,
                "looked_at": found.looked_at,
                "decoded": found.decoded,
                "events": found.events,
                "already_stored": found.known,
                "still_rejected": found.still_rejected.total(),
                "reasons": found.still_rejected,
                "is_more": found.is_more,
                "last_at": found.last_at or None,
            }
        )

    async def _again(
        self,
        callback: str,
        since: float,
        until: float | None,
        ids: frozenset[str],
        unknown: _Unknown,
        *,
        is_dry_run: bool,
    ) -> DecodingResult:
        found = DecodingResult()
        async with aclosing(self._records(callback, since, until)) as records:
            async for record in records:
                if ids and record.id not in ids:
                    continue
                if found.looked_at == _MOST:
                    found.is_more = True
                    break
                found.looked_at += 1
                found.last_at = record.appended_at
                try:
                    # A large one that is hostile takes a second: the platform's callbacks are answered meanwhile.
                    entries = await asyncio.to_thread(self._decoded, record, unknown)
                except (CallbackRejected, NotAnEvent, NotHere) as exc:
                    found.still_rejected[f"{callback_of(parsed(record.value))}: {exc}"] += 1
                    continue
                found.decoded += 1
                fresh = [entry for entry in entries if not await self._is_known(entry.id)]
                repeated = 0 if is_dry_run or not fresh else await self._store(fresh)
                found.known += len(entries) - len(fresh) + repeated
                found.events += len(fresh) - repeated
        return found

    def _decoded(self, record: Record, unknown: _Unknown) -> list[Entry]:
        event = from_json(record.value, record.topic)
        request = request_from(event)
        if event.data.get("callback") == UNKNOWN_PATH:
            endpoint = self._meant(event, unknown)
            if endpoint.credentials.signature is not None:
                request = signed_part(request, endpoint.credentials.signature.signed_headers)
        else:
            endpoint = self._endpoint(str(event.data.get("callback")), event.account, str(event.data.get("path")))
        events = endpoint.callback.decode(request, endpoint.context).events
        values = serialised(events, endpoint.context)
        return [
            Entry(event.topic, event.partitionkey, event.id, value) for event, value in zip(events, values, strict=True)
        ]

    def _meant(self, event: Event, unknown: _Unknown) -> Endpoint:
        """Return the endpoint that a request to an unknown path is decoded by: the one named, else its path's own.

        Raises:
            NotHere: none is named and the path is still unknown, the name fits none or several, or the request did not
                show what the endpoint asks for.
        """
        endpoints, data = self._parts.endpoints or (), event.data
        if unknown.decode_as:
            fitting = [row for row in endpoints if unknown.decode_as in (row.path, row.callback.name)]
            if len(fitting) != 1:
                raise NotHere(f"{len(fitting)} paths are configured for {unknown.decode_as}; name one path with --as")
            endpoint = fitting[0]
        else:
            found = self._parts.endpoints.find(str(data.get("path"))) if self._parts.endpoints is not None else None
            if found is None:
                nearest = data.get("nearest")
                hint = f", perhaps {nearest}" if nearest else ""
                raise NotHere(f"its path is unknown; say with --as which callback it is{hint}")
            endpoint = found
        is_authentic = endpoint.credentials.is_open or endpoint.path in data.get("authentic_for", ())
        if not (is_authentic or unknown.is_trusted):
            raise NotHere(f"it did not show what {endpoint.path} asks for; --unauthenticated decodes it all the same")
        return endpoint

    def _endpoint(self, callback: str, account: str | None, path: str) -> Endpoint:
        """Return the endpoint of the callback and account; of several, the one whose path received it.

        Raises:
            NotHere: the configuration has none any more.
        """
        fitting = [
            endpoint
            for endpoint in self._parts.endpoints or ()
            if endpoint.callback.name == callback and endpoint.context.account == account
        ]
        if not fitting:
            raise NotHere(f"no path is configured for it{f' and account {account}' if account else ''} any more")
        return next((endpoint for endpoint in fitting if path.startswith(endpoint.path)), fitting[0])

    async def _is_known(self, event_id: str) -> bool:
        """Return whether an event is stored already, as far as the index reaches back."""
        search = self._parts.search
        return search is not None and await search.event(event_id) is not None

    async def _store(self, entries: list[Entry]) -> int:
        """Store entries; returns how many of them the log had already."""
        journal = self._parts.journal
        assert journal is not None
        return len((await journal.append(entries)).repeated)

    @property
    def _is_indexed(self) -> bool:
        """Whether the journal is the log, so that its index knows where they are."""
        return self._parts.is_embedded and self._parts.search is not None

    async def _records(
        self, callback: str, since: float, until: float | None, *, is_newest_first: bool = False
    ) -> AsyncGenerator[Record, None]:
        """Yield rejected callbacks: by the index in either order, or from the topic, oldest first.

        Each is as large as its request was, so a caller keeps only the part of one that it reports.
        """
        if self._is_indexed:
            search = self._parts.needed_search()
            found = search.of_topic(TOPIC, since=since or None, until=until, is_newest_first=is_newest_first)
            async with aclosing(found) as records:
                async for record in records:
                    if not callback or callback_of(parsed(record.value)) == callback:
                        yield record
            return
        log = self._parts.needed_log()
        end = time.time() + 1.0 if until is None else until
        async with self._parts.scanning("scan.rejected"):
            async for record in scan(log, "scan.rejected", [TOPIC], since=since, until=end):
                if not callback or callback_of(parsed(record.value)) == callback:
                    yield record
