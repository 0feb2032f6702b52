"""Replays, and the list of dead letters.

A replay copies the chosen events to the topic ``replay``, from which they are delivered like
everything else: in order per key, at the subscriber's rate, with retries and dead letters, and with the same
id and bytes and ``gateway-replay: true``. So a replay survives restarts and needs no process that waits for it;
on Kafka any machine can ask for one. A rate cap is written into the copies as the time they are due.

Dead letters stay where they are; the log's retention ends them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from gateway.clock import Clock, sleep
from gateway.config.settings import Subscriber
from gateway.errors import NotNow
from gateway.event import parse
from gateway.fanout import planning, retry_records
from gateway.fanout.retry_records import Step
from gateway.fanout.scan import QUIET_S, scan
from gateway.log import BrowsedLog, Entry, Record

#: Copies that share one append.
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events. Everything that is given must hold.

    Args:
        since, until: when the event (or the dead letter) was stored, Unix seconds; ``until`` None: now.
        ids: event ids.
        types: event types.
        is_from_dlq: look among the subscriber's dead letters instead of its topics.
        reasons: of dead letters: ``attempts``, ``age``, ``poison``. Those that are ``not_an_event`` are never sent.
        is_filtered: leave out what the subscriber's filter leaves out. Off: also what was filtered can be sent.
    """

    since: float = 0.0
    until: float | None = None
    ids: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    is_from_dlq: bool = False
    reasons: frozenset[str] = frozenset()
    is_filtered: bool = True


@dataclass(slots=True)
class Replayed:
    """What a replay found; ``by_type`` counts what was, or in a dry run would have been, sent again."""

    looked_at: int = 0
    by_type: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """How many in all."""
        return self.by_type.total()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up. Times are Unix seconds; ``steps`` are the last attempts."""

    id: str
    key: str
    type: str
    offset: int
    given_up_at: float
    reason: str
    attempts: int
    last_status: str
    last_detail: str
    last_response: str
    first_attempt_at: float | None
    steps: tuple[Step, ...]
    origin: str
    value: bytes


async def replay(
    log: BrowsedLog,
    subscriber: Subscriber,
    selection: Selection,
    *,
    clock: Clock,
    rate_per_s: float | None = None,
    is_dry_run: bool = False,
    silence_s: float = QUIET_S,
    on_stored: Callable[[int], None] | None = None,
) -> Replayed:
    """Send the selected events to the subscriber again; returns when they are stored for it, not delivered.

    Args:
        rate_per_s: at most so many a second, in addition to the subscriber's other events.
        is_dry_run: count only.
        on_stored: called with the number of events that were stored for it since the last call.

    Raises:
        Transient: the log cannot be read now. What was stored for replay before that is delivered.
    """
    found = Replayed()
    started = clock.now()
    batch: list[Entry] = []
    async for record, type_ in _selected(log, subscriber, selection, started, found, silence_s):
        found.by_type[type_] += 1
        if is_dry_run:
            continue
        due = started + (found.events - 1) / rate_per_s if rate_per_s else 0.0
        batch.append(retry_records.replay(record, due, subscriber.name))
        if len(batch) == _BATCH:
            await _store(log, batch, clock, on_stored)
            batch = []
    if batch:
        await _store(log, batch, clock, on_stored)
    return found


async def dead_letters(
    log: BrowsedLog,
    subscriber: str,
    *,
    clock: Clock,
    since: float = 0.0,
    reasons: Collection[str] = (),
    ids: Collection[str] = (),
    limit: int = 1000,
    silence_s: float = QUIET_S,
) -> list[DeadLetter]:
    """Return the subscriber's dead letters, oldest first, at most ``limit``."""
    found: list[DeadLetter] = []
    topic = retry_records.dlq_topic(subscriber)
    async for record in scan(log, f"scan.{topic}", [topic], since=since, until=clock.now() + 1.0, silence_s=silence_s):
        letter = read_dead_letter(record)
        if (not reasons or letter.reason in reasons) and (not ids or letter.id in ids):
            found.append(letter)
            if len(found) == limit:
                break
    return found


def read_dead_letter(record: Record) -> DeadLetter:
    """Return the dead letter in a record of a ``dlq.`` topic; fields without a header are empty."""
    headers = dict(record.headers)
    trail = retry_records.read(record).trail
    return DeadLetter(
        id=record.id,
        key=record.key,
        type=_type(record),
        offset=record.offset,
        given_up_at=record.appended_at,
        reason=headers.get("gateway-reason", ""),
        attempts=trail.attempts,
        last_status=headers.get("gateway-last-status", ""),
        last_detail=headers.get("gateway-last-detail", ""),
        last_response=headers.get("gateway-last-response", ""),
        first_attempt_at=trail.first_at,
        steps=trail.steps,
        origin=trail.origin,
        value=record.value,
    )


async def _selected(
    log: BrowsedLog, subscriber: Subscriber, selection: Selection, now: float, found: Replayed, silence_s: float
) -> AsyncIterator[tuple[Record, str]]:
    wants = planning.plan(subscriber).wants if selection.is_filtered else None
    topics = [retry_records.dlq_topic(subscriber.name)] if selection.is_from_dlq else subscriber.topics
    until = now if selection.until is None else min(now, selection.until)
    group = f"scan.replay.{subscriber.name}"
    async for record in scan(log, group, topics, since=selection.since, until=until, silence_s=silence_s):
        found.looked_at += 1
        if record.flaw:
            continue  # would come back as the dead letter that it is, or that its topic made of it already
        if selection.ids and record.id not in selection.ids:
            continue
        if selection.reasons and dict(record.headers).get("gateway-reason") not in selection.reasons:
            continue
        type_ = _type(record)
        if selection.types and type_ not in selection.types:
            continue
        if wants is None or wants(record):
            yield record, type_


async def _store(log: BrowsedLog, batch: list[Entry], clock: Clock, on_stored: Callable[[int], None] | None) -> None:
    while True:
        try:
            await log.append(batch)
            break
        except NotNow as exc:
            await sleep(clock, exc.retry_after_s or 1.0)
    if on_stored is not None:
        on_stored(len(batch))


def _type(record: Record) -> str:
    return "" if record.flaw else str(parse(record.value)["type"])
