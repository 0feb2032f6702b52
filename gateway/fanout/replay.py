"""Replays.

A replay copies the chosen events to the topic ``replay``, from which they are delivered like
everything else: in order per key, at the subscriber's rate, with retries and dead letters, and with the same
id and bytes and ``gateway-replay: true``. So a replay survives restarts and needs no process that waits for it;
on Kafka any machine can ask for one. A rate cap is written into the copies as the time they are due.

Dead letters stay where they are. The copy of an event that is an open dead letter is marked, and its delivery closes
the dead letter (:mod:`.dead_letters`), whether the replay read it from there or from its topic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from gateway.clock import Clock
from gateway.config.settings import Subscriber
from gateway.fanout import attempts, dead_letters, retry_records, subscription
from gateway.fanout.dead_letters import DeadLetterIndex, Wanted
from gateway.fanout.scan import scan
from gateway.log import BrowsedLog, Entry, Record

#: Copies that share one append.
_BATCH: Final = 200
#: Clocks of two machines may differ by so much: attempts are read from that much before the first event on.
_CLOCKS_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events. Everything that is given must hold.

    Args:
        since, until: when the event (or the dead letter) was stored, Unix seconds; ``until`` None: now.
        ids: event ids.
        types: event types.
        is_from_dlq: look among the subscriber's dead letters instead of its topics.
        reasons: of dead letters: ``attempts``, ``age``, ``poison``. Those that are ``not_an_event`` are never sent.
        state: of dead letters.
        is_filtered: leave out what the subscriber's filter leaves out. Off: also what was filtered can be sent.
        is_failed_only: leave out what the record of attempts says was delivered. What it does not say is sent: an
            event that still waits, and one whose attempts have expired or were lost with a process.
        after: by partition, the offset before which everything was replayed already.
        delivered_by: leave out what these replays have delivered, as the record of attempts has it.
    """

    since: float = 0.0
    until: float | None = None
    ids: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    is_from_dlq: bool = False
    reasons: frozenset[str] = frozenset()
    state: Wanted = "open"
    is_filtered: bool = True
    is_failed_only: bool = False
    after: Mapping[str, int] = field(default_factory=dict)
    delivered_by: frozenset[str] = frozenset()

    def document(self) -> dict[str, Any]:
        """Return it as JSON, for :meth:`parse`."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        sets = {name: sorted(value) for name, value in values.items() if isinstance(value, frozenset)}
        return {**values, **sets, "after": dict(self.after)}

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Selection:
        """Return what :meth:`document` made.

        Raises:
            TypeError: it was not made by it.
        """
        sets = {name: frozenset(document[name]) for name in ("ids", "types", "reasons", "delivered_by")}
        return cls(**{**document, **sets})


@dataclass(slots=True)
class Replayed:
    """The result of a replay's scan.

    Args:
        looked_at: events that were read.
        delivered_already: events that were left out because of that.
        by_type: counts what was, or in a dry run would have been, sent again.
    """

    looked_at: int = 0
    delivered_already: int = 0
    by_type: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Number of events in all."""
        return self.by_type.total()


#: Makes the record of progress that is appended with the copies: how many are stored then, and up to where the log was
#: read, by partition.
Progress = Callable[[int, Mapping[str, int]], Entry]
#: Called with the same when they are stored.
Stored = Callable[[int, Mapping[str, int]], None]


async def replay(
    log: BrowsedLog,
    subscriber: Subscriber,
    selection: Selection,
    *,
    clock: Clock,
    rate_per_s: float | None = None,
    is_dry_run: bool = False,
    name: str = "",
    progress: Progress | None = None,
    on_stored: Stored = lambda _, __: None,
) -> Replayed:
    """Send the selected events to the subscriber again; returns when they are stored for it, not delivered.

    Args:
        rate_per_s: at most so many a second, in addition to the subscriber's other events.
        is_dry_run: count only.
        name: of the replay; each copy has it.
        progress: see :data:`Progress`.
        on_stored: see :data:`Stored`.

    Raises:
        Transient: the log cannot be read now. What was stored for replay before that is delivered.
    """
    found = Replayed()
    started = clock.now()
    until = started if selection.until is None else min(started, selection.until)
    source = _Source(log, subscriber, replace(selection, until=until), clock)
    index = await dead_letters.read_index(log, subscriber.name, keeps_closed=selection.state != "open")
    batch: list[Entry] = []
    positions: dict[str, int] = dict(selection.after)

    async def store() -> None:
        entries = batch if progress is None else [*batch, progress(found.events, positions)]
        await dead_letters.append(log, entries, clock)
        on_stored(found.events, dict(positions))
        batch.clear()

    async for record, type_ in source.selected(index, found):
        found.by_type[type_] += 1
        if is_dry_run:
            continue
        due = started + (found.events - 1) / rate_per_s if rate_per_s else 0.0
        was_open = index.is_open(record.id)
        batch.append(retry_records.replay(record, due, subscriber.name, name=name, was_open=was_open))
        positions[record.partition] = record.offset + 1
        if len(batch) == _BATCH:
            await store()
    if batch:
        await store()
    return found


@dataclass(frozen=True, slots=True)
class _Source:
    """The topics from which a replay reads, and the filter of its events; ``selection.until`` is set."""

    log: BrowsedLog
    subscriber: Subscriber
    selection: Selection
    clock: Clock

    async def selected(self, index: DeadLetterIndex, found: Replayed) -> AsyncIterator[tuple[Record, str]]:
        """Yield the events with their types; count in ``found`` what was read."""
        selection = self.selection
        wants = subscription.build(self.subscriber).wants if selection.is_filtered else None
        delivered = await self._delivered()
        async for record in self._read(index):
            found.looked_at += 1
            if record.flaw:
                continue  # would come back as the dead letter that it is, or that its topic made of it already
            if record.offset < selection.after.get(record.partition, 0):
                continue
            if selection.ids and record.id not in selection.ids:
                continue
            if selection.reasons and retry_records.header(record, "gateway-reason") not in selection.reasons:
                continue
            type_ = dead_letters.type_of(record)
            if selection.types and type_ not in selection.types:
                continue
            if wants is not None and not wants(record):
                continue
            if hash(record.id) in delivered:
                found.delivered_already += 1
                continue
            yield record, type_

    def _read(self, index: DeadLetterIndex) -> AsyncIterator[Record]:
        since, until = self.selection.since, self.selection.until
        assert until is not None
        name, topics = self.subscriber.name, self.subscriber.topics
        if not self.selection.is_from_dlq:
            return scan(self.log, f"scan.replay.{name}", topics, since=since, until=until)
        return dead_letters.records(self.log, name, since=since, until=until, wanted=self.selection.state, index=index)

    async def _delivered(self) -> frozenset[int]:
        """Return hashes of the ids of what was delivered, 60 bytes each.

        Two ids of a million share one once in 10^7.
        """
        is_any, replays = self.selection.is_failed_only, self.selection.delivered_by
        if not (is_any or replays):
            return frozenset()
        since = max(0.0, self.selection.since - _CLOCKS_S)
        found = attempts.read_all(self.log, since=since, clock=self.clock)
        return frozenset(
            [
                hash(one.event_id)
                async for one in found
                if one.subscriber == self.subscriber.name
                and one.outcome == "delivered"
                and (is_any or one.replay in replays)
            ]
        )
