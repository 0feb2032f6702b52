"""Outcomes of events at their subscribers: a word and a sentence for one event, a word for each of many.

The record of attempts is the best source. Without one, the status follows from the subscriber's filter and its position
in the log; where these do not determine it, it is reported as unknown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from gateway.admin.monitor import Monitor
from gateway.admin.parts import Parts
from gateway.admin.subscriber_states import SubscriberState
from gateway.config.settings import Subscriber
from gateway.errors import Transient
from gateway.event import NotAnEvent
from gateway.fanout import subscription
from gateway.fanout.attempts import Attempt
from gateway.fanout.reader import group_name
from gateway.log import Record
from gateway.log.journal import EVENTS

Outcome = Literal[
    "delivered",
    "retrying",
    "parked",
    "dead_lettered",
    "resolved",
    "lost",
    "stopped",
    "skipped",
    "waiting",
    "fetched",
    "unknown",
]

_OF_ATTEMPT: Final[dict[str, Outcome]] = {
    "delivered": "delivered",
    "retried": "retrying",
    "parked": "parked",
    "dead_lettered": "dead_lettered",
    "lost": "lost",
    "stopped": "stopped",
    "abandoned": "retrying",
    "cancelled": "retrying",
}


#: States in which no event is attempted, or a probe only.
_HELD: Final = frozenset({"stopped", "paused", "down"})
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)
#: Which of several outcomes an event is shown with.
_WORST_FIRST: Final[tuple[Outcome, ...]] = (
    "lost",
    "dead_lettered",
    "stopped",
    "parked",
    "retrying",
    "waiting",
    "unknown",
    "resolved",
    "delivered",
    "fetched",
    "skipped",
)
#: Events between two turns of the event loop; with a hundred subscribers some milliseconds.
_SLICE: Final = 32

#: By subscriber.
ByName = Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """In a word, and in a sentence."""

    outcome: Outcome
    why: str


#: Why an event was delivered without trouble.
AT_ONCE: Final = "at the first attempt"
#: Of subscribers of kind ``stream``.
FETCHED: Final = DeliveryStatus("fetched", "its clients fetch events themselves; only they know what they processed")


def delivery_status(
    attempts: Sequence[Attempt], state: SubscriberState | None, *, left_out_by: str | None, is_passed: bool | None
) -> DeliveryStatus:
    """Decide.

    Args:
        attempts: on the event for this subscriber, in order of time.
        state: of the subscriber; None when it is not of this process.
        left_out_by: the key path of what in its filter says no; None where nothing does.
        is_passed: its position is past the event; None when that is unknown.
    """
    if attempts:
        return _by_attempts(attempts, state)
    if left_out_by is not None:
        return DeliveryStatus(
            "skipped", f"its {left_out_by} leaves this event out; a replay of all events sends it all the same"
        )
    if is_passed:
        return DeliveryStatus(
            "unknown",
            "its position is past this event and no attempt is kept: it was delivered and the record expired, "
            "or the subscriber was added after the event",
        )
    if state is None:
        return DeliveryStatus("unknown", "no attempt is kept, and this process does not deliver to it")
    return DeliveryStatus("waiting", _waiting(state))


def _by_attempts(attempts: Sequence[Attempt], state: SubscriberState | None) -> DeliveryStatus:
    first = [attempt for attempt in attempts if not attempt.replay]
    found = _of_one(first, state) if first else None
    for name in dict.fromkeys(attempt.replay for attempt in attempts if attempt.replay):
        again = _of_replay(name, [attempt for attempt in attempts if attempt.replay == name], found, state)
        if found is None:
            found = again
        else:
            # An event that was delivered stays so, whatever becomes of it when it is delivered again.
            stays = found.outcome == "delivered" or again.outcome == "unknown"
            found = DeliveryStatus(found.outcome if stays else again.outcome, f"{found.why}; {again.why}")
    assert found is not None
    return found


def _of_replay(
    name: str, attempts: Sequence[Attempt], before: DeliveryStatus | None, state: SubscriberState | None
) -> DeliveryStatus:
    """Decide what became of the event in one replay."""
    if attempts[-1].outcome == "withdrawn":
        return DeliveryStatus("unknown", f"replay {name} was cancelled before it was delivered again")
    found = _of_one(attempts, state)
    if found.outcome == "delivered":
        again = "again " if before is None or before.outcome == "delivered" else ""
        late = "" if found.why == AT_ONCE else f" {found.why}"
        return DeliveryStatus("delivered", f"delivered {again}by replay {name}{late}")
    return DeliveryStatus(found.outcome, f"in replay {name}: {found.why}")


def _of_one(attempts: Sequence[Attempt], state: SubscriberState | None) -> DeliveryStatus:
    """Decide by the attempts of one delivery."""
    last = attempts[-1]
    outcome = _OF_ATTEMPT.get(last.outcome, "unknown")
    if any(attempt.outcome == "delivered" for attempt in attempts):
        count = len(attempts)
        return DeliveryStatus("delivered", AT_ONCE if count == 1 else f"after {count} attempts")
    match outcome:
        case "parked":
            return DeliveryStatus(outcome, f"{last.sentence}; it waits in a retry topic")
        case "dead_lettered":
            return DeliveryStatus(outcome, f"given up after {_times(last.number)}; the last one: {last.sentence}")
        case "lost":
            return DeliveryStatus(outcome, "given up, and the log refused the dead letter; replay it by its id")
        case "stopped":
            return DeliveryStatus(outcome, f"the subscriber answered {last.result} and wants no more events; resume it")
        case "retrying" if last.outcome == "cancelled":
            return DeliveryStatus(
                outcome, "the last attempt was cut off when its partition moved; it will be tried again"
            )
        case "retrying":
            held = f" {state.reason}" if state is not None and state.state in _HELD else ""
            return DeliveryStatus(outcome, f"{last.sentence}; it will be tried again.{held}")
    return DeliveryStatus("unknown", f"the last attempt ended as {last.outcome}")


def _times(count: int) -> str:
    return "one attempt" if count == 1 else f"{count} attempts"


def _waiting(state: SubscriberState) -> str:
    return state.reason if state.state in _HELD else "Not attempted yet."


class EventOutcomes:
    """Knows the outcomes of the events that this process can look up.

    Only the log shows whether a dead letter was resolved, and a list does not read it: here it is ``dead_lettered``.
    """

    def __init__(self, parts: Parts, monitor: Monitor) -> None:
        self._parts = parts
        self._monitor = monitor
        self._wants: dict[str, tuple[Subscriber, Callable[[Record], bool] | None]] = {}

    async def of(self, records: Sequence[Record], subscriber: str = "") -> list[ByName]:
        """Return the outcomes of each event, in their order.

        Args:
            records: the events.
            subscriber: only of this one; empty: of all that have the topic.

        Raises:
            Transient: the recorded attempts cannot be read now.
        """
        attempts = await self._attempts(records)
        positions, states = self._positions(), self._monitor.states()
        found: list[ByName] = []
        for number, record in enumerate(records):
            of_event = attempts.get(record.id, ())
            found.append(
                {
                    one.name: self._outcome(one, record, of_event, positions.get(one.name), states.get(one.name))
                    for one in self._parts.subscribers
                    if record.topic in one.topics and subscriber in ("", one.name)
                }
            )
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        return found

    async def column(self, records: Sequence[Record], subscriber: str = "") -> list[dict[str, Any]]:
        """Return what a list shows of each event: the worst ``outcome``, and how many subscribers have which.

        Both are None where the attempts cannot be read now.
        """
        try:
            found = await self.of(records, subscriber)
        except Transient:
            return [{"outcome": None, "outcomes": None} for _ in records]
        return [{"outcome": worst(one), "outcomes": dict(Counter(one.values()))} for one in found]

    async def _attempts(self, records: Sequence[Record]) -> Mapping[str, Sequence[Attempt]]:
        search = self._parts.needed_search()
        if search.has_attempts:
            return await search.attempts_of_many(records)
        recent = self._monitor.recent
        return {record.id: recent.of(record.id) for record in records}

    def _positions(self) -> Mapping[str, int]:
        """Return the position of each subscriber in the journal, where that is what they read."""
        journal = self._parts.journal
        if not self._parts.is_embedded or journal is None:
            return {}
        kept = journal.positions()
        names = [one.name for one in self._parts.subscribers if one.kind != "stream"]
        return {name: at for name in names if (at := kept.get((group_name(name), EVENTS))) is not None}

    def _outcome(
        self,
        one: Subscriber,
        record: Record,
        of_event: Sequence[Attempt],
        position: int | None,
        state: SubscriberState | None,
    ) -> Outcome:
        attempts = [attempt for attempt in of_event if attempt.subscriber == one.name]
        if not attempts and not self._is_wanted(one, record):
            return "skipped"
        if one.kind == "stream":
            return "fetched"
        if not attempts and not self._parts.is_embedded and record.appended_at < self._monitor.recent.since:
            return "unknown"
        is_passed = None if position is None else record.offset < position
        known = state if one.name in self._monitor.statuses else None
        return delivery_status(attempts, known, left_out_by=None, is_passed=is_passed).outcome

    def _is_wanted(self, one: Subscriber, record: Record) -> bool:
        known = self._wants.get(one.name)
        if known is None or known[0] != one:
            known = self._wants[one.name] = (one, subscription.build(one).wants)
        try:
            return known[1] is None or known[1](record)
        except NotAnEvent:
            return False


def worst(outcomes: ByName) -> Outcome | None:
    """Return the outcome that an operator has to know first; None if the event has no subscriber."""
    return min(outcomes.values(), key=_WORST_FIRST.index, default=None)
