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

Events that are left in a topic of a delay that is configured no longer are read on. Topics of the layout before the
first release (``retry.<subscriber>.<delay>``, ``replay.<subscriber>``, each with a group of its own name) are not read:
events that are left in them are reported as an error that says what to do.

Bounds: :data:`_ALL_EVENTS` and :data:`_ALL_BYTES` in memory, in equal parts for the topics.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from typing import Final

import structlog

from gateway.clock import Backoff, Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.fanout import retry_records
from gateway.fanout.job import Recipient
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry_feed import GROUP, TopicFeed
from gateway.fanout.retry_moves import FIRST_WAIT_S
from gateway.log import EventLog
from gateway.log.shared_reader import SharedReader
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS, Metrics

#: Of all topics together. Ten times more is a memory of its own, ten times less appends again what would soon be due.
_ALL_EVENTS: Final = 16_000
_ALL_BYTES: Final = 32 * 1024 * 1024
#: Records of a topic behind the first ones that are not done, which cost a number each. One attempt may take ten
#: minutes, and no subscriber waits for it; ten times more is memory, ten times less holds the others up.
_MAX_SPAN: Final = 50_000
#: Between two looks for events that are left, where other processes append too, with a configuration that may be
#: another one.
_LOOK_S: Final = 600.0
_FIRST_BACKOFF_S: Final = 1.0
_MAX_BACKOFF_S: Final = 60.0
#: A log line names at most so many topics.
_NAMED: Final = 10
_SHARED: Final = re.compile(r"retry\.(\d+)(s|ms)")

_log = structlog.get_logger("gateway.fanout")


def topics(tiers: Collection[float]) -> list[str]:
    """Return the shared topics for these delays, in seconds, of all subscribers."""
    return [retry_records.REPLAY, *(retry_records.retry_topic(one) for one in sorted({FIRST_WAIT_S, *tiers}))]


def delay_of(topic: str) -> float | None:
    """Return the delay of a shared retry topic, in seconds; None when it is none."""
    found = _SHARED.fullmatch(topic)
    return None if found is None else int(found[1]) / (1 if found[2] == "s" else 1000)


def is_old(topic: str, subscribers: Collection[str]) -> bool:
    """Return whether a topic is a subscriber's own, as in the layout before.

    Args:
        topic: its name, without the configured prefix.
        subscribers: names of the subscribers that are configured.
    """
    return any(
        topic == f"replay.{name}" or (topic.startswith(f"retry.{name}.") and topic.endswith("s"))
        for name in subscribers
    )


class RetryTopics:
    """Delivers what was parked, or is to be delivered again, to subscribers that run in this process.

    Args:
        reading: feeds the topics, each as a consumer; all keep their positions under :data:`.retry_feed.GROUP`.
        find: returns a subscriber that runs here.
        known: returns the names of the subscribers that are configured.
        is_shared: other processes append to the log too (Kafka).
        max_events: in memory, of all topics.
        max_bytes: likewise.
    """

    def __init__(
        self,
        log: EventLog,
        reading: SharedReader,
        *,
        find: Callable[[str], Recipient | None],
        known: Callable[[], Collection[str]],
        is_shared: bool = False,
        clock: Clock,
        metrics: Metrics = METRICS,
        max_events: int = _ALL_EVENTS,
        max_bytes: int = _ALL_BYTES,
    ) -> None:
        self._log = log
        self._reading = reading
        self._find = find
        self._known = known
        self._is_shared = is_shared
        self._clock = clock
        self._metrics = metrics
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._tiers: set[float] = {FIRST_WAIT_S}
        self._feeds: dict[str, TopicFeed] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_started = False
        self._reported: set[str] = set()

    @property
    def held(self) -> int:
        """Events in memory."""
        return sum(one.outstanding for one in self._feeds.values())

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
        self._tasks.append(asyncio.create_task(self._look_for_left(), name="fanout:retry-leftovers"))

    async def stop(self) -> None:
        """Accept nothing more, and forget what is not done. May be called twice, or before the start."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for feed in self.feeds:
            await self._reading.remove(feed)
            feed.close()

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
            is_known=lambda name: name in self._known(),
            again=self.topic,
            window=Window(max(1, self._max_events // parts), max(1, self._max_bytes // parts), _MAX_SPAN),
            on_change=self._reading.changed,
            clock=self._clock,
            metrics=self._metrics,
        )
        if self._is_started:
            self._feed(feed)

    def _feed(self, feed: TopicFeed) -> None:
        self._reading.add(feed)
        self._tasks.append(asyncio.create_task(feed.run(), name=f"fanout:{feed.topic}:moves"))

    async def _look_for_left(self) -> None:
        """Look for events that are left: once, or for ever where other processes append too."""
        backoff = Backoff(first_s=_FIRST_BACKOFF_S, last_s=_MAX_BACKOFF_S)
        while True:
            try:
                await self._look()
            except Exception as exc:  # the top of a task: what is not found is not delivered
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                if not is_logged(exc):
                    _log.warning("retry.look_failed", error=redaction.fault(exc), exc_info=not is_expected)
                await sleep(self._clock, backoff.next_s())
            else:
                if not self._is_shared:
                    return
                backoff.reset()
                await sleep(self._clock, _LOOK_S)

    async def _look(self) -> None:
        found = {topic: left for topic, left in (await self._log.unfinished(self._group_of)).items() if left}
        self.apply([delay_s for topic in found if (delay_s := delay_of(topic)) is not None])
        old = {topic: left for topic, left in sorted(found.items()) if delay_of(topic) is None}
        if old.keys() - self._reported:
            self._reported.update(old)
            _log.error(
                "retry.old_topics",
                topics=list(old)[:_NAMED],
                number=len(old),
                records=sum(old.values()),
                advice="this version does not read them, so these events are not delivered: run the version that wrote "
                "them until they are empty",
            )

    def _group_of(self, topic: str) -> str | None:
        if delay_of(topic) is not None:
            return GROUP
        return topic if is_old(topic, self._known()) else None
