"""``/api/doctor/events``: what the platform changed. Each callback's newest events are decoded again from ``raw``.

Decoding again needs no memory of its own: it looks back over restarts, and after an upgrade it says what the new
version understands. The cost of one callback is bounded by ``_MAX_EVENTS``. Decoding runs in a thread, page by page.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.admin.parts import NotHere, Parts
from gateway.admin.responses import Given, NotFound, json_response
from gateway.callbacks import Callback, CallbackRequest
from gateway.callbacks.callback import EventSchema
from gateway.callbacks.rejected import TOPIC
from gateway.errors import CallbackRejected
from gateway.ingest.endpoints import Endpoint
from gateway.log import Record
from gateway.search import Query
from gateway.search.keys import callback_of, parsed

#: Events of one callback that are looked at, the newest. At ten times more an answer takes some seconds.
_MAX_EVENTS: Final = 1000
#: Rejected callbacks that are looked at, the newest of all callbacks together.
_MAX_REJECTED: Final = 2000
_PAGE: Final = 250
_DAY_S: Final = 86_400.0
#: Fewer events say nothing about a field that none of them has.
_MIN_FOR_NEVER: Final = 20

#: Kind of a drift label, as it begins, and what to do.
_ADVICE: Final = {
    "field": "a field that this version does not know; data.raw has it. Look for a newer version",
    "value": "a value that could not be read; it is left out, and data.raw has it. Check the sample",
    "duplicate": "one object has the name twice; the last value counts, and data.raw has both",
    "layout": "packed as no page describes; it was decoded anyway. Check its sender",
}
#: Arrival does not matter here.
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEW_CODE: Final = "a code that this version does not know; the event says unknown. Look for a newer version"


@dataclass(slots=True)
class Findings:
    """Result for one callback.

    Args:
        name: of the callback.
        is_complete: all events of the time were looked at, not only the newest.
        types: how many events of each type.
        last_at: when the newest was stored, Unix seconds; None where there is none.
        drift: how often each label came.
        samples: label to id of the newest event with it.
        unread: events that do not decode from ``raw`` alone, such as those that a header decided.
        rejected: reason to count.
        rejected_samples: reason to id of the newest one.
    """

    name: str
    is_complete: bool = True
    types: Counter[str] = field(default_factory=Counter)
    last_at: float | None = None
    drift: Counter[str] = field(default_factory=Counter)
    samples: dict[str, str] = field(default_factory=dict)
    unread: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_samples: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, set[str]] = field(default_factory=dict)

    def look_at(self, record: Record, endpoint: Endpoint) -> None:
        """Decode one event again and count what is new in it. Newest first: samples are of the newest."""
        event = parsed(record.value)
        kind = str(event.get("type"))
        self.types[kind] += 1
        self.last_at = self.last_at or record.appended_at
        data = event.get("data")
        if not isinstance(data, dict):
            return
        self._seen.setdefault(kind, set()).update(_names(data))
        request = CallbackRequest(
            "POST", endpoint.path, b"", {"content-type": "application/json"}, orjson.dumps(data.get("raw")), _NO_TIME
        )
        try:
            decoded = endpoint.callback.decode(request, endpoint.context)
        except CallbackRejected:
            self.unread += 1
            return
        if kind not in {one.type for one in decoded.events}:
            self.unread += 1
            return
        for label in decoded.drift:
            self.drift[label] += 1
            self.samples.setdefault(label, record.id)

    def reject(self, record: Record) -> None:
        """Count one rejected callback."""
        data = parsed(record.value).get("data")
        reason = str(data.get("reason")) if isinstance(data, dict) else "unreadable"
        if isinstance(data, dict) and data.get("field"):
            reason = f"{data['field']}: {reason}"
        self.rejected[reason] += 1
        self.rejected_samples.setdefault(reason, record.id)

    def never_seen(self, schemas: Iterable[EventSchema]) -> list[dict[str, str]]:
        """Return the documented fields that no event of a type had, for types with enough events to judge."""
        found: list[dict[str, str]] = []
        for schema in schemas:
            if self.types[schema.type] < _MIN_FOR_NEVER:
                continue
            seen = self._seen.get(schema.type, set())
            found += [
                {"type": schema.type, "field": line.name, "sent_as": " or ".join(line.sources)}
                for line in schema.fields
                if line.name not in seen and line.sources[0]
            ]
        return found

    def document(self, schemas: Iterable[EventSchema]) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "name": self.name,
            "events": self.types.total(),
            "is_complete": self.is_complete,
            "types": self.types,
            "last_at": self.last_at,
            "drift": [
                {"what": label, "count": count, "id": self.samples[label], "advice": advice(label)}
                for label, count in self.drift.most_common()
            ],
            "not_decoded_again": self.unread,
            "never_seen": self.never_seen(schemas),
            "rejected": [
                {"reason": reason, "count": count, "id": self.rejected_samples[reason]}
                for reason, count in self.rejected.most_common()
            ],
        }


def advice(label: str) -> str:
    """Return what a label means and what to do."""
    return _ADVICE.get(label.partition(":")[0], _NEW_CODE)


class Doctor:
    """Routes of this file."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register."""
        router.add_get("/api/doctor/events", self._events)

    async def _events(self, request: web.Request) -> web.Response:
        parts = self._parts
        if parts.endpoints is None:
            raise NotHere("this process accepts no callbacks; ask the admin port of 'gateway serve' or 'gateway run'")
        search = parts.needed_search()
        since = Given(request.query).number("since") or time.time() - _DAY_S
        wanted = Given(request.query).text("callback")
        async with parts.scanning("doctor"):
            await search.indexer.caught_up()
            found = {
                endpoint.callback.name: Findings(endpoint.callback.name)
                for endpoint in parts.endpoints
                if wanted in ("", endpoint.callback.name)
            }
            if not found:
                raise NotFound(f"no path of the configuration accepts {wanted!r}")
            for findings in found.values():
                await self._look(findings, since)
            await self._look_at_rejected(found, since)
        schemas = _schemas(parts)
        documents = [one.document(schemas.get(one.name, ())) for one in found.values()]
        return json_response({"since": since, "callbacks": documents})

    async def _look(self, findings: Findings, since: float) -> None:
        """Look at the newest events of one callback, a page at a time."""
        search, endpoints = self._parts.needed_search(), _by_account(self._parts, findings.name)
        before: int | None = None
        while findings.types.total() < _MAX_EVENTS:
            query = Query(callback=findings.name, since=since, before=before, limit=_PAGE)
            page = await search.find(query)
            records = [record for record in page.records if record.topic != TOPIC]
            await asyncio.to_thread(_look_at_all, findings, records, endpoints)
            before = page.next
            if before is None:
                return
        findings.is_complete = False

    async def _look_at_rejected(self, found: Mapping[str, Findings], since: float) -> None:
        looked_at = 0
        records = self._parts.needed_search().of_topic(TOPIC, since=since, is_newest_first=True)
        async with aclosing(records):
            async for record in records:
                if looked_at == _MAX_REJECTED:
                    return
                looked_at += 1
                findings = found.get(callback_of(parsed(record.value)))
                if findings is not None:
                    findings.reject(record)


def _look_at_all(findings: Findings, records: Iterable[Record], endpoints: Mapping[str | None, Endpoint]) -> None:
    for record in records:
        account = parsed(record.value).get("account")
        findings.look_at(record, endpoints.get(account) or next(iter(endpoints.values())))


def _by_account(parts: Parts, name: str) -> dict[str | None, Endpoint]:
    return {one.context.account: one for one in parts.endpoints or () if one.callback.name == name}


def _schemas(parts: Parts) -> dict[str, tuple[EventSchema, ...]]:
    return {
        one.callback.name: one.callback.schemas for one in parts.endpoints or () if isinstance(one.callback, Callback)
    }


def _names(data: Mapping[str, Any]) -> set[str]:
    """Return the names of fields as tables have them: ``a``, and ``a.b`` for members of objects."""
    found = set(data)
    for name, value in data.items():
        if isinstance(value, dict):
            found.update(f"{name}.{member}" for member in value)
    return found
