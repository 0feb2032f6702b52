"""One signed sample of an event, sent to a subscriber as its events are, and what came back, for a person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import orjson

from gateway.admin.parts import NotHere
from gateway.admin.responses import BadRequest
from gateway.clock import SystemClock
from gateway.config import webhook_url
from gateway.config.settings import Settings, Subscriber
from gateway.config.values import suggestion
from gateway.errors import Poison
from gateway.fanout import subscription
from gateway.fanout.attempt import HEAD_BYTES
from gateway.fanout.webhook import Shown, WebhookSink
from gateway.log import Record
from gateway.schema import events
from gateway.traffic.simulator import sample

#: A person waits for it.
_MOST_S: Final = 30.0
_HIDDEN: Final = "…"


def types_of(subscriber: Subscriber, settings: Settings) -> dict[str, str]:
    """Return the types of events that its topics can have, each with its topic."""
    known: dict[str, list[str]] = dict(events.topics())
    for rows in settings.ingest.callbacks.values():
        for row in rows:
            if row.decoder is not None and row.topic is not None:
                kind = row.type if row.type and not row.type.startswith("$") else row.topic
                known.setdefault(row.topic, []).append(kind)
    return {kind: topic for topic in subscriber.topics for kind in known.get(topic, [topic])}


async def send_test(subscriber: Subscriber, event_type: str, settings: Settings, *, with_url: bool) -> dict[str, Any]:
    """Send a sample and return request and answer. Values of configured headers are not shown.

    Args:
        subscriber: a webhook.
        event_type: one of :func:`types_of`; empty: the first.
        settings: the configuration.
        with_url: the whole address may be shown; many carry a secret in their path or query.

    Raises:
        NotHere: it is no webhook.
        BadRequest: it gets no events of this type.
    """
    if subscriber.kind != "webhook":
        raise NotHere(f"{subscriber.name} is a {subscriber.kind}; only a webhook can be tested")
    types = types_of(subscriber, settings)
    chosen = event_type or next(iter(types))
    if chosen not in types:
        hint = suggestion(chosen, list(types)) or f"; its topics have {', '.join(types)}"
        raise BadRequest(f"type: {subscriber.name} gets no events of the type {chosen!r}{hint}")
    event = sample(chosen, types[chosen])
    value = event.to_json()
    record = Record("test", 0, time.time(), event.topic, event.partitionkey, event.id, value)
    limited = subscriber.model_copy(update={"timeout_s": min(subscriber.timeout_s, _MOST_S)})
    sink = subscription.sink(limited, clock=SystemClock(), rng=Random())
    assert isinstance(sink, WebhookSink)
    shown = Shown()
    try:
        # A task of its own, as what takes too long is cancelled.
        result = await asyncio.create_task(sink.attempt(record, is_replay=False, shown=shown))
    except Poison as exc:
        raise BadRequest(str(exc)) from exc
    finally:
        await sink.close()
    return {
        "subscriber": subscriber.name,
        "type": chosen,
        "event_id": event.id,
        "is_success": result.is_success,
        "request": _request(subscriber, shown, with_url=with_url),
        "answer": _answer(shown) if result.status is not None else None,
        "error": None if result.is_success else result.detail,
        "duration_s": result.duration_s,
        "filtered_by": subscription.why_skipped(subscriber, value),
    }


def _request(subscriber: Subscriber, shown: Shown, *, with_url: bool) -> dict[str, Any]:
    assert subscriber.url is not None
    hidden = {name.lower() for name in subscriber.headers}
    headers = [
        [name, _HIDDEN if name.lower() in hidden else value] for name, value in _fields(shown.head.partition("\r\n")[2])
    ]
    return {
        "method": "POST",
        "url": subscriber.url if with_url else webhook_url.parse(subscriber.url).origin,
        "headers": headers,
        "body": orjson.loads(shown.body) if shown.body else None,
    }


def _answer(shown: Shown) -> Mapping[str, Any]:
    found = shown.answer
    return {
        "status": found.status,
        "reason": found.reason,
        "headers": _fields(found.fields.decode("latin-1")),
        "body": found.body.decode("utf-8", "replace"),
        "is_cut": len(found.body) == HEAD_BYTES,
    }


def _fields(text: str) -> list[list[str]]:
    """Return the headers of a head, in order, with what a line cannot show replaced."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return [[name.strip(), _printable(value.strip())] for name, _, value in pairs]


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "�" for one in text)
