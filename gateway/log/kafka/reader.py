"""A reading position of a consumer group, as a :class:`gateway.log.LogReader`.

* A group that is new has its position committed before :meth:`KafkaReader.open` returns: otherwise a crash before its
  first commit would move it to a later end. From then on a partition without a position (one that was added) is read
  from its beginning, as its events are new to everybody. See :mod:`gateway.log.kafka.placement`.
* Pausing is done here: aiokafka throws away what it has fetched of a paused partition, and our readers pause often.

Bounds: at most ``max_partition_fetch_bytes`` for each partition and ``fetch_max_bytes`` for each broker are held
fetched ahead; a fetch hands out at most ``max_records`` of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import errors

from gateway.errors import Transient
from gateway.log import Batch, Begins, Gap, OnRevoked, Record, Start, gaps
from gateway.log.kafka import binding, foreign
from gateway.log.kafka.availability import CONNECTION, Availability, State, both
from gateway.log.kafka.errors import CLIENT_ERRORS, KafkaAway, problem_of
from gateway.log.kafka.incarnation import TopicIds
from gateway.log.kafka.log_rate_limit import limit_logs
from gateway.log.kafka.member import Background, Member
from gateway.log.kafka.missing import MissingTopics
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.placement import Placement
from gateway.log.kafka.positions import Positions
from gateway.log.kafka.reader_policy import ReaderPolicy
from gateway.log.kafka.topics import OWN_STATE
from gateway.log.kafka.unreadable import PartitionFetcher


class KafkaReader:
    """See :class:`gateway.log.LogReader`. Made by :meth:`gateway.log.kafka.KafkaLog.reader` and ``browse``.

    Args:
        ids: shared by the readers of a log.
        ensure: creates the topics that are missing and ours; returns the other missing ones, with a hint for each.
        background: for what outlives a call that is cancelled; the log awaits it when it stops.
        on_closed: told once, when the reader is closed.
    """

    def __init__(
        self,
        options: KafkaOptions,
        group: str,
        topics: Collection[str],
        *,
        start: Start | Begins,
        ids: TopicIds,
        on_revoked: OnRevoked | None = None,
        ensure: Callable[[Collection[str]], Awaitable[Mapping[str, str]]],
        background: Background,
        on_closed: Callable[[KafkaReader], None],
        policy: ReaderPolicy,
    ) -> None:
        self.group = group
        self._options = options
        self._topics = sorted(topics)
        self._start: Start | Begins = start
        self._ensure = ensure
        self._background = background
        self._on_closed = on_closed
        self._policy = policy
        self._availability = Availability(group)
        self._positions = Positions(options)
        self._paused: set[str] = set()
        self._changed = asyncio.Event()
        self._missing = MissingTopics(group, options)
        self._member = Member(
            options,
            group,
            [options.kafka_name(topic) for topic in topics],
            self._policy,
            positions=self._positions,
            placement=Placement(options, group, self._positions, ids),
            availability=self._availability,
            on_revoked=on_revoked,
            changed=self._changed,
            background=background,
            missing=self._missing,
        )
        self._committer: asyncio.Task[None] | None = None
        self._is_closed = False
        self._fetcher = PartitionFetcher(group)
        self._not_events = foreign.NotEvents(group)

    @property
    def has_topics(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._topics)

    # -- life ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to read. One of a group returns with partitions, or without when others take long to give them away.

        Raises:
            KafkaAway: Kafka cannot be reached, refuses, or a topic is missing; call again later.
        """
        limit_logs()
        try:
            try:
                self._missing.found(await self._ensure(self._topics))
            except KafkaAway as exc:
                raise KafkaAway(f"{self._member.called}: {exc}", exc.problem) from exc
            await self._member.begin(self._start)
        except Transient as exc:
            self._availability.problem(CONNECTION, problem_of(exc))
            raise
        await self._member.ready()
        with suppress(Transient):
            await self.flush()  # where it begins, should it be new: a crash must not move that
        if self._committer is None:
            self._committer = asyncio.create_task(self._member.commit_regularly(), name=f"kafka-commit-{self.group}")

    async def close(self) -> None:
        """See :meth:`gateway.log.LogReader.close`. Within ten seconds; at once while Kafka is away.

        Cancelled, it goes on in the background: a member that is half closed would hold up its group.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        await asyncio.shield(self._background(self._close()))

    async def _close(self) -> None:
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.wait([self._committer])
        await self._member.close()
        self._availability.close()
        self._fetcher.close()
        self._missing.close()
        self._on_closed(self)

    @property
    def state(self) -> State:
        """Whether this group can read, and all of it, for ``/readyz`` and the console."""
        state = self._availability.state
        for part in (self._missing, self._fetcher):
            if part.problems:
                state = both(state, State(False, dict(part.problems), part.since))
        return state

    # -- reading ------------------------------------------------------------------------------------------------

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """See :meth:`gateway.log.LogReader.fetch`."""
        if self._is_closed:
            raise KafkaAway(f"{self._member.called}: the reader is closed")
        consumer = await self._member.ready()
        self._missing.look(consumer)
        self._changed.clear()
        is_placed = self._member.placement.is_placed
        active = [tp for tp in consumer.assignment() if is_placed(tp) and self._positions.name(tp) not in self._paused]
        if not active:
            # Either all is paused, or others have all partitions: something must change first.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            await self._member.make_sure(consumer)
            return Batch()
        found: dict[Any, list[Any]] = {}
        try:
            # aiokafka's own wait has no bound while the group is dealing partitions; then nothing came in time.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s + 1.0):
                    found = await self._fetcher.take(consumer, active, max_records=max_records, wait_s=wait_s)
        except errors.OffsetOutOfRangeError as exc:
            self._member.placement.out_of_range(exc.args[0])
            return Batch()
        except CLIENT_ERRORS as exc:
            await self._member.trouble(consumer, exc)
        if found:
            self._member.heard()
            return Batch(self._records(found))
        await self._member.make_sure(consumer)
        await self._pass(consumer, active)
        return Batch()

    async def _pass(self, consumer: Any, active: Collection[Any]) -> None:
        """Commit past what aiokafka leaves out (markers and aborted records of transactions), as lag counts it."""
        with suppress(TimeoutError, *CLIENT_ERRORS):
            async with asyncio.timeout(1.0):
                for tp in active:
                    self._positions.passed(self._positions.name(tp), await consumer.position(tp))

    def _records(self, found: Mapping[Any, list[Any]]) -> list[Record]:
        records: list[Record] = []
        read = binding.read
        for tp, messages in found.items():
            name, topic = self._positions.name(tp), self._options.own_name(tp.topic)
            holds_events = not topic.startswith(OWN_STATE)
            self._positions.read(name, messages[-1].offset)
            for message in messages:
                value, headers, id_, flaw = read(message.value, message.headers, holds_events=holds_events)
                record = Record(
                    name,
                    message.offset,
                    message.timestamp / 1000,
                    topic,
                    (message.key or b"").decode(errors="replace"),
                    id_,
                    value,
                    headers,
                )
                records.append(self._not_events.flawed(record, flaw) if flaw else record)
        return records

    # -- where to read ------------------------------------------------------------------------------------------

    def pause(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.pause`. Lasts until :meth:`resume`, over rebalances too."""
        self._paused.update(partitions)

    def resume(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.LogReader.resume`."""
        self._paused.difference_update(partitions)
        self._changed.set()

    async def seek(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.seek`. Clamped to what is kept; what is gone is named.

        Raises:
            Transient: the partition is not ours now, or Kafka is away.
        """
        consumer = self._member.consumer
        tp = self._positions.partition(partition)
        if consumer is None or tp not in consumer.assignment():
            raise KafkaAway(f"{self._member.called}: {partition} is not assigned to this process")
        first = (await self._member.ask(consumer.beginning_offsets([tp])))[tp]
        end = (await self._member.ask(consumer.end_offsets([tp])))[tp]
        if offset < first:  # a stream's client that comes back late
            gaps.report("kafka", [self.group], Gap(partition, offset, first - 1, "expired"))
        self._seek(consumer, tp, min(max(offset, first), end))

    async def seek_to_time(self, unix_s: float) -> None:
        """See :meth:`gateway.log.LogReader.seek_to_time`; in the partitions of this process.

        Raises:
            Transient: Kafka is away.
        """
        consumer = self._member.consumer
        assigned = list(consumer.assignment()) if consumer is not None else []
        if not assigned:
            return
        # The ends first: what is appended between the two questions is then behind the end, and is read.
        ends = await self._member.ask(consumer.end_offsets(assigned))
        found = await self._member.ask(consumer.offsets_for_times({tp: max(0, int(unix_s * 1000)) for tp in assigned}))
        for tp in assigned:
            self._seek(consumer, tp, found[tp].offset if found.get(tp) is not None else ends[tp])

    def _seek(self, consumer: Any, tp: Any, offset: int) -> None:
        with suppress(errors.IllegalStateError):  # taken away while we asked; its next owner reads from its commit
            consumer.seek(tp, offset)
            self._member.placement.moved(tp)
            self._positions.seek(self._positions.name(tp), offset)

    async def lag(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.lag`; of the partitions of this process.

        Raises:
            Transient: Kafka is away.
        """
        consumer = self._member.consumer
        if consumer is None:
            raise KafkaAway(f"{self._member.called}: not connected, so its lag is not known")
        assigned = list(consumer.assignment())
        if not assigned:
            return {}
        ends = await self._member.ask(consumer.end_offsets(assigned))
        unknown = [tp for tp in assigned if self._positions.committed(self._positions.name(tp)) is None]
        if unknown:
            firsts = await self._member.ask(consumer.beginning_offsets(unknown))
            stored = await self._member.ask(_all(consumer.committed(tp) for tp in unknown))
            for tp, offset in zip(unknown, stored, strict=True):
                self._positions.found(self._positions.name(tp), offset if offset is not None else firsts[tp])
        names = {tp: self._positions.name(tp) for tp in assigned}
        return {name: max(0, ends[tp] - (self._positions.committed(name) or 0)) for tp, name in names.items()}

    async def ends(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.ends`; of the partitions of this process."""
        consumer = await self._member.ready()
        ends = await self._member.ask(consumer.end_offsets(list(consumer.assignment())))
        return {self._positions.name(tp): offset for tp, offset in ends.items()}

    async def positions(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.positions`; of the partitions of this process."""
        consumer = await self._member.ready()
        assigned = list(consumer.assignment())
        places = await self._member.ask(_all(consumer.position(tp) for tp in assigned))
        return {self._positions.name(tp): offset for tp, offset in zip(assigned, places, strict=True)}

    def incarnations(self) -> Mapping[str, str]:
        """See :meth:`gateway.log.LogReader.incarnations`."""
        return self._member.placement.incarnations()

    def commit(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.commit`."""
        self._positions.commit(partition, offset)

    async def flush(self) -> None:
        """See :meth:`gateway.log.LogReader.flush`.

        Raises:
            Transient: Kafka did not confirm in time; the commits are tried again in the background.
        """
        if self._member.consumer is not None:
            await self._member.commit(self._member.consumer, self._policy.request_s)


async def _all(questions: Any) -> list[Any]:
    return list(await asyncio.gather(*questions))
