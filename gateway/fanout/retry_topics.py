"""Retry topics and ``replay``, which all subscribers of the gateway share; their one owner in a process.

::

    retry.60s   ── feed ─┐
    retry.600s  ── feed ─┼─ the subscriber's schedule (by key, by due time) ─ worker ─ subscriber
    retry.3600s ── feed ─┤        │ not attempted: down, passed over, no room
    replay      ── feed ─┘        └──► appended again at the end of a retry topic, with a later due time

A record says in a header whose it is. All topics together have one cursor, ``retry``; no subscriber holds its position
up for the others (:mod:`.retry_moves`). Rejected: a topic and a position for each subscriber, which is four hundred
consumer groups for a hundred subscribers; and one reading that copies nothing, in which all subscribers wait for
the one that is down.

Bounds: :data:`_ALL_EVENTS` and :data:`_ALL_BYTES` in memory, in equal parts for the topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from gateway.clock import Clock
from gateway.fanout import retry_records
from gateway.fanout.job import Recipient
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry_feed import TopicFeed
from gateway.fanout.retry_moves import FIRST_WAIT_S
from gateway.log import EventLog
from gateway.log.shared_reader import SharedReader
from gateway.telemetry.metrics import METRICS, Metrics

#: Of all topics together. Ten times more is a memory of its own, ten times less appends again what would soon be due.
_ALL_EVENTS: Final = 16_000
_ALL_BYTES: Final = 32 * 1024 * 1024
#: Records of a partition behind the first one that is not done, which cost a number each. One attempt may take ten
#: minutes, and no subscriber waits for it; ten times more is memory, ten times less holds the others up.
_MAX_SPAN: Final = 50_000


def topics(tiers: Collection[float]) -> list[str]:
    """Return the shared topics for these delays, in seconds, of all subscribers."""
    return [retry_records.REPLAY, *(retry_records.retry_topic(one) for one in sorted({FIRST_WAIT_S, *tiers}))]


class RetryTopics:
    """Delivers what was parked, or is to be delivered again, to subscribers that run in this process.

    Args:
        reading: feeds the topics, each as a consumer; all keep their positions under :data:`.retry_feed.GROUP`.
        find: returns a subscriber that runs here.
        is_known: whether a subscriber is configured.
        max_events: in memory, of all topics.
        max_bytes: likewise.
    """

    def __init__(
        self,
        log: EventLog,
        reading: SharedReader,
        *,
        find: Callable[[str], Recipient | None],
        is_known: Callable[[str], bool],
        clock: Clock,
        metrics: Metrics = METRICS,
        max_events: int = _ALL_EVENTS,
        max_bytes: int = _ALL_BYTES,
    ) -> None:
        self._log = log
        self._reading = reading
        self._find = find
        self._is_known = is_known
        self._clock = clock
        self._metrics = metrics
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._tiers: set[float] = {FIRST_WAIT_S}
        self._feeds: dict[str, TopicFeed] = {}
        self._tending: list[asyncio.Task[None]] = []
        self._is_started = False
        #: This process has the first partition of ``replay``: one of all processes has it.
        self.has_first = asyncio.Event()

    @property
    def held(self) -> int:
        """Events in memory."""
        return sum(one.held for one in self._feeds.values())

    @property
    def feeds(self) -> list[TopicFeed]:
        """The topics that are read."""
        return list(self._feeds.values())

    def apply(self, tiers: Collection[float]) -> None:
        """Read the topics of these delays too. What was read before is read on: something may be left in it."""
        self._tiers.update(tiers)
        for topic in topics(self._tiers):
            self._add(topic)

    def start(self) -> None:
        """Begin to take what is read, and to append again; once."""
        self._is_started = True
        for feed in self.feeds:
            self._feed(feed)

    async def stop(self) -> None:
        """Accept nothing more, and forget what is not done. May be called twice, or before the start."""
        tending, self._tending = self._tending, []
        for task in tending:
            task.cancel()
        await asyncio.gather(*tending, return_exceptions=True)
        for feed in self.feeds:
            await self._reading.remove(feed)
            feed.drop()

    def came(self, name: str) -> None:
        """Note that a subscriber was started."""
        for feed in self.feeds:
            feed.came(name)

    def left(self, target: Recipient) -> None:
        """Note that a subscriber was stopped."""
        for feed in self.feeds:
            feed.left(target)

    def topic(self, delay_s: float) -> str:
        """Return the topic for an event whose next attempt is in so many seconds."""
        fitting = retry_records.tier(list(self._tiers), delay_s)
        return retry_records.retry_topic(min(self._tiers) if fitting is None else fitting)

    def _add(self, topic: str) -> None:
        if topic in self._feeds:
            return
        # Topics are few and those of the configuration come at once; one that comes later gets a part like theirs.
        parts = len(topics(self._tiers))
        feed = self._feeds[topic] = TopicFeed(
            self._log,
            topic,
            find=self._find,
            is_known=self._is_known,
            again=self.topic,
            window=Window(max(1, self._max_events // parts), max(1, self._max_bytes // parts), _MAX_SPAN),
            on_change=self._reading.changed,
            on_partitions=self._has_partitions,
            clock=self._clock,
            metrics=self._metrics,
        )
        if self._is_started:
            self._feed(feed)

    def _has_partitions(self, feed: TopicFeed) -> None:
        if feed.topic == retry_records.REPLAY:
            is_first = not feed.partitions.isdisjoint((retry_records.REPLAY, f"{retry_records.REPLAY}-0"))
            self.has_first.set() if is_first else self.has_first.clear()

    def _feed(self, feed: TopicFeed) -> None:
        self._reading.add(feed)
        self._tending.append(asyncio.create_task(feed.run(), name=f"fanout:{feed.topic}:moves"))
