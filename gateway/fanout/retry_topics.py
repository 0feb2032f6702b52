"""Retry topics and ``replay``, which all subscribers of the gateway share; their one owner in a process.

::

    retry.60s   ── feed ─┐
    retry.600s  ── feed ─┼─ the subscriber's schedule (by key, by due time) ─ worker ─ subscriber
    retry.3600s ── feed ─┤        │ not attempted: down, passed over, no room
    replay      ── feed ─┘        └──► appended again at the end of a retry topic, with a later due time

A record says in a header whose it is. All topics together have one cursor, ``retry``; no subscriber holds its position
up for the others (:mod:`.retry_moves`). Rejected: a topic and a position for each subscriber, which is four hundred
consumer groups for a hundred subscribers; and one reading that copies nothing, in which everybody waits for the one
that is down.

Bounds: :data:`_ALL_EVENTS` and :data:`_ALL_BYTES` in memory, in equal parts for the topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from gateway.errors import GatewayError
from gateway.fanout import parking
from gateway.fanout.clock import Clock, sleep
from gateway.fanout.job import Recipient
from gateway.fanout.partition_queue import Window
from gateway.fanout.retry_feed import CURSOR, TopicFeed
from gateway.fanout.retry_moves import FIRST_WAIT_S
from gateway.log import EventLog, LogReader, gaps
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS, Metrics

GROUP: Final = f"gateway.{CURSOR}"
#: Of all topics together. Ten times more is a memory of its own, ten times less appends again what would soon be due.
_ALL_EVENTS: Final = 16_000
_ALL_BYTES: Final = 32 * 1024 * 1024
#: Records of a partition behind the first one that is not done, which cost a number each. One attempt may take ten
#: minutes, and nobody waits for it; ten times more is memory, ten times less holds the others up.
_MAX_SPAN: Final = 50_000
_FETCH_WAIT_S: Final = 5.0
_FETCH_RECORDS: Final = 500
#: While there is no room, the log is still asked this often: Kafka takes partitions from a consumer that does not.
_KEEP_ALIVE_S: Final = 30.0
_FIRST_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 30.0

_log = structlog.get_logger("gateway.fanout")


def topics(tiers: Collection[float]) -> list[str]:
    """Return the shared topics for these delays, in seconds, of all subscribers."""
    return [parking.REPLAY, *(parking.retry_topic(one) for one in sorted({FIRST_WAIT_S, *tiers}))]


class RetryTopics:
    """Delivers what was parked, or is to be delivered again, to subscribers that run in this process.

    Args:
        find: returns a subscriber that runs here.
        is_known: whether a subscriber is configured.
        max_events: in memory, of all topics.
        max_bytes: likewise.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        find: Callable[[str], Recipient | None],
        is_known: Callable[[str], bool],
        clock: Clock,
        metrics: Metrics = METRICS,
        max_events: int = _ALL_EVENTS,
        max_bytes: int = _ALL_BYTES,
    ) -> None:
        self._log = log
        self._find = find
        self._is_known = is_known
        self._clock = clock
        self._metrics = metrics
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._tiers: set[float] = {FIRST_WAIT_S}
        self._readings: dict[str, TopicReading] = {}
        self._is_started = False

    @property
    def held(self) -> int:
        """Events in memory."""
        return sum(one.feed.held for one in self._readings.values())

    @property
    def feeds(self) -> list[TopicFeed]:
        """The topics that are read."""
        return [one.feed for one in self._readings.values()]

    def apply(self, tiers: Collection[float]) -> None:
        """Read the topics of these delays too. What was read before is read on: something may be left in it."""
        self._tiers.update(tiers)
        for topic in topics(self._tiers):
            self._add(topic)

    def start(self) -> None:
        """Begin to read; once."""
        self._is_started = True
        for one in self._readings.values():
            one.start()

    async def stop(self) -> None:
        """Stop reading, and make commits durable. May come twice, or before the start."""
        await asyncio.gather(*(one.stop() for one in self._readings.values()))

    def came(self, name: str) -> None:
        """A subscriber was started."""
        for feed in self.feeds:
            feed.came(name)

    def left(self, target: Recipient) -> None:
        """A subscriber was stopped."""
        for feed in self.feeds:
            feed.left(target)

    def topic(self, delay_s: float) -> str:
        """Return the topic for an event whose next attempt is in so many seconds."""
        fitting = parking.tier(list(self._tiers), delay_s)
        return parking.retry_topic(min(self._tiers) if fitting is None else fitting)

    def _add(self, topic: str) -> None:
        if topic in self._readings:
            return
        # Topics are few and those of the configuration come at once; one that comes later gets a part like theirs.
        parts = len(topics(self._tiers))
        events = max(1, self._max_events // parts)
        window = Window(events, max(1, self._max_bytes // parts), _MAX_SPAN)
        self._readings[topic] = TopicReading(
            self._log,
            topic,
            lambda commit: TopicFeed(
                self._log,
                topic,
                find=self._find,
                is_known=self._is_known,
                again=self.topic,
                window=window,
                on_commit=commit,
                clock=self._clock,
                metrics=self._metrics,
            ),
            self._clock,
        )
        if self._is_started:
            self._readings[topic].start()


class TopicReading:
    """Reads one topic for its feed, under :data:`GROUP`."""

    def __init__(
        self, log: EventLog, topic: str, make: Callable[[Callable[[str, int], None]], TopicFeed], clock: Clock
    ) -> None:
        self._log = log
        self._topic = topic
        self._clock = clock
        self._reader: LogReader | None = None
        self._is_whole = True
        self._tasks: list[asyncio.Task[None]] = []
        self.feed = make(self._commit)

    def start(self) -> None:
        """Begin to read, and to append again."""
        self._tasks = [
            asyncio.create_task(self._run(), name=f"fanout:{self._topic}"),
            asyncio.create_task(self.feed.run(), name=f"fanout:{self._topic}:moves"),
        ]

    async def stop(self) -> None:
        """Stop, and give the reader back with its commits durable."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    async def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._step()
                backoff_s = _FIRST_BACKOFF_S
            except Exception as exc:  # the top of a task: a topic that nobody reads would be events forgotten
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                _log.warning(
                    "retry.read_failed", topic=self._topic, error=redaction.fault(exc), exc_info=not is_expected
                )
                self._is_whole = self._is_whole and isinstance(exc, GatewayError)
                await sleep(self._clock, backoff_s)
                backoff_s = min(_MAX_BACKOFF_S, backoff_s * 2)

    async def _step(self) -> None:
        if not self._is_whole:  # a fault of ours: records may be lost between the reader and the feed
            await self._close()
            self._is_whole = True
        if self._reader is None:
            self._reader = await self._log.reader(GROUP, [self._topic], start="earliest", on_revoked=self.feed.revoked)
        feed, reader = self.feed, self._reader
        if not feed.is_hungry() and feed.held:
            await self._wait_for_room(reader)
            return
        batch = await reader.fetch(max_records=min(max(1, feed.room()), _FETCH_RECORDS), wait_s=_FETCH_WAIT_S)
        for gap in batch.gaps:
            gaps.report(self._log.kind, [GROUP], gap)
        feed.take(batch)

    async def _wait_for_room(self, reader: LogReader) -> None:
        feed = self.feed
        feed.has_room.clear()
        timer = self._clock.call_later(_KEEP_ALIVE_S, feed.has_room.set)
        try:
            await feed.has_room.wait()
        finally:
            timer.cancel()
        if not feed.is_hungry():
            names = list(await reader.positions())
            reader.pause(names)
            try:
                feed.take(await reader.fetch(max_records=1, wait_s=0.0))
            finally:
                reader.resume(names)

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        self.feed.drop()
        if reader is not None:
            try:
                await reader.close()
            except GatewayError as exc:
                _log.warning("retry.close_failed", topic=self._topic, error=str(exc))

    def _commit(self, partition: str, offset: int) -> None:
        if self._reader is not None:
            self._reader.commit(partition, offset)
