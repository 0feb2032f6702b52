"""Kafka as an :class:`gateway.log.EventLog`: topics, consumer groups, an in-order writer."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from aiokafka import TopicPartition

from gateway.config.settings import FAMILIES
from gateway.errors import Poison
from gateway.log import ALL_NEW, Appended, Entry, LogKind, OnAssigned, OnRevoked, Record, Start
from gateway.log.kafka import topics
from gateway.log.kafka.backlog import Ticket
from gateway.log.kafka.errors import KafkaAway, KafkaNotNow, first_word
from gateway.log.kafka.group_consumer import GroupReader
from gateway.log.kafka.health import CONNECTION, Availability, State, both
from gateway.log.kafka.offsets import Committed, OffsetClient
from gateway.log.kafka.options import KafkaOptions, ReaderPolicy, WriterPolicy
from gateway.log.kafka.placement import CursorPlacement, SharedAnswers
from gateway.log.kafka.positions import CursorPolicy, KafkaCursors
from gateway.log.kafka.standalone_consumer import StandaloneReader
from gateway.log.kafka.topics import TopicIds, is_another
from gateway.log.kafka.writer import KafkaWriter

#: For one :meth:`KafkaLog.append`. A moved leader needs some seconds, and a caller that waits longer holds an event.
APPEND_S: Final = 20.0

_log = structlog.get_logger("gateway.kafka")

#: Requests for positions in flight: commits use the same connections. With a third, 300 groups take twice as long.
_AT_ONCE: Final = 10

Reader = TypeVar("Reader", GroupReader, StandaloneReader)


@dataclass(frozen=True, slots=True)
class _Facts:
    """Answers of Kafka about partitions and the positions of groups."""

    ids: Mapping[str, str]
    beginnings: Mapping[Any, int]
    ends: Mapping[Any, int]
    kept: Mapping[str, Mapping[Any, Committed]]

    def records(self, tp: Any) -> int:
        """Return how many records a partition has."""
        return self.ends[tp] - self.beginnings.get(tp, 0)

    def left(self, group: str, tp: Any) -> int | None:
        """Return the records between a group's position and the end of a partition; None without a position."""
        kept = self.kept[group].get(tp)
        if kept is None or tp not in self.ends:
            return None
        if is_another(kept.incarnation or "", self.ids.get(tp.topic, "")):
            return self.records(tp)  # all are unread: the position is one of the topic's predecessor
        return max(0, self.ends[tp] - kept.offset)


@dataclass(slots=True, eq=False)
class _Append:
    """The ticket of one append."""

    remaining: int
    future: asyncio.Future[None]
    is_cancelled: bool = False
    refused: str = ""

    def done(self, count: int) -> None:
        self.remaining -= count
        if self.remaining == 0 and not self.future.done():
            if self.refused:
                self.future.set_exception(Poison(self.refused))
            else:
                self.future.set_result(None)


class KafkaLog:
    """The log of Kafka mode. Coroutines raise ``KafkaAway`` while Kafka cannot be reached, or refuses: call them again.

    Args:
        options: brokers, names, format.
        name: label of the writer in metrics and logs.
        creates: topics of events that are created if they are read and missing, as the gateway's own topics are; the
            reader waits for others. None: reading creates no topic, for observers.
        at_start: topics that are created with the first ones, in the same request, because they will be needed.
    """

    kind: LogKind = "kafka"

    def __init__(
        self,
        options: KafkaOptions,
        *,
        name: str = "writer",
        creates: Collection[str] | None = FAMILIES,
        at_start: Collection[str] = (),
        reader_policy: ReaderPolicy | None = None,
        cursor_policy: CursorPolicy | None = None,
        clock: Callable[[], float] = time.time,
        writer_policy: WriterPolicy | None = None,
        append_s: float = APPEND_S,
    ) -> None:
        self.options = options
        self._reader_policy = reader_policy
        self._append_s = append_s
        self._writer = KafkaWriter(options, writer_policy, name=name, on_poison=self._refuse)
        self._creates = creates
        self._at_start = frozenset(at_start)
        self._availability = Availability("topics", is_connected=True)
        self._known: set[str] = set()
        self._ensuring = asyncio.Lock()
        self._ids = TopicIds()
        self._offsets = OffsetClient(options)
        self._answers = SharedAnswers(options, self._offsets, self._ids)
        placement = CursorPlacement(options, self._offsets, self._answers, self._ids.truncated)
        self.cursors = KafkaCursors(options, self._offsets, placement, policy=cursor_policy, clock=clock)
        self._readers: set[GroupReader | StandaloneReader] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        #: Distinguishes this process's group members from those of other processes.
        self.process = uuid.uuid4().hex

    async def start(self) -> None:
        """Start connecting in the background: Kafka may be unavailable. A second call does nothing."""
        await self._writer.start()

    async def stop(self) -> None:
        """Close open readers, then the writer. May be called twice, or before :meth:`start`."""
        self._is_stopped = True
        await self.cursors.settle()
        await asyncio.gather(*(reader.close() for reader in list(self._readers)))
        while self._leaving:  # one task may start another
            await asyncio.wait(self._leaving)
        await self.cursors.close()
        await self._offsets.close()
        await self._writer.stop()
        self._availability.close()

    @property
    def states(self) -> dict[str, State]:
        """Return the states of the writer (``""``), of the readers, and of topics that cannot be created.

        They are by group or name; several readers of one name are ready if all are.
        """
        states = {"": self._writer.state}
        if not self._availability.state.is_ready:
            states["topics"] = self._availability.state
        for reader in self._readers:
            known = states.get(reader.group)
            states[reader.group] = reader.state if known is None else both(known, reader.state)
        if self.cursors.state is not None:
            states["cursors"] = self.cursors.state
        return states

    @property
    def problem(self) -> str:
        """Return the most important problem of clients that cannot read or write now, or that a quota delays.

        It includes the number of these clients; empty without problems.
        """
        states = self.states
        words = [state.word for state in states.values() if state.word]
        ill = [f"{name or 'writer'}: {state.reason}" for name, state in states.items() if state.word]
        return f"{ill[words.index(first_word(words))]} ({len(ill)} of {len(states)})" if ill else ""

    async def append(self, entries: Sequence[Entry]) -> Appended:
        """Store entries, each durable on all in-sync replicas when this returns.

        Kafka stores batches by partition, so an append that fails may have stored some entries, and a repeat stores
        them twice: at least once, not all or none. Consecutive appends keep their order for each key.

        Raises:
            KafkaNotNow: not confirmed within 20 seconds; try again later.
            Poison: an entry is larger than the broker accepts.
        """
        if not entries:
            return ALL_NEW
        if self._is_stopped:
            raise KafkaNotNow("Kafka: the gateway is stopping")
        ticket = _Append(len(entries), asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(self._append_s):
                await self.ensure({entry.topic for entry in entries})
                await self._writer.backlog.wait_for_room({entry.topic for entry in entries})
                self._writer.submit(entries, ticket)
                await ticket.future
        except (TimeoutError, KafkaAway) as exc:
            is_logged = isinstance(exc, KafkaAway) or not self._writer.state.is_ready
            reason = self._writer.state.reason or str(exc) or "no answer"
            raise KafkaNotNow(
                f"Kafka did not confirm in {self._append_s:.0f} s: {reason}", is_logged=is_logged
            ) from exc
        finally:
            ticket.is_cancelled = True
        return ALL_NEW

    async def join(
        self, group: str, topics: Collection[str], *, on_assigned: OnAssigned, on_revoked: OnRevoked
    ) -> GroupReader:
        """See :meth:`gateway.log.EventLog.join`. One at a time for each group in a process."""
        return await self._opened(
            GroupReader(
                self.options,
                group,
                topics,
                on_assigned=on_assigned,
                on_revoked=on_revoked,
                process=self.process,
                offsets=self._offsets,
                **self._parts(),
            )
        )

    async def browse(
        self,
        name: str,
        topics: Collection[str],
        *,
        start: Start = "latest",
        positions: Mapping[str, int] | None = None,
    ) -> StandaloneReader:
        """See :meth:`gateway.log.EventLog.browse`. It is in no group: Kafka stores nothing for it."""
        return await self._opened(
            StandaloneReader(self.options, name, topics, start=start, positions=positions, **self._parts())
        )

    async def lags(self, groups: Mapping[str, Collection[str]]) -> dict[str, int | None]:
        """Return the records between each group's positions and the ends of its topics, whichever process reads them.

        The ends of all partitions need one request, the positions one for each group: aiokafka does not have the
        request for several groups (KIP-709, Kafka 3.0).

        None if it is not known: none of its topics exists, or it has no position in one of their partitions.

        Args:
            groups: topics by group, with names as in the configuration.
        """
        names = {group: set(map(self.options.kafka_name, own_names)) for group, own_names in groups.items()}
        partitions = await self._offsets.partitions(set[str]().union(*names.values()))
        there = [TopicPartition(topic, number) for topic, numbers in partitions.items() for number in numbers]
        facts = await self._facts(there, groups)
        found: dict[str, int | None] = {}
        for group in groups:
            left = [facts.left(group, tp) for tp in there if tp.topic in names[group]]
            known = [one for one in left if one is not None]
            found[group] = sum(known) if left and len(known) == len(left) else None
        return found

    async def unfinished(self, group_of: Callable[[str], str | None]) -> dict[str, int]:
        """See :meth:`gateway.log.EventLog.unfinished`. Without a position, a group has passed nothing."""
        groups, there = {}, []
        for info in await topics.describe(self.options):
            if (group := group_of(info.name)) is not None:
                groups[info.kafka_name] = group
                there += [TopicPartition(info.kafka_name, number) for number in range(info.partitions)]
        facts = await self._facts(there, set(groups.values()))
        found = dict.fromkeys(map(self.options.own_name, groups), 0)
        for tp in there:
            left, records = facts.left(groups[tp.topic], tp), facts.records(tp)
            found[self.options.own_name(tp.topic)] += records if left is None else min(left, records)
        return found

    async def _facts(self, partitions: Collection[Any], groups: Collection[str]) -> _Facts:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def ask(group: str) -> dict[Any, Committed]:
            async with at_once:
                return await self._offsets.committed(group)

        ids = await self._answers.incarnations({tp.topic for tp in partitions})
        beginnings, ends = await asyncio.gather(
            self._answers.beginnings(partitions, ids), self._answers.ends(partitions)
        )
        kept = await asyncio.gather(*map(ask, groups))
        return _Facts(ids, beginnings, ends, dict(zip(groups, kept, strict=True)))

    def _parts(self) -> dict[str, Any]:
        """Return the arguments that all readers share."""
        options = self.options
        policy = self._reader_policy or ReaderPolicy(session_s=options.session_s)
        return {
            "ids": self._ids,
            "ensure": self.missing,
            "background": self._background,
            "on_closed": self._readers.discard,
            "policy": policy,
        }

    async def _opened(self, reader: Reader) -> Reader:
        if not reader.has_topics:
            raise ValueError("a reader of Kafka needs the names of its topics")
        self._readers.add(reader)
        try:
            await reader.open()
        except asyncio.CancelledError:
            self._background(reader.close())  # it may take seconds, and a caller that cancels is about to stop
            raise
        except BaseException:
            await reader.close()
            raise
        return reader

    async def ensure(self, names: Collection[str]) -> None:
        """Create missing topics, unless ``kafka.create_topics`` is off; each is requested once."""
        if not self.options.create_topics or self._known.issuperset(names):
            return
        async with self._ensuring:
            missing = set(names) - self._known
            try:
                created = await self._create(missing)
            except KafkaAway as exc:
                self._availability.problem(CONNECTION, exc.problem)
                raise
            self._availability.solved(CONNECTION)
            self._known |= missing
        if created:
            _log.info("kafka.topics_created", topics=created)
            for reader in self._readers:
                reader.expect(created)

    async def _create(self, missing: set[str]) -> list[str]:
        first, self._at_start = self._at_start - missing, frozenset()
        if first:
            # If the right to one of them is missing, the others must not wait: each is created when it is needed.
            with suppress(KafkaAway):
                created = await topics.create(self.options, missing | first)
                self._known |= first
                return created
        return await topics.create(self.options, missing)

    async def missing(self, names: Collection[str]) -> dict[str, str]:
        """Create the missing topics of the gateway; return the other missing topics, each with a hint."""
        if self._creates is not None:
            await self.ensure([name for name in names if self._is_created_by_reading(name)])
        unknown = set(names) - self._known
        absent = await topics.missing(self.options, unknown)
        self._known |= unknown - absent.keys()
        return absent

    def _is_created_by_reading(self, name: str) -> bool:
        if topics.is_own(name):
            return not topics.is_created_by_writing(name)
        return self._creates is not None and name in self._creates

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work to its end even if no caller awaits it; :meth:`stop` awaits it."""
        task = asyncio.create_task(work, name="kafka-leave")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _refuse(self, entry: Entry | Record, ticket: Ticket, reason: str) -> None:
        assert isinstance(ticket, _Append)
        ticket.refused = f"{entry.topic}: {reason}"
