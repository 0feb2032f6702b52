"""Which dead letters are open, in memory: every process that delivers follows the topics ``dlq.<subscriber>``.

For metrics and states, which are asked for all the time. Who lists, replays or resolves reads the log itself
(:mod:`.dead_letters`): this may be behind it by a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Final

from gateway.clock import Clock
from gateway.fanout.dead_letters import DeadLetterIndex
from gateway.fanout.retry_records import dlq_topic
from gateway.fanout.topic_table import TopicFollower
from gateway.log import Batch, BrowsedLog
from gateway.telemetry.metrics import METRICS, Metrics

#: Open dead letters of all subscribers that are remembered by their ids, some 300 bytes each: 30 MB. More are only
#: counted, see :class:`.dead_letters.DeadLetterIndex`.
MAX_REMEMBERED: Final = 100_000
#: A gap behind which nothing of before is left in the partition.
_STARTED_ANEW: Final = frozenset({"deleted", "truncated"})


class OpenDeadLetters:
    """Counts open dead letters, and exports ``gateway_dead_letters_open``.

    Args:
        log: has the topics.
        subscribers: returns the names of the subscribers in force.
        most: remembered by their ids.
    """

    def __init__(
        self,
        log: BrowsedLog,
        subscribers: Callable[[], Collection[str]],
        *,
        clock: Clock,
        metrics: Metrics = METRICS,
        most: int = MAX_REMEMBERED,
    ) -> None:
        self._subscribers = subscribers
        self._gauge = metrics.gauge("gateway_dead_letters_open")
        self._most = most
        self._letters: dict[str, DeadLetterIndex] = {}
        self._shown: dict[tuple[str, str], int] = {}
        self._follower = TopicFollower(
            log,
            "dead-letters",
            lambda: [dlq_topic(name) for name in subscribers()],
            clock=clock,
            on_batch=self._take,
            on_begins=self._forget_expired,
        )

    async def start(self) -> None:
        """Start reading; does not wait for the log."""
        self._follower.start()

    async def stop(self) -> None:
        """Stop. May be called twice, or before the start."""
        await self._follower.stop()

    def open_counts(self, subscriber: str) -> Mapping[str, int] | None:
        """Return the open dead letters of a subscriber by reason; None while that is not known."""
        topic = dlq_topic(subscriber)
        if not self._follower.knows(topic):
            return None
        return self._letters[topic].counts if topic in self._letters else {}

    async def _take(self, batch: Batch) -> None:
        for gap in batch.gaps:
            if gap.reason in _STARTED_ANEW:
                for letters in self._letters.values():
                    letters.forget({gap.partition: math.inf})
        for record in batch:
            if record.topic not in self._letters:
                self._letters[record.topic] = DeadLetterIndex(may_keep=self._has_room)
            self._letters[record.topic].apply(record)
        self._show()

    def _has_room(self) -> bool:
        return sum(map(len, self._letters.values())) < self._most

    def _forget_expired(self, begins: Mapping[str, int]) -> None:
        topics = {dlq_topic(name) for name in self._subscribers()}
        self._letters = {topic: letters for topic, letters in self._letters.items() if topic in topics}
        for letters in self._letters.values():
            letters.forget(begins)

    def _show(self) -> None:
        """Set the gauges that change; what is not known has none, and a reason that has no more stays, at 0."""
        shown: dict[tuple[str, str], int] = {}
        for name in self._subscribers():
            if (counts := self.open_counts(name)) is not None:
                shown |= {(name, reason): count for reason, count in {"attempts": 0, **counts}.items()}
        ended = self._shown.keys() - shown.keys()
        shown |= {(name, reason): 0 for name, reason in ended if (name, "attempts") in shown}
        for labels in self._shown.keys() - shown.keys():
            self._gauge.remove(*labels)
        for labels, count in shown.items() - self._shown.items():
            self._gauge.labels(*labels).set(count)
        self._shown = shown
