"""Everything that is known of one event: received, stored, answered, published, delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from gateway import publisher
from gateway.admin.monitor import Monitor
from gateway.admin.outcomes import FETCHED, DeliveryStatus, delivery_status
from gateway.admin.overview import target
from gateway.admin.parts import Parts
from gateway.admin.subscriber_states import SubscriberState
from gateway.callbacks import rejected
from gateway.clock import SystemClock
from gateway.config.settings import Subscriber
from gateway.errors import GatewayError
from gateway.fanout import attempts as kept
from gateway.fanout import dead_letters, exchanges, subscription
from gateway.fanout.attempts import Attempt
from gateway.fanout.dead_letters import DeadLetter
from gateway.fanout.reader import group_name
from gateway.log import Record
from gateway.log.journal import EVENTS
from gateway.search.keys import parsed

#: Clocks of two machines may differ by so much; a scan of attempts begins that much before the event.
_CLOCKS_S: Final = 60.0
#: Of a scan of Kafka's record of attempts; a story without it is better than none.
_SCAN_S: Final = 30.0


class Storyteller:
    """Gathers stories."""

    def __init__(self, parts: Parts, monitor: Monitor) -> None:
        self._parts = parts
        self._monitor = monitor
        self._clock = SystemClock()

    async def tell(self, event_id: str) -> dict[str, Any] | None:
        """Return the history of an event; None when the event is not kept here.

        Raises:
            NotHere: this process has no journal.
            Transient: it cannot be read now.
        """
        record = await self._parts.needed_search().event(event_id)
        if record is None:
            return None
        attempts, gap = await self._attempts(record)
        since = self._clock.now() - self._parts.settings.admin.attempts_retention
        attempts = [one for one in attempts if one.at >= since]
        states = self._monitor.states()
        subscribers = [
            await self._subscriber(
                one, record, [found for found in attempts if found.subscriber == one.name], states[one.name]
            )
            for one in self._parts.subscribers
            if record.topic in one.topics
        ]
        named = {one["name"] for one in subscribers}
        gone = sorted({attempt.subscriber for attempt in attempts} - named)
        return {
            "id": record.id,
            "topic": record.topic,
            "event": parsed(record.value),
            "received_at": parsed(record.value).get("recordedtime"),
            "stored": {"at": record.appended_at, "offset": record.offset},
            "answered": _answered(record),
            "published": await self._published(record),
            "subscribers": subscribers,
            "former": [
                {"name": name, "attempts": [_told(found, record) for found in attempts if found.subscriber == name]}
                for name in gone
            ],
            "gap": gap,
        }

    async def _attempts(self, record: Record) -> tuple[list[Attempt], str]:
        """Return the attempts, and a sentence when they could not be read."""
        search = self._parts.needed_search()
        try:
            if search.has_attempts:
                return await search.attempts_of(record.id), ""
            log = self._parts.needed_log()
            since = record.appended_at - _CLOCKS_S
            async with self._parts.scanning("explain"), asyncio.timeout(_SCAN_S):
                found = await kept.attempts_of(log, record.id, clock=self._clock, since=since)
            return found, ""
        except TimeoutError:
            return [], "the record of attempts took too long to read"
        except GatewayError as exc:
            return [], f"the record of attempts cannot be read now: {exc}"

    async def _published(self, record: Record) -> dict[str, Any]:
        parts = self._parts
        if parts.is_embedded or parts.journal is None:
            return {"state": "no_kafka"}
        topic = parts.settings.topics.prefix + record.topic
        place = await parts.needed_search().published(record)
        if place is not None:
            partition, offset = place
            return {
                "state": "published",
                "topic": topic,
                "partition": partition,
                "offset": offset if offset >= 0 else None,
            }
        is_published = publisher.is_published(parts.journal.positions(), record.topic, record.offset)
        return {"state": "published" if is_published else "waiting", "topic": topic}

    async def _subscriber(
        self, one: Subscriber, record: Record, attempts: Sequence[Attempt], state: SubscriberState
    ) -> dict[str, Any]:
        found = self._delivery_status(one, record, attempts, state)
        letter = await self._letter(one, record) if found.outcome == "dead_lettered" else None
        if letter is not None and letter.closing is not None and letter.state == "resolved":
            closing = letter.closing
            found = DeliveryStatus("resolved", f"{found.why}; resolved by {closing.by}: {closing.note}")
        return {
            "name": one.name,
            "kind": one.kind,
            "target": target(one),
            "outcome": found.outcome,
            "why": found.why,
            "filter": one.filter if found.outcome == "skipped" else None,
            "attempts": [_told(attempt, record) for attempt in attempts],
            "has_transform": subscription.transform(one) is not None,
            "dead_letter": None
            if letter is None
            else {
                "state": letter.state,
                "reason": letter.reason,
                "detail": letter.last_detail,
                "response": letter.last_response,
                "given_up_at": letter.given_up_at,
            },
        }

    def _delivery_status(
        self, one: Subscriber, record: Record, attempts: Sequence[Attempt], state: SubscriberState
    ) -> DeliveryStatus:
        left_out_by = subscription.why_skipped(one, record.value)
        if one.kind == "stream" and left_out_by is None:
            return FETCHED
        return delivery_status(
            attempts,
            state if one.name in self._monitor.statuses else None,
            left_out_by=left_out_by,
            is_passed=self._is_passed(one, record),
        )

    def _is_passed(self, one: Subscriber, record: Record) -> bool | None:
        if not self._parts.is_embedded or self._parts.journal is None or one.kind == "stream":
            return None
        position = self._parts.journal.positions().get((group_name(one.name), EVENTS))
        return None if position is None else record.offset < position

    async def _letter(self, one: Subscriber, record: Record) -> DeadLetter | None:
        """Return the dead letter, for what the subscriber had answered, and whether it is open."""
        try:
            async with self._parts.scanning(f"dlq.{one.name}"), asyncio.timeout(_SCAN_S):
                found = await dead_letters.find(
                    self._parts.needed_log(),
                    one.name,
                    since=record.appended_at - _CLOCKS_S,
                    wanted="all",
                    ids=[record.id],
                )
        except (TimeoutError, GatewayError):
            return None
        return found[-1] if found else None


def _answered(record: Record) -> dict[str, Any]:
    """Return the response to the platform: success is sent only after the commit; a rejected callback is a failure."""
    return {"status": 400 if record.topic == rejected.TOPIC else 200, "after": record.appended_at}


def _told(attempt: Attempt, record: Record) -> dict[str, Any]:
    """Return an attempt as JSON; ``request`` and ``answer`` are None where there is none, or it is not kept."""
    return {
        "at": attempt.at,
        "outcome": attempt.outcome,
        "result": attempt.result,
        "sentence": attempt.sentence,
        "number": attempt.number,
        "replay": attempt.replay,
        "duration_ms": attempt.duration_ms,
        "request": None
        if attempt.sent is None
        else exchanges.request_of(record, attempt.request, attempt.sent, is_replay=bool(attempt.replay)),
        "answer": attempt.answer,
    }
