"""A subscriber for tests: verifies signatures, counts, and fails or delays on request."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.errors import Unauthenticated
from gateway.signing import verify

#: Tolerance of the timestamp in seconds, as in the specification's libraries.
_TOLERANCE_S: Final = 300.0
_MOST_BODY: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReceiverBehaviour:
    """Behaviour of the subscriber.

    Args:
        secrets: accepted secrets; empty: signatures are not verified.
        status: HTTP status of a refused delivery.
        fail_rate: share of refused deliveries.
        delay_s: delay of each answer, seconds.
    """

    secrets: tuple[str, ...] = ()
    status: int = 500
    fail_rate: float = 0.0
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One received webhook.

    Args:
        event: parsed event; None if the body is not JSON.
        body: as received.
        event_id: the ``webhook-id``, or the event's id without one.
        outcome: ``accepted``, ``repeated`` (accepted before), ``refused`` (on request) or ``unauthenticated``.
        is_replay: whether the gateway marks it as a replay.
        reason: reason of ``unauthenticated``.
    """

    event: dict[str, Any] | None
    body: bytes
    event_id: str
    outcome: str
    is_replay: bool
    reason: str = ""


@dataclass(slots=True)
class ReceiverCounts:
    """Counts of deliveries. ``ids`` are the accepted ones; a million take about 100 MB."""

    outcomes: Counter[str] = field(default_factory=Counter)
    ids: set[bytes] = field(default_factory=set)
    first_at: float = 0.0
    last_at: float = 0.0

    @property
    def distinct(self) -> int:
        """Number of different accepted events."""
        return len(self.ids)

    @property
    def rate_per_s(self) -> float:
        """Requests per second between the first and the last."""
        span = self.last_at - self.first_at
        return self.outcomes.total() / span if span > 0 else 0.0


class Receiver:
    """HTTP server of the subscriber. ``server()`` is for aiohttp's runner; it accepts any path and content type.

    Args:
        behaviour: behaviour.
        rng: selects refused deliveries.
        on_delivery: called for each delivery after its answer was decided; None is faster.
        clock: returns Unix seconds, for signatures.
    """

    def __init__(
        self,
        behaviour: ReceiverBehaviour,
        rng: Random,
        on_delivery: Callable[[Delivery], None] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counts = ReceiverCounts()
        self._behaviour = behaviour
        self._rng = rng
        self._on_delivery = on_delivery
        self._clock = clock
        self._news = asyncio.Event()

    def server(self) -> web.Server:  # type: ignore[type-arg,unused-ignore]
        """Return aiohttp's server without a router, which would take a quarter of the time of a request."""
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = self._handle
        return web.Server(handler, access_log=None)

    async def accepted(self, count: int) -> None:
        """Wait until ``count`` different events were accepted."""
        while self.counts.distinct < count:
            self._news.clear()
            await self._news.wait()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("POST", "PUT"):
            return web.Response(text="gateway listen: POST webhooks here\n")
        body = await _read(request)
        if body is None:
            return web.Response(status=413)
        behaviour = self._behaviour
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        event_id = request.headers.get("webhook-id") or _id_of(body)
        outcome, reason = self._judge(request, body, event_id)
        self._count(outcome, event_id)
        if self._on_delivery is not None:
            is_replay = request.headers.get("gateway-replay") == "true"
            self._on_delivery(Delivery(_parsed(body), body, event_id, outcome, is_replay, reason))
        if outcome == "unauthenticated":
            return web.Response(status=401, text=reason)
        return web.Response(status=behaviour.status if outcome == "refused" else 204)

    def _judge(self, request: web.BaseRequest, body: bytes, event_id: str) -> tuple[str, str]:
        behaviour = self._behaviour
        if behaviour.secrets:
            try:
                verify(behaviour.secrets, request.headers, body, self._clock(), _TOLERANCE_S)
            except Unauthenticated as exc:
                return "unauthenticated", str(exc)
        if behaviour.fail_rate and self._rng.random() < behaviour.fail_rate:
            return "refused", ""
        return ("repeated" if event_id.encode() in self.counts.ids else "accepted"), ""

    def _count(self, outcome: str, event_id: str) -> None:
        counts = self.counts
        counts.last_at = time.monotonic()
        counts.first_at = counts.first_at or counts.last_at
        counts.outcomes[outcome] += 1
        if outcome == "accepted":
            counts.ids.add(event_id.encode())
            self._news.set()


async def _read(request: web.BaseRequest) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > _MOST_BODY:
            return None
        parts.append(chunk)
    return b"".join(parts)


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _id_of(body: bytes) -> str:
    event = _parsed(body) or {}
    return str(event.get("id", ""))
