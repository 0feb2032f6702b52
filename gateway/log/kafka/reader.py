"""One member of a consumer group, as a :class:`gateway.log.LogReader`.

aiokafka 0.14 deals partitions anew by taking all of them from everybody first (its consumer has no cooperative
protocol). What we add to it:

* ``on_revoked`` is awaited, for at most ``settle_s``, before partitions go, and what is done by then is committed.
  Heartbeats go on meanwhile, from a task of aiokafka's that no work of ours holds up; records are not handed out.
* A group that is new and starts at ``latest`` has this position committed before :meth:`KafkaReader.open` returns:
  otherwise a crash before its first commit would move it to a later end. From then on a partition without a position
  (one that was added) is read from its beginning, as its events are new to everybody.
* Pausing is done here: aiokafka throws away what it has fetched of a paused partition, and our readers pause often.
* Commits gather and go out twice a second in the background. When the group has moved on they are dropped: those
  events come again elsewhere.
* Away is told from empty: aiokafka retries in silence, so an idle reader asks for an end offset every ten seconds.
  A consumer whose background task ended, or whose addresses are stale, is replaced; it goes on from its commits.

Bounds: at most ``max_partition_fetch_bytes`` for each partition and ``fetch_max_bytes`` for each broker are held
fetched ahead; a fetch hands out at most ``max_records`` of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors

from gateway.errors import Transient
from gateway.log import OnRevoked, Record, Start
from gateway.log.kafka import binding, faults, topics
from gateway.log.kafka.availability import CONNECTION, Availability, State
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within
from gateway.log.kafka.positions import Positions, pin
from gateway.log.kafka.quiet import QUIET, quieten
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")


@dataclass(frozen=True, slots=True)
class ReaderPolicy:
    """Numbers of a reader.

    Args:
        session_s: without a heartbeat for this long a member counts as dead, and its partitions go to others.
        heartbeat_s: between heartbeats; a rebalance is noticed after at most this.
        settle_s: for ``on_revoked``; less than ``rebalance_s`` by what commits and the join itself need.
        rebalance_s: the group waits this long for a member to join again before it counts as dead.
        join_s: :meth:`KafkaReader.open` waits so long for partitions, then goes on without.
        commit_interval_s: between commits in the background; what a crash repeats.
        request_s: for one commit, offset look-up or seek.
        probe_s: an idle reader makes sure of Kafka after this.
        rebootstrap_s: away for this long while a fresh client gets through: the consumer is replaced.
    """

    session_s: float = 15.0
    heartbeat_s: float = 3.0
    settle_s: float = 25.0
    rebalance_s: float = 45.0
    join_s: float = 50.0
    commit_interval_s: float = 0.5
    request_s: float = 10.0
    probe_s: float = 10.0
    rebootstrap_s: float = 60.0
    close_s: float = 5.0
    fetch_max_bytes: int = 4 * 1024 * 1024
    max_partition_fetch_bytes: int = 1024 * 1024


class KafkaReader:
    """See :class:`gateway.log.LogReader`. Made by :meth:`gateway.log.kafka.KafkaLog.reader`.

    Args:
        ensure: creates the topics where they are missing and that is allowed.
        leave: ends a consumer that need not be waited for, in the background of the log.
    """

    def __init__(
        self,
        options: KafkaOptions,
        group: str,
        topics: Collection[str],
        *,
        start: Start,
        on_revoked: OnRevoked | None,
        ensure: Callable[[Collection[str]], Awaitable[None]],
        leave: Callable[[KafkaReader, Coroutine[Any, Any, object] | None], None],
        policy: ReaderPolicy | None = None,
    ) -> None:
        self.group = group
        self._options = options
        self._topics = sorted(topics)
        self._start: Start = start
        self._on_revoked = on_revoked
        self._ensure = ensure
        self._leave = leave
        self._policy = policy or ReaderPolicy()
        self._availability = Availability(group)
        self._positions = Positions(options)
        self._paused: set[str] = set()
        self._changed = asyncio.Event()
        self._committing = asyncio.Lock()
        self._consumer: Any = None
        self._committer: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._is_closed = False
        self._rebalances = METRICS.counter("gateway_kafka_rebalances").labels(group)
        self._skipped = METRICS.counter("gateway_kafka_skipped_offsets").labels(group)

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Join the group. Returns with partitions, or without when others take long to give them away.

        Raises:
            KafkaAway: Kafka cannot be reached, refuses, or a topic is missing; call again later.
        """
        quieten()
        try:
            await self._ensure(self._topics)
            if self._start == "latest":
                await pin(self._options, self.group, self._topics, self._policy.request_s)
        except Transient as exc:
            self._availability.problem(CONNECTION, str(exc))
            raise
        await self._join()
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_regularly(), name=f"kafka-commit-{self.group}")

    async def _join(self) -> None:
        policy = self._policy
        consumer = AIOKafkaConsumer(
            **self._options.client(),
            group_id=self._options.kafka_name(self.group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(policy.session_s * 1000),
            heartbeat_interval_ms=int(policy.heartbeat_s * 1000),
            rebalance_timeout_ms=int(policy.rebalance_s * 1000),
            # A subscriber that is down for days keeps its partitions: its reader lives, it only does not read.
            max_poll_interval_ms=2**31 - 1,
            fetch_max_bytes=policy.fetch_max_bytes,
            max_partition_fetch_bytes=policy.max_partition_fetch_bytes,
        )
        listener = _Listener(self, consumer)
        try:
            async with asyncio.timeout(OPEN_S):
                await consumer.start()
            consumer.subscribe([self._options.kafka_name(topic) for topic in self._topics], listener=listener)
        except faults.CLIENT_ERRORS as exc:
            await within(policy.close_s, consumer.stop())
            self._availability.problem(CONNECTION, faults.reason(exc))
            raise faults.away(exc, f"group {self.group}") from exc
        except BaseException:
            await within(policy.close_s, consumer.stop())
            raise
        self._consumer = consumer
        self._heard_at = time.monotonic()
        self._availability.solved(CONNECTION)
        with suppress(TimeoutError):
            async with asyncio.timeout(policy.join_s):
                await listener.joined.wait()

    async def close(self) -> None:
        """See :meth:`gateway.log.LogReader.close`. Within ten seconds; at once while Kafka is away."""
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.wait([self._committer])
        consumer, self._consumer = self._consumer, None
        farewell = None
        if consumer is not None:
            farewell = within(self._policy.close_s, consumer.stop())
            if self._availability.state.is_ready:
                with suppress(Transient):
                    await self._commit_now(consumer, self._policy.close_s)
                await farewell
                farewell = None
        self._availability.close()
        self._leave(self, farewell)

    @property
    def state(self) -> State:
        """Whether this group can read, for ``/readyz`` and the console."""
        return self._availability.state

    # -- reading ------------------------------------------------------------------------------------------------

    async def fetch(self, *, max_records: int, wait_s: float) -> Sequence[Record]:
        """See :meth:`gateway.log.LogReader.fetch`."""
        if self._is_closed:
            raise faults.KafkaAway(f"group {self.group}: the reader is closed")
        if self._consumer is None:
            await self._join()
        consumer = self._consumer
        self._changed.clear()
        active = [tp for tp in consumer.assignment() if self._positions.name(tp) not in self._paused]
        if not active:
            # Either all is paused, or others have all partitions: something must change first.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            await self._make_sure(consumer)
            return ()
        found: dict[Any, list[Any]] = {}
        try:
            # aiokafka's own wait has no bound while the group is dealing partitions; then nothing came in time.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s + 1.0):
                    found = await consumer.getmany(*active, timeout_ms=int(wait_s * 1000), max_records=max_records)
        except faults.CLIENT_ERRORS as exc:
            await self._trouble(consumer, exc)
        if found:
            self._heard()
            return self._records(found)
        await self._make_sure(consumer)
        return ()

    def _records(self, found: Mapping[Any, list[Any]]) -> list[Record]:
        records: list[Record] = []
        read = binding.read
        id_of = binding.event_id
        for tp, messages in found.items():
            name, topic = self._positions.name(tp), self._options.own_name(tp.topic)
            skipped = self._positions.read(name, messages[0].offset, messages[-1].offset)
            if skipped:
                self._skipped.inc(skipped)
                _log.warning("kafka.offsets_skipped", group=self.group, partition=name, count=skipped)
            for message in messages:
                value, headers, id_ = read(message.value, message.headers)
                records.append(
                    Record(
                        name,
                        message.offset,
                        message.timestamp / 1000,
                        topic,
                        (message.key or b"").decode(errors="replace"),
                        id_ or id_of(value),
                        value,
                        headers,
                    )
                )
        return records

    def pause(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.pause`. Lasts until :meth:`resume`, over rebalances too."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.resume`."""
        self._paused.difference_update(partitions)
        self._changed.set()

    async def seek(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.seek`. Clamped to what is kept: Kafka would start over at the beginning.

        Raises:
            Transient: the partition is not ours now, or Kafka is away.
        """
        consumer = self._consumer
        tp = self._positions.partition(partition)
        if consumer is None or tp not in consumer.assignment():
            raise faults.KafkaAway(f"group {self.group}: {partition} is not assigned to this process")
        first = (await self._ask(consumer.beginning_offsets([tp])))[tp]
        end = (await self._ask(consumer.end_offsets([tp])))[tp]
        self._seek(consumer, tp, min(max(offset, first), end))

    async def seek_to_time(self, unix_s: float) -> None:
        """See :meth:`gateway.log.LogReader.seek_to_time`; in the partitions of this process.

        Raises:
            Transient: Kafka is away.
        """
        consumer = self._consumer
        assigned = list(consumer.assignment()) if consumer is not None else []
        if not assigned:
            return
        found = await self._ask(consumer.offsets_for_times({tp: max(0, int(unix_s * 1000)) for tp in assigned}))
        ends = await self._ask(consumer.end_offsets(assigned))
        for tp in assigned:
            self._seek(consumer, tp, found[tp].offset if found.get(tp) is not None else ends[tp])

    def _seek(self, consumer: Any, tp: Any, offset: int) -> None:
        with suppress(errors.IllegalStateError):  # taken away while we asked; its next owner reads from its commit
            consumer.seek(tp, offset)
            self._positions.seek(self._positions.name(tp), offset)

    async def lag(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.lag`; of the partitions of this process.

        Raises:
            Transient: Kafka is away.
        """
        consumer = self._consumer
        assigned = list(consumer.assignment()) if consumer is not None else []
        if not assigned:
            return {}
        ends = await self._ask(consumer.end_offsets(assigned))
        unknown = [tp for tp in assigned if self._positions.committed(self._positions.name(tp)) is None]
        if unknown:
            firsts = await self._ask(consumer.beginning_offsets(unknown))
            stored = await self._ask(_all(consumer.committed(tp) for tp in unknown))
            for tp, offset in zip(unknown, stored, strict=True):
                self._positions.found(self._positions.name(tp), offset if offset is not None else firsts[tp])
        names = {tp: self._positions.name(tp) for tp in assigned}
        return {name: max(0, ends[tp] - (self._positions.committed(name) or 0)) for tp, name in names.items()}

    # -- committing ---------------------------------------------------------------------------------------------

    def commit(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.commit`."""
        self._positions.commit(partition, offset)

    async def flush(self) -> None:
        """See :meth:`gateway.log.LogReader.flush`.

        Raises:
            Transient: Kafka did not confirm in time; the commits are tried again in the background.
        """
        if self._consumer is not None:
            await self._commit_now(self._consumer, self._policy.request_s)

    async def _commit_regularly(self) -> None:
        while True:
            await self._positions.wait_dirty()
            await asyncio.sleep(self._policy.commit_interval_s)
            if self._consumer is not None:
                with suppress(Transient):
                    await self._commit_now(self._consumer, self._policy.request_s)

    async def _commit_now(self, consumer: Any, seconds: float) -> None:
        async with self._committing:
            assigned = consumer.assignment()
            due = {tp: offset for tp, offset in self._positions.dirty().items() if tp in assigned}
            if not due:
                self._positions.drop(assigned)
                return
            try:
                async with asyncio.timeout(seconds):
                    await consumer.commit(due)
            except (errors.CommitFailedError, errors.IllegalStateError) as exc:
                _log.info("kafka.commit_dropped", group=self.group, reason=faults.reason(exc))
            except faults.CLIENT_ERRORS as exc:
                self._availability.problem(CONNECTION, f"commit: {faults.reason(exc)}")
                raise faults.away(exc, f"group {self.group}: commit") from exc
            else:
                self._positions.committed_up_to(due)
                self._heard()

    # -- rebalances ---------------------------------------------------------------------------------------------

    async def revoked(self, consumer: Any, partitions: Collection[Any]) -> None:
        """Called by aiokafka before partitions go. Settle them, then commit; bounded."""
        names = sorted(self._positions.name(tp) for tp in partitions)
        if not names:
            return
        self._rebalances.inc()
        if self._on_revoked is not None and not await within(self._policy.settle_s, self._settle(names)):
            _log.warning("kafka.settle_cut_short", group=self.group, partitions=names)
        with suppress(Transient):
            await self._commit_now(consumer, self._policy.request_s)

    async def _settle(self, names: Collection[str]) -> None:
        assert self._on_revoked is not None
        try:
            await self._on_revoked(names)
        except Exception as exc:  # the owner's trouble must not keep the group from going on
            _log.exception("kafka.settle_failed", group=self.group, error=repr(exc))

    async def assigned(self, consumer: Any, partitions: Collection[Any]) -> None:
        """Called by aiokafka when partitions have come. What could not be committed before still counts."""
        for tp, offset in self._positions.assigned(partitions).items():
            with suppress(*faults.CLIENT_ERRORS):
                async with asyncio.timeout(self._policy.request_s / 2):
                    stored = await consumer.committed(tp)
                if stored is None or stored < offset:
                    consumer.seek(tp, offset)
        self._changed.set()

    # -- trouble ------------------------------------------------------------------------------------------------

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        if not self._availability.state.is_ready:
            self._availability.solved(CONNECTION)

    async def _make_sure(self, consumer: Any) -> None:
        """Nothing came. Is there nothing, or is Kafka away?

        Raises:
            Transient: away.
        """
        silent_s = time.monotonic() - self._heard_at
        if silent_s < self._policy.probe_s and self._availability.state.is_ready:
            return
        first = self._positions.any_of(self._options.kafka_name(self._topics[0]))
        try:
            async with asyncio.timeout(self._policy.request_s / 2):
                await consumer.end_offsets([first])
        except faults.CLIENT_ERRORS as exc:
            said = QUIET.last_warning or faults.reason(exc)
            self._availability.problem(CONNECTION, said)
            if silent_s > self._policy.rebootstrap_s and await topics.is_reachable(self._options):
                await self._replace(consumer)
            raise faults.KafkaAway(f"group {self.group}: {said}") from exc
        self._heard()

    async def _trouble(self, consumer: Any, exc: BaseException) -> None:
        """aiokafka gave an error of its background tasks to us. Those of rights pass; after others it does not recover.

        Raises:
            Transient: always.
        """
        self._availability.problem(CONNECTION, faults.reason(exc))
        if not isinstance(exc, errors.TopicAuthorizationFailedError | errors.GroupAuthorizationFailedError):
            await self._replace(consumer)
        raise faults.away(exc, f"group {self.group}") from exc

    async def _replace(self, consumer: Any) -> None:
        """Give this consumer up; the next fetch joins with a new one."""
        if self._consumer is not consumer:
            return
        self._consumer = None
        # In a task of its own: the owner may wait, inside, for what its reading task does.
        settling = asyncio.create_task(self.revoked(consumer, consumer.assignment()), name=f"kafka-{self.group}")
        await asyncio.wait([settling], timeout=self._policy.settle_s + self._policy.request_s)
        await within(self._policy.close_s, consumer.stop())

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._policy.request_s):
                return await question
        except faults.CLIENT_ERRORS as exc:
            raise faults.away(exc, f"group {self.group}") from exc


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Passes aiokafka's callbacks on, with the consumer they are of."""

    def __init__(self, reader: KafkaReader, consumer: Any) -> None:
        self._reader = reader
        self._consumer = consumer
        self.joined = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._reader.revoked(self._consumer, revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._reader.assigned(self._consumer, assigned)
        self.joined.set()


async def _all(questions: Any) -> list[Any]:
    return list(await asyncio.gather(*questions))
