"""The base of both readers of Kafka: takes records out of aiokafka's consumer, as batches with their gaps.

* The consumer has no reset of its own (``auto_offset_reset``): the gateway decides where a partition is read, and a
  partition is read only after that (:attr:`ConsumerReader._placed`).
* Pausing is done here: aiokafka discards fetched records of a paused partition, and the gateway's readers pause often.
* An unavailable Kafka is distinguished from an empty one: aiokafka retries silently, so a reader without records
  requests an end offset now and then.

Limits: at most ``max_partition_fetch_bytes`` a partition and ``fetch_max_bytes`` a broker are fetched ahead.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from gateway.log import Batch, Gap
from gateway.log.kafka.aiokafka_workarounds import end_consumer, state_of
from gateway.log.kafka.errors import CLIENT_ERRORS, KafkaAway, away
from gateway.log.kafka.fetcher import PartitionFetcher, RecordMaker
from gateway.log.kafka.health import CONNECTION, Availability, State, both
from gateway.log.kafka.options import OPEN_S, KafkaOptions, ReaderPolicy
from gateway.log.kafka.outage import limit_logs
from gateway.log.kafka.topics import MissingTopics, TopicIds, is_another

#: Runs work that must end even if its caller is cancelled, in a task that the log awaits.
Background = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
#: Creates missing topics of the gateway; returns the other missing topics, with a hint for each.
Ensure = Callable[[Collection[str]], Awaitable[Mapping[str, str]]]

#: An end offset of a fetch is used for so long. A fetch returns every half second while no record waits.
_END_AGE_S: Final = 3.0


class ConsumerReader(ABC):
    """A reader of one aiokafka consumer after another.

    Its coroutines raise ``KafkaAway`` while Kafka cannot be reached, or refuses, and have reported it: call them again.

    Args:
        group: its name in metrics, logs and errors.
        ids: incarnations of topics, shared by the readers of a log.
        background: runs work that outlives a cancelled call; the log awaits it when it stops.
        on_closed: called once, when the reader is closed.
    """

    #: Kind of reader in errors, before its name.
    _kind = "reader"

    def __init__(
        self,
        options: KafkaOptions,
        group: str,
        topics: Collection[str],
        *,
        ids: TopicIds,
        ensure: Ensure,
        background: Background,
        on_closed: Callable[[Any], None],
        policy: ReaderPolicy,
    ) -> None:
        self.group = group
        self.consumer: Any = None
        self._called = f"{self._kind} {group}"
        self._options = options
        self._topics = set(topics)
        self._ids = ids
        self._ensure = ensure
        self._background = background
        self._on_closed = on_closed
        self._policy = policy
        self._availability = Availability(group)
        self._missing = MissingTopics(group, options)
        self._fetcher = PartitionFetcher(group)
        self._made = RecordMaker(group, options)
        self._changed = asyncio.Event()
        self._names: dict[Any, str] = {}
        #: Partitions that are read, each with the end that was last returned for it.
        self._placed: dict[Any, int] = {}
        self._paused: set[str] = set()
        #: Incarnations of the topics that are read, by their names.
        self._incarnations: dict[str, str] = {}
        #: Topics that did not exist when they were to be read, although they were assigned.
        self._absent: set[str] = set()
        #: A number that changes whenever partitions are assigned or revoked.
        self._turn = 0
        self._heard_at = 0.0
        self._is_closed = False

    @property
    def has_topics(self) -> bool:
        """Whether there are topics to read."""
        return bool(self._topics)

    # -- names --------------------------------------------------------------------------------------------------

    def _name(self, tp: Any) -> str:
        found = self._names.get(tp)
        if found is None:
            found = self._names[tp] = f"{self._options.own_name(tp.topic)}-{tp.partition}"
        return found

    def _kafka_names(self) -> list[str]:
        return sorted(map(self._options.kafka_name, self._topics))

    @property
    def state(self) -> State:
        """Whether all topics can be read, for ``/readyz`` and the console."""
        state = self._availability.state
        for part in (self._missing, self._fetcher):
            if part.problems:
                state = both(state, State(False, dict(part.problems), part.since))
        return state

    def expect(self, topics: Collection[str]) -> None:
        """Note topics that this process has created: those of them that are read are looked up at once."""
        if self._missing.expect(topics):
            self._changed.set()

    # -- reading ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to read. Raises ``KafkaAway`` if Kafka cannot be reached, or refuses; call again later."""
        limit_logs()
        await self._reported(self._open())

    async def _ready(self) -> Any:
        """Return the present consumer, its partitions where they are read."""
        return await self._reported(self._prepare())

    async def _reported(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except KafkaAway as exc:
            self._availability.problem(CONNECTION, exc.problem)
            raise

    @abstractmethod
    async def _open(self) -> None:
        """See :meth:`open`."""

    @abstractmethod
    async def _prepare(self) -> Any:
        """See :meth:`_ready`."""

    async def _connected(self, **more: Any) -> Any:
        """Return a new consumer, started.

        Args:
            more: further arguments of aiokafka's consumer.
        """
        consumer = AIOKafkaConsumer(
            **self._options.consumer(),
            auto_offset_reset="none",
            fetch_max_bytes=self._policy.fetch_max_bytes,
            max_partition_fetch_bytes=self._policy.max_partition_fetch_bytes,
            **more,
        )
        self._availability.watch(consumer._client.health)
        try:
            async with asyncio.timeout(OPEN_S):
                await consumer.start()
        except CLIENT_ERRORS as exc:
            await self._end(consumer)
            raise away(exc, self._called, consumer._client) from exc
        except BaseException:
            self._end(consumer)
            raise
        return consumer

    async def _present(self) -> Any:
        """Return the consumer for a query that is concurrent with the reading."""
        return await self._ready()

    @abstractmethod
    async def _lost_end(self, consumer: Any, partitions: Collection[Any]) -> None:
        """Begin again in partitions that end before the offset at which they are read."""

    @abstractmethod
    async def _replace(self, consumer: Any) -> None:
        """Discard a consumer that does not recover."""

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """See :meth:`gateway.log.AssignedReader.fetch`."""
        if self._is_closed:
            raise KafkaAway(f"{self._called}: the reader is closed")
        consumer = await self._ready()
        self._changed.clear()
        self._missing.look(consumer, self._changed.set)
        wait_s = min(wait_s, self._missing.next_look_s())
        turn = self._turn
        active = [tp for tp in self._placed if self._name(tp) not in self._paused]
        if not active:
            # Either all partitions are paused, or other processes have them: wait for a change.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            await self._make_sure(consumer)
            return Batch()
        found, gaps = await self._take(consumer, active, max_records, wait_s)
        if found or gaps:
            self._heard()
        else:
            await self._make_sure(consumer)
        if turn != self._turn:  # revoked meanwhile; these records are read again
            return Batch()
        return Batch(self._made.records(found, self._name), gaps, self._ends_of(consumer, active))

    async def _take(
        self, consumer: Any, active: Collection[Any], max_records: int, wait_s: float
    ) -> tuple[Mapping[Any, list[Any]], Sequence[Gap]]:
        try:
            # aiokafka's own wait has no bound while the group assigns partitions; then nothing came in time. A consumer
            # that was given up meanwhile is stopped; the next fetch joins again, or raises why it cannot.
            with suppress(TimeoutError, errors.ConsumerStoppedError):
                async with asyncio.timeout(wait_s + 1.0):
                    return await self._fetcher.take(consumer, active, max_records=max_records, wait_s=wait_s), ()
        except errors.OffsetOutOfRangeError as exc:
            return {}, await self._gone(consumer, exc.args[0])
        except CLIENT_ERRORS as exc:
            await self._trouble(consumer, exc)
        return {}, ()

    def _ends_of(self, consumer: Any, active: Collection[Any]) -> dict[str, int]:
        """Return the read end of partitions whose end has moved, also past records that aiokafka leaves out.

        These are markers of transactions, and aborted records.
        """
        ends = {}
        for tp in active:
            state = state_of(consumer, tp)
            if state is not None and state.has_valid_position and state.position != self._placed.get(tp):
                self._placed[tp] = ends[self._name(tp)] = state.position
        return ends

    async def _gone(self, consumer: Any, refused: Mapping[Any, int]) -> Sequence[Gap]:
        """Continue at the first records; return the gaps. The broker refused to read at these offsets."""
        await self._ask(self._ids.now(consumer._client, {tp.topic for tp in refused}))
        if await self._is_another(consumer):
            return ()  # the next fetch begins again
        beginnings = await self._ask(consumer.beginning_offsets(list(refused)))
        expired = {tp: offset for tp, offset in refused.items() if tp in self._placed and offset < beginnings[tp]}
        for tp in expired:
            with suppress(errors.IllegalStateError):
                consumer.seek(tp, beginnings[tp])
        if short := [tp for tp, offset in refused.items() if tp in self._placed and offset > beginnings[tp]]:
            await self._lost_end(consumer, short)
        return [Gap(self._name(tp), first, beginnings[tp] - 1, "expired") for tp, first in expired.items()]

    async def _is_another(self, consumer: Any) -> bool:
        """Return whether topics that are read are known to have been deleted and created again."""
        recent = await self._ids.recent(consumer._client)
        name = self._options.kafka_name
        return any(name(topic) in recent for topic in self._absent) or any(
            is_another(was, recent.get(name(topic), "")) for topic, was in self._incarnations.items()
        )

    def _note(self, topics: Collection[str], ids: Mapping[str, str]) -> None:
        """Note which incarnations of topics (names in Kafka) are read; ``ids`` has those of the existing ones."""
        for topic in topics:
            own_name = self._options.own_name(topic)
            self._absent.discard(own_name)
            if topic in ids:
                self._incarnations[own_name] = ids[topic]
            else:
                self._absent.add(own_name)

    # -- flow ---------------------------------------------------------------------------------------------------

    def pause(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.AssignedReader.pause`. Lasts until :meth:`resume`, over rebalances too."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.AssignedReader.resume`."""
        self._paused.difference_update(partitions)
        self._changed.set()

    async def ends(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.AssignedReader.ends`. Kafka is asked only for ends that no recent fetch returned."""
        consumer = await self._present()
        found, unknown = {}, []
        oldest = (time.time() - _END_AGE_S) * 1000
        for tp in self._placed:
            state = state_of(consumer, tp)
            if state is not None and state.highwater is not None and (state.timestamp or 0) >= oldest:
                is_cut = state.lso is not None and state.lso >= 0 and self._options.isolation_level == "read_committed"
                found[tp] = min(state.lso, state.highwater) if is_cut else state.highwater
            else:
                unknown.append(tp)
        if unknown:
            found |= await self._ask(consumer.end_offsets(unknown))
        return {self._name(tp): offset for tp, offset in found.items()}

    def incarnations(self) -> Mapping[str, str]:
        """See :meth:`gateway.log.AssignedReader.incarnations`."""
        return {topic: found for topic, found in self._incarnations.items() if found}

    # -- life and trouble ---------------------------------------------------------------------------------------

    async def close(self) -> None:
        """See :meth:`gateway.log.AssignedReader.close`. Within ten seconds; at once while Kafka is unavailable.

        If cancelled, it continues in the background: a member that is half closed would hold up its group.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        await asyncio.shield(self._background(self._close()))

    async def _close(self) -> None:
        consumer, self.consumer = self.consumer, None
        self._turn += 1
        if consumer is not None:
            ended = self._end(consumer)
            if self._availability.is_connected:
                await ended
        self._availability.close()
        self._fetcher.close()
        self._missing.close()
        self._on_closed(self)

    def _end(self, consumer: Any) -> asyncio.Future[None]:
        """Start closing a consumer in the background; nothing of it runs afterwards. Need not be awaited."""
        return asyncio.shield(self._background(end_consumer(consumer, self._policy.close_s, self._policy.cut_s)))

    def _heard(self) -> None:
        """Note that Kafka answered."""
        self._heard_at = time.monotonic()
        self._availability.solved(CONNECTION)

    async def _make_sure(self, consumer: Any) -> None:
        """Check, after a fetch without records, that Kafka is available."""
        health = consumer._client.health
        self._availability.look(health, self._options.own_name)
        silent_s = time.monotonic() - self._heard_at
        is_recent = silent_s < self._policy.probe_s and self._availability.is_connected
        if is_recent or time.monotonic() < health.throttled_until:
            return
        try:
            async with asyncio.timeout(self._policy.request_s / 2):
                await self._probe(consumer)
        except CLIENT_ERRORS as exc:
            raise await self._away(exc, consumer) from exc
        self._heard()

    async def _probe(self, consumer: Any) -> None:
        """Send a request to a partition's leader or, while no topic exists, to any broker."""
        known = next((topic for topic in self._kafka_names() if consumer.partitions_for_topic(topic)), None)
        if known is not None:
            await consumer.end_offsets([TopicPartition(known, 0)])
        elif not await consumer._client.force_metadata_update():
            raise errors.KafkaConnectionError("no broker answers")

    async def _trouble(self, consumer: Any, exc: BaseException) -> None:
        """Handle an error of aiokafka's background tasks. Errors of rights may end; others do not."""
        failed = self._failed(exc, consumer)
        if not isinstance(exc, errors.TopicAuthorizationFailedError | errors.GroupAuthorizationFailedError):
            await self._replace(consumer)
        raise failed from exc

    async def _ask(self, question: Awaitable[Any]) -> Any:
        """Await a request to Kafka, with a deadline."""
        try:
            async with asyncio.timeout(self._policy.request_s):
                return await question
        except CLIENT_ERRORS as exc:
            raise await self._away(exc, self.consumer) from exc

    async def _away(self, exc: BaseException, consumer: Any) -> KafkaAway:
        """Report that a request failed; give a consumer up that has had no answer for a long time.

        The next consumer finds the brokers through the bootstrap servers if they have moved.
        """
        failed, silent_s = self._failed(exc, consumer), time.monotonic() - self._heard_at
        if consumer is not None and silent_s > self._policy.rebootstrap_s:
            await self._replace(consumer)
        return failed

    def _failed(self, exc: BaseException, consumer: Any) -> KafkaAway:
        """Report what aiokafka raised; return the error to raise from it."""
        failed = away(exc, self._called, None if consumer is None else consumer._client)
        if isinstance(exc, errors.TopicAuthorizationFailedError) and consumer is not None and consumer.assignment():
            # A problem of one topic while others are read: reported by its name until a broker no longer refuses it.
            self._availability.look(consumer._client.health, self._options.own_name)
        else:
            self._availability.problem(CONNECTION, failed.problem)
        return failed
