"""One member of a consumer group: aiokafka's consumer, one after another, and what its group does to it.

aiokafka 0.14 deals partitions anew by taking all of them from everybody first (its consumer has no cooperative
protocol). What we add to it:

* ``on_revoked`` is awaited before partitions go, and what is done by then is committed. How long that takes is the
  owner's to bound: an attempt under way may take all of its subscriber's ``timeout_s``, and cut short it would be made
  again by the next owner at the same time. The group waits; ``settle_s`` and ``rebalance_s`` are beyond the longest.
  Heartbeats go on meanwhile, from a task of aiokafka's that no work of ours holds up; records are not handed out.
* Commits gather and go out twice a second in the background. When the group has moved on they are dropped: those
  events come again elsewhere.
* Away is told from empty: aiokafka retries in silence, so an idle member asks for an end offset every ten seconds.
  A consumer whose background task ended, or whose addresses are stale, is replaced; it goes on from its commits.
* A consumer that is given up is ended wholly (:mod:`gateway.log.kafka.farewell`), in a task of the log's: who is
  cancelled meanwhile waits for nothing and leaves nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors

from gateway.errors import Transient
from gateway.log import Begins, OnRevoked, Start
from gateway.log.kafka import farewell, topics
from gateway.log.kafka.availability import CONNECTION, Availability
from gateway.log.kafka.errors import CLIENT_ERRORS, KafkaAway, away, problem_of
from gateway.log.kafka.missing import MissingTopics
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within
from gateway.log.kafka.placement import GoneBack, Placement
from gateway.log.kafka.positions import Positions, pin
from gateway.log.kafka.reader_policy import ReaderPolicy
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Runs what must end whoever is cancelled, in a task that its owner awaits.
Background = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

_log = structlog.get_logger("gateway.kafka")


class Member:
    """Joins the group as often as needed; :attr:`consumer` is the present one.

    Args:
        topics: names in Kafka.
        positions: what is done; shared with the reader.
        changed: set when partitions have come.
        background: for what outlives a call that is cancelled.
        missing: topics that do not exist; they are read as soon as they do.
    """

    #: What it is in errors, before its name.
    _kind = "group"

    def __init__(
        self,
        options: KafkaOptions,
        group: str,
        topics: Collection[str],
        policy: ReaderPolicy,
        *,
        positions: Positions,
        placement: Placement,
        availability: Availability,
        on_revoked: OnRevoked | None,
        changed: asyncio.Event,
        background: Background,
        missing: MissingTopics,
    ) -> None:
        self.consumer: Any = None
        self.called = f"{self._kind} {group}"
        self._options = options
        self._group = group
        self._topics = sorted(topics)
        self._policy = policy
        self._positions = positions
        self.placement = placement
        self._availability = availability
        self._on_revoked = on_revoked
        self._changed = changed
        self._background = background
        self._missing = missing
        self._retiring: asyncio.Task[None] | None = None
        self._committing = asyncio.Lock()
        self._heard_at = 0.0
        self._rebalances = METRICS.counter("gateway_kafka_rebalances").labels(group)

    # -- joining ------------------------------------------------------------------------------------------------

    async def begin(self, start: Start | Begins) -> None:
        """Fix where a group that is new begins, before the first :meth:`join`, unless it is fixed as a time.

        Raises:
            KafkaAway: Kafka cannot be reached, refuses, or a topic is missing.
        """
        if not isinstance(start, str):
            self.placement.start = start
        elif start == "latest":
            await pin(self._options, self._group, self._missing.others(self._topics), self._policy.request_s)

    async def ready(self) -> Any:
        """The present consumer, its partitions where they are read; joins if there is none.

        Raises:
            KafkaAway: Kafka cannot be reached, or refuses; call again later.
        """
        if self.consumer is None:
            await self.join()
        consumer = self.consumer
        if await self.placement.recreated(consumer._client):
            consumer = await self.restart(consumer)
        try:
            try:
                await self.ask(self.placement.place(consumer))
            except GoneBack:
                consumer = await self.restart(consumer)
                await self.ask(self.placement.place(consumer))
        except KafkaAway as exc:
            self._availability.problem(CONNECTION, exc.problem)
            raise
        return consumer

    async def restart(self, consumer: Any) -> Any:
        """Begin anew where the positions are, after everything that was handed out was given up; the new consumer.

        Raises:
            KafkaAway: Kafka cannot be reached, or refuses; call again later.
        """
        await self.replace(consumer)
        if self.consumer is None:
            await self.join()
        return self.consumer

    async def join(self) -> None:
        """Make a consumer and join. Returns with partitions, or without when others take long to give them away.

        Raises:
            KafkaAway: Kafka cannot be reached, or refuses; call again later.
        """
        policy = self._policy
        consumer = AIOKafkaConsumer(
            **self._options.consumer(),
            **self.arguments(),
            auto_offset_reset="none",
            fetch_max_bytes=policy.fetch_max_bytes,
            max_partition_fetch_bytes=policy.max_partition_fetch_bytes,
        )
        self._availability.watch(consumer._client.health)
        try:
            async with asyncio.timeout(OPEN_S):
                await consumer.start()
                joined = await self.enter(consumer)
        except CLIENT_ERRORS as exc:
            await self.end(consumer)
            raise self._failed(exc, self.called, consumer) from exc
        except BaseException:
            self.end(consumer)
            raise
        self.consumer = consumer
        self.heard()
        with suppress(TimeoutError):
            async with asyncio.timeout(policy.join_s):
                await joined.wait()

    def arguments(self) -> dict[str, Any]:
        """What makes aiokafka's consumer a member of the group."""
        policy = self._policy
        return {
            "group_id": self._options.kafka_name(self._group),
            "session_timeout_ms": int(policy.session_s * 1000),
            "heartbeat_interval_ms": int(policy.heartbeat_s * 1000),
            "rebalance_timeout_ms": int(policy.rebalance_s * 1000),
            # A subscriber that is down for days keeps its partitions: its reader lives, it only does not read.
            "max_poll_interval_ms": 2**31 - 1,
        }

    async def enter(self, consumer: Any) -> asyncio.Event:
        """Ask for partitions; set when they have come."""
        listener = _Listener(self, consumer)
        consumer.subscribe(self._topics, listener=listener)
        return listener.joined

    # -- parting ------------------------------------------------------------------------------------------------

    async def replace(self, consumer: Any) -> None:
        """Give this consumer up; there is none until the next :meth:`join`. Cancelled, it goes on in the background."""
        if self.consumer is not consumer:
            return
        self.consumer = None
        # In a task of its own: the owner may wait, inside, for what its reading task does.
        self._retiring = self._background(self._retire(consumer))
        await asyncio.wait([self._retiring])

    async def close(self) -> None:
        """Commit and leave, within ten seconds; while Kafka is away only begin to, and return at once."""
        is_away = not self._availability.state.is_ready  # what is unreadable or missing is no outage, and not in it
        if self._retiring is not None:
            await asyncio.wait([self._retiring], timeout=0.0 if is_away else self._policy.close_s)
            self._retiring.cancel()
        consumer, self.consumer = self.consumer, None
        if consumer is None:
            return
        if is_away:
            self.end(consumer)
            return
        try:
            with suppress(Transient):
                await self.commit(consumer, self._policy.close_s)
        finally:
            ended = self.end(consumer)
        await ended

    def end(self, consumer: Any) -> asyncio.Future[None]:
        """Begin to give a consumer back, in the background; nothing of it is alive afterwards. Need not be awaited."""
        return asyncio.shield(self._background(farewell.end(consumer, self._policy.close_s, self._policy.cut_s)))

    async def _retire(self, consumer: Any) -> None:
        policy = self._policy
        try:
            await within(policy.settle_s + policy.request_s, self.revoked(consumer, consumer.assignment()))
        finally:
            await self.end(consumer)

    # -- rebalances ---------------------------------------------------------------------------------------------

    async def revoked(self, consumer: Any, partitions: Collection[Any]) -> None:
        """Called by aiokafka before partitions go. Settle them, then commit; bounded."""
        names = sorted(self._positions.name(tp) for tp in partitions)
        if not names:
            return
        self._rebalances.inc()
        if self._on_revoked is not None and not await within(self._policy.settle_s, self._settle(names)):
            _log.warning("kafka.settle_cut_short", group=self._group, partitions=names)
        with suppress(Transient):
            await self.commit(consumer, self._policy.request_s)

    async def _settle(self, names: Collection[str]) -> None:
        assert self._on_revoked is not None
        try:
            await self._on_revoked(names)
        except Exception as exc:  # the owner's trouble must not keep the group from going on
            _log.exception("kafka.settle_failed", group=self._group, error=redaction.fault(exc))

    async def assigned(self, partitions: Collection[Any]) -> None:
        """Called by aiokafka when partitions have come. They are placed by the task that reads."""
        self._positions.assigned(partitions)
        self.placement.reset(partitions)
        self._changed.set()

    # -- committing ---------------------------------------------------------------------------------------------

    async def commit_regularly(self) -> None:
        """For ever: what gathered goes out; what fails is tried again."""
        while True:
            await self._positions.wait_dirty()
            await asyncio.sleep(self._policy.commit_interval_s)
            try:
                if self.consumer is not None:
                    await self.commit(self.consumer, self._policy.request_s)
            except Transient:
                continue
            except Exception as exc:  # the top of a task: commits that end would repeat everything one day
                _log.exception("kafka.commit_broke", group=self._group, error=redaction.fault(exc))

    async def commit(self, consumer: Any, seconds: float) -> None:
        """Make all commits so far durable.

        Raises:
            KafkaAway: not confirmed in time; they are kept for the next try.
        """
        async with self._committing:
            assigned = consumer.assignment()
            due = {tp: position for tp, position in self._positions.dirty().items() if tp in assigned}
            if not due:
                self._positions.drop(assigned)
                return
            try:
                async with asyncio.timeout(seconds):
                    await consumer.commit(due)
            except (errors.CommitFailedError, errors.IllegalStateError) as exc:
                _log.info("kafka.commit_dropped", group=self._group, reason=problem_of(exc).text)
            except CLIENT_ERRORS as exc:
                raise self._failed(exc, f"{self.called}: commit", consumer) from exc
            else:
                self._positions.committed_up_to(due)
                self.heard()

    # -- trouble ------------------------------------------------------------------------------------------------

    def heard(self) -> None:
        """Kafka answered."""
        self._heard_at = time.monotonic()
        if not self._availability.state.is_ready:
            self._availability.solved(CONNECTION)

    async def make_sure(self, consumer: Any) -> None:
        """Nothing came. Is there nothing, or is Kafka away?

        Raises:
            KafkaAway: away.
        """
        health = consumer._client.health
        self._availability.look(health, self._options.own_name)
        silent_s = time.monotonic() - self._heard_at
        is_away = CONNECTION in self._availability.state.problems
        if (silent_s < self._policy.probe_s and not is_away) or time.monotonic() < health.throttled_until:
            return
        try:
            async with asyncio.timeout(self._policy.request_s / 2):
                await self._probe(consumer)
        except CLIENT_ERRORS as exc:
            failed = self._failed(exc, self.called, consumer)
            if silent_s > self._policy.rebootstrap_s and await topics.is_reachable(self._options):
                await self.replace(consumer)
            raise failed from exc
        self.heard()

    async def _probe(self, consumer: Any) -> None:
        """Ask a partition's leader something, or, while no topic exists, any broker."""
        known = next((topic for topic in self._topics if consumer.partitions_for_topic(topic)), None)
        if known is not None:
            await consumer.end_offsets([TopicPartition(known, 0)])
        elif not await consumer._client.force_metadata_update():
            raise errors.KafkaConnectionError("no broker answers")

    async def trouble(self, consumer: Any, exc: BaseException) -> None:
        """aiokafka gave us an error of its background tasks. Those of rights pass; after others it does not recover.

        Raises:
            KafkaAway: always.
        """
        failed = self._failed(exc, self.called, consumer)
        if not isinstance(exc, errors.TopicAuthorizationFailedError | errors.GroupAuthorizationFailedError):
            await self.replace(consumer)
        raise failed from exc

    async def ask(self, question: Awaitable[Any]) -> Any:
        """A question to Kafka, with a deadline.

        Raises:
            KafkaAway: no answer.
        """
        try:
            async with asyncio.timeout(self._policy.request_s):
                return await question
        except CLIENT_ERRORS as exc:
            raise self._failed(exc, self.called, self.consumer) from exc

    def _failed(self, exc: BaseException, doing: str, consumer: Any) -> KafkaAway:
        """Report what aiokafka raised; the error to raise from it."""
        failed = away(exc, doing, None if consumer is None else consumer._client)
        if isinstance(exc, errors.TopicAuthorizationFailedError) and consumer is not None and consumer.assignment():
            # Of one topic, while the others are read: reported by its name, and until a broker no longer refuses it.
            self._availability.look(consumer._client.health, self._options.own_name)
        else:
            self._availability.problem(CONNECTION, failed.problem)
        return failed


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Passes aiokafka's callbacks on, with the consumer they are of."""

    def __init__(self, member: Member, consumer: Any) -> None:
        self._member = member
        self._consumer = consumer
        self.joined = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._member.revoked(self._consumer, revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._member.assigned(assigned)
        self.joined.set()
