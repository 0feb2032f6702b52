"""How events fared with their subscribers, for lists: many events at once, each in a word."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

from gateway.admin.delivery_status import Outcome, delivery_status
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
