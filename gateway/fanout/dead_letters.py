"""Dead letters: reading them, which of them are open, closing them.

A dead letter is *open* until a replay delivers its event, or a person resolves it. Both are records in the same topic
(:func:`.retry_records.closing`), so that the log alone decides, in every process and for every reader: of one event the
last record counts. An event that is given up again after it was closed is open again; one that is given up twice
without a closing between them is one dead letter, the newest.

A reader of the open ones reads the topic twice: once to see which records count (:class:`DeadLetterIndex`, some 300
bytes for each open one), once for their contents. So the events, which may be large, are never held together.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from gateway.clock import Clock, sleep
from gateway.errors import NotNow
from gateway.event import parse
from gateway.fanout import retry_records
from gateway.fanout.retry_records import Closing, Step
from gateway.fanout.scan import scan
from gateway.log import BrowsedLog, Entry, Record

State = Literal["open", "delivered", "resolved"]
#: What a reader asks for.
Wanted = Literal["open", "delivered", "resolved", "all"]
WANTED: Final[tuple[Wanted, ...]] = ("open", "delivered", "resolved", "all")
#: Records that share one append.
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up. Times are Unix seconds; ``steps`` are the last attempts; ``closing`` None: open."""

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
    replay: str
    value: bytes
    closing: Closing | None = None

    @property
    def state(self) -> State:
        """Whether it is open, or how it was closed."""
        return "open" if self.closing is None else self.closing.outcome


class Place(NamedTuple):
    """Where the newest dead letter of an event is.

    Args:
        at: when it was given up, Unix seconds.
        closing: how it was closed; None: it is open.
    """

    partition: str
    offset: int
    at: float
    reason: str
    closing: Closing | None = None

    def is_in(self, wanted: Wanted) -> bool:
        """Return whether it is in the state that is asked for."""
        return wanted == "all" or wanted == ("open" if self.closing is None else self.closing.outcome)


class DeadLetterIndex:
    """Which dead letters of one subscriber count, from the records of its topic in the order of each partition.

    Args:
        keeps_closed: remember those that were closed, too; without, only open ones take memory.
        may_keep: asked before one more is remembered; where it says no, it is only counted. The closing of one that is
            not remembered lowers the count of its reason: that may be wrong by those that were closed twice.
    """

    def __init__(self, *, keeps_closed: bool = False, may_keep: Callable[[], bool] = lambda: True) -> None:
        self._keeps_closed = keeps_closed
        self._may_keep = may_keep
        self._places: dict[str, Place] = {}
        self._counts: Counter[str] = Counter()
        self._not_kept: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def counts(self) -> Mapping[str, int]:
        """Open ones, by reason."""
        return {reason: count for reason, count in (self._counts + self._not_kept).items() if count}

    def apply(self, record: Record) -> None:
        """Apply the next record of the topic."""
        before = self._places.pop(record.id, None)
        if before is not None and before.closing is None:
            self._counts[before.reason] -= 1
        if not retry_records.is_closing(record):
            self._opened(record, is_known=before is not None)
        elif before is None:
            self._closed_unknown()
        elif self._keeps_closed:
            # The first word counts: of two persons who resolve it at the same time, or a delivery that came later.
            closing = before.closing or retry_records.read_closing(record)
            self._places[record.id] = before._replace(closing=closing)

    def _opened(self, record: Record, *, is_known: bool) -> None:
        reason = _reason(record)
        if is_known or self._may_keep():
            self._places[record.id] = Place(record.partition, record.offset, record.appended_at, reason)
            self._counts[reason] += 1
        else:
            self._not_kept[reason] += 1

    def _closed_unknown(self) -> None:
        for reason, count in self._not_kept.items():
            if count:
                self._not_kept[reason] -= 1
                return

    def forget(self, begins: Mapping[str, float]) -> None:
        """Forget what the log has no more.

        Args:
            begins: by partition, the first offset that is still there.
        """
        gone = [event_id for event_id, place in self._places.items() if place.offset < begins.get(place.partition, 0)]
        for event_id in gone:
            place = self._places.pop(event_id)
            if place.closing is None:
                self._counts[place.reason] -= 1

    def is_open(self, event_id: str) -> bool:
        """Return whether an event has an open dead letter."""
        place = self._places.get(event_id)
        return place is not None and place.closing is None

    def closing_of(self, event_id: str) -> Closing | None:
        """Return how the newest dead letter of an event was closed; None if it was not, or there is none."""
        place = self._places.get(event_id)
        return None if place is None else place.closing

    def is_wanted(self, record: Record, wanted: Wanted) -> bool:
        """Return whether a record is a dead letter that counts, in the state that is asked for."""
        place = self._places.get(record.id)
        if place is None or (place.partition, place.offset) != (record.partition, record.offset):
            return False
        return place.is_in(wanted)

    def counts_in(self, wanted: Wanted) -> Counter[str]:
        """Return how many dead letters are in a state, by reason."""
        return Counter(place.reason for place in self._places.values() if place.is_in(wanted))

    def since_of_newest(self, count: int, wanted: Wanted, reasons: Collection[str]) -> float:
        """Return the time from which on the newest dead letters were given up; infinite if there are none.

        Args:
            count: how many, at least 1.
            wanted: their state.
            reasons: why they were given up; empty: any.
        """
        chosen = (
            place.at
            for place in self._places.values()
            if place.is_in(wanted) and (not reasons or place.reason in reasons)
        )
        return min(heapq.nlargest(count, chosen), default=math.inf)


async def read_index(
    log: BrowsedLog, subscriber: str, *, since: float = 0.0, keeps_closed: bool = False
) -> DeadLetterIndex:
    """Return which dead letters of a subscriber count, among those given up from a time on.

    Args:
        log: has the topic.
        subscriber: whose.
        since: Unix seconds.
        keeps_closed: see :class:`DeadLetterIndex`.

    Raises:
        Transient: the log cannot be read now.
    """
    index = DeadLetterIndex(keeps_closed=keeps_closed)
    async for record in _records(log, subscriber, since):
        index.apply(record)
    return index


async def records(
    log: BrowsedLog,
    subscriber: str,
    *,
    since: float = 0.0,
    until: float = math.inf,
    wanted: Wanted = "open",
    index: DeadLetterIndex | None = None,
) -> AsyncGenerator[Record, None]:
    """Yield the records of dead letters in a state, oldest first of each partition.

    Args:
        log: has the topic.
        subscriber: whose.
        since: given up from this time on, Unix seconds.
        until: given up before this time.
        wanted: the state.
        index: what :func:`read_index` returned; None: it is read first.

    Raises:
        Transient: the log cannot be read now.
    """
    if index is None:
        index = await read_index(log, subscriber, since=since, keeps_closed=wanted != "open")
    async for record in _records(log, subscriber, since, until):
        if index.is_wanted(record, wanted):
            yield record


async def find(
    log: BrowsedLog,
    subscriber: str,
    *,
    since: float = 0.0,
    wanted: Wanted = "open",
    reasons: Collection[str] = (),
    ids: Collection[str] = (),
    limit: int = 1000,
) -> list[DeadLetter]:
    """Return dead letters with their contents, oldest first, at most ``limit``; arguments as :func:`records`."""
    index = await read_index(log, subscriber, since=since, keeps_closed=wanted != "open")
    found: list[DeadLetter] = []
    chosen = records(log, subscriber, since=since, wanted=wanted, index=index)
    async with aclosing(chosen):
        async for record in chosen:
            if (not ids or record.id in ids) and (not reasons or _reason(record) in reasons):
                found.append(read_dead_letter(record, index.closing_of(record.id)))
                if len(found) == limit:
                    break
    return found


async def resolve(
    log: BrowsedLog,
    subscriber: str,
    *,
    clock: Clock,
    note: str,
    by: str,
    ids: Collection[str] = (),
    reasons: Collection[str] = (),
    since: float = 0.0,
    until: float | None = None,
) -> int:
    """Close open dead letters with a note; return how many. What is closed already is left as it is.

    Args:
        log: has the topic.
        subscriber: whose.
        clock: the present time.
        note: why; kept with each.
        by: who.
        ids: of events; empty: any.
        reasons: why they were given up; empty: any.
        since: given up from this time on, Unix seconds.
        until: given up before this time; None: any.

    Raises:
        Transient: the log cannot be read now; what was closed before that stays closed.
    """
    how = Closing("resolved", clock.now(), by=by, note=note)
    closed = 0
    batch: list[Entry] = []
    async for record in records(log, subscriber, since=since, until=math.inf if until is None else until):
        if (ids and record.id not in ids) or (reasons and _reason(record) not in reasons):
            continue
        batch.append(retry_records.closing(record, subscriber, how))
        if len(batch) == _BATCH:
            await append(log, batch, clock)
            closed, batch = closed + len(batch), []
    if batch:
        await append(log, batch, clock)
    return closed + len(batch)


async def append(log: BrowsedLog, batch: list[Entry], clock: Clock) -> None:
    """Append, and wait for a log that takes nothing now."""
    while True:
        try:
            await log.append(batch)
        except NotNow as exc:
            await sleep(clock, exc.retry_after_s or 1.0)
        else:
            return


def read_dead_letter(record: Record, closing: Closing | None = None) -> DeadLetter:
    """Return the dead letter in a record of a ``dlq.`` topic; fields without a header are empty."""
    headers = dict(record.headers)
    trail = retry_records.read(record).trail
    return DeadLetter(
        id=record.id,
        key=record.key,
        type=type_of(record),
        offset=record.offset,
        given_up_at=record.appended_at,
        reason=_reason(record),
        attempts=trail.attempts,
        last_status=headers.get("gateway-last-status", ""),
        last_detail=headers.get("gateway-last-detail", ""),
        last_response=headers.get("gateway-last-response", ""),
        first_attempt_at=trail.first_at,
        steps=trail.steps,
        origin=trail.origin,
        replay=headers.get(retry_records.REPLAY_ID, ""),
        value=record.value,
        closing=closing,
    )


def type_of(record: Record) -> str:
    """Return the type of the event in a record; empty where it holds none."""
    return "" if record.flaw else str(parse(record.value)["type"])


def _reason(record: Record) -> str:
    return retry_records.header(record, "gateway-reason")


def _records(log: BrowsedLog, subscriber: str, since: float, until: float = math.inf) -> AsyncIterator[Record]:
    topic = retry_records.dlq_topic(subscriber)
    return scan(log, f"scan.{topic}", [topic], since=since, until=until)
