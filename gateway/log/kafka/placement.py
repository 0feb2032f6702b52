"""Where a cursor continues in assigned partitions: its position in Kafka, compared with the present partitions.

There are three causes of a gap. Retention or DeleteRecords removed records that were not read (``expired``). The topic
was deleted and created again, so that offsets of the old topic are invalid in the new one (``deleted``): all records of
the new one are unread. Or the partition ends before the position although it is the same one (``truncated``: a replica
without all records became leader), and records that were appended since then may be below the position. In each case
reading continues at the beginning: records may repeat, and none is skipped silently.

:func:`proceed` and :func:`origin` decide, without I/O; :class:`CursorPlacement` collects the facts. A partition
without a position was added (then it is read from its beginning), or the cursor is new, or Kafka has forgotten it (then
it begins, or begins again, at the time that was fixed for it).

Hundreds of cursors are placed when partitions are assigned, and need the same beginnings and the same times, so answers
of Kafka are shared (:class:`SharedAnswers`). An old one does no harm: a beginning only increases, so reading at an old
one finds the gap; and the offset of a time stays right, because no record is appended before it afterwards. Only after
a topic was deleted and created again an old answer is invalid, so answers are stored by incarnation.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog

from gateway.log import Begin, Begins, Gap, Placed, Start
from gateway.log.kafka.errors import CLIENT_ERRORS, away
from gateway.log.kafka.offsets import BEGINNING, END, Committed, GroupInUse, OffsetClient
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.topics import TopicIds, is_another

_log = structlog.get_logger("gateway.kafka")

_GONE: Final = (
    "Kafka has removed the positions of this group (offsets.retention.minutes, or the group was deleted): it reads "
    "again from the time at which it began, so that events may be delivered again"
)


#: A start of hundreds of cursors takes some seconds. Ten times more would not save requests.
KEEP_S: Final = 10.0


@dataclass(slots=True, eq=False)
class Remembered:
    """The state of a cursor in this process.

    Args:
        done: by loaded partition, the offset below which everything was delivered.
        before: the last known positions in other partitions, to report gaps.
        incarnations: by topic, the incarnation that the positions belong to; kept over assignments.
        is_ours: Kafka has answered that the group has no members.
        dirty: partitions whose position Kafka does not have yet.
        renew_at: time at which all positions are committed again.
        is_forgotten: this process drops it once its positions are stored.
    """

    done: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    incarnations: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False
    dirty: set[str] = field(default_factory=set)
    renew_at: float = 0.0
    is_forgotten: bool = False
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)


class CursorPlace(NamedTuple):
    """Where a cursor continues in one partition.

    Args:
        incarnation: incarnation of the topic.
        is_new: Kafka has no position here, so this one is a beginning.
    """

    placed: Placed
    incarnation: str
    is_new: bool


class CursorPlacement:
    """Places the cursors of one log; raises ``KafkaAway`` if Kafka does not answer.

    Args:
        truncated: partitions that a broker refused to read beyond their end. Only the ends of these are trusted: a new
            leader may for a moment know an older end than its readers.
    """

    def __init__(
        self, options: KafkaOptions, offsets: OffsetClient, answers: SharedAnswers, truncated: Collection[Any]
    ) -> None:
        self._options = options
        self._offsets = offsets
        self._answers = answers
        self._truncated = truncated

    async def place(
        self, cursor: str, known: Remembered, partitions: Collection[str], start: Start | Begins
    ) -> dict[str, CursorPlace]:
        """Return where a cursor continues; partitions of topics that do not exist now are left out.

        Raises:
            GroupInUse: the group has members.
            KafkaAway: Kafka does not answer now.
        """
        by_topic: defaultdict[str, list[Any]] = defaultdict(list)
        for name in partitions:
            tp = self._options.partition(name)
            by_topic[tp.topic].append(tp)
        kept = await self._offsets.committed(cursor)
        # If Kafka has no position yet, the first commit, which follows, is refused if the group has members.
        if kept and not known.is_ours and await self._offsets.members(cursor):
            raise GroupInUse(self._options.kafka_name(cursor))
        ids = await self._answers.incarnations(by_topic.keys())
        there = [tp for topic in ids for tp in by_topic[topic]]
        beginnings = await self._answers.beginnings(there, ids)
        short = [tp for tp in there if tp in self._truncated]
        ends = await self._answers.ends(short) if short else {}
        found: dict[str, CursorPlace] = {}
        for topic in ids:
            tps = [tp for tp in by_topic[topic] if tp in beginnings]
            stored = {tp: one for tp, one in kept.items() if tp.topic == topic}
            own_name = self._options.own_name(topic)
            of_topic = _OfTopic(cursor, own_name, ids[topic], known, stored, beginnings, ends)
            found |= of_topic.known_places(tps)
            if new := [tp for tp in tps if of_topic.name(tp) not in found]:
                found |= await of_topic.new_places(self._answers, new, start)
        begun = {name: place.placed.offset for name, place in found.items() if place.is_new}
        if begun:
            topics = sorted({name.rpartition("-")[0] for name in begun})
            _log.info("kafka.cursor_begins", group=cursor, topics=topics, partitions=len(begun))
        return found


@dataclass(frozen=True, slots=True)
class _OfTopic:
    """The facts about one topic.

    Args:
        now: its incarnation.
        kept: the positions of the cursor that Kafka has, in all partitions of the topic.
        ends: ends of the partitions that were refused.
    """

    cursor: str
    topic: str
    now: str
    known: Remembered
    kept: Mapping[Any, Committed]
    beginnings: Mapping[Any, int]
    ends: Mapping[Any, int]

    def name(self, tp: Any) -> str:
        return f"{self.topic}-{tp.partition}"

    def known_places(self, tps: Collection[Any]) -> dict[str, CursorPlace]:
        """Return the places of the partitions in which the cursor has a position."""
        found = {}
        for tp in tps:
            if (known := self._position(tp)) is None:
                continue
            position, was = known
            is_beyond = tp in self.ends and position > self.ends[tp]
            offset, gap = proceed(
                self.name(tp),
                position,
                beginning=self.beginnings[tp],
                was=was,
                now=self.now,
                is_out_of_range=is_beyond,
            )
            found[self.name(tp)] = self._place(tp, offset, gap)
        return found

    async def new_places(self, answers: SharedAnswers, tps: list[Any], start: Start | Begins) -> dict[str, CursorPlace]:
        """Return the places of partitions without a position."""
        begin = Begin(0.0) if isinstance(start, str) else start.get(self.topic, Begin(0.0))
        was = self.known.incarnations.get(self.topic) or begin.incarnation
        begins = origin(self.kept.values(), was=was, now=self.now)
        if begins.is_recreated:
            lost = {tp: Gap(self.name(tp), self.known.before.get(self.name(tp)), None, "deleted") for tp in tps}
            return {self.name(tp): self._place(tp, self.beginnings[tp], gap) for tp, gap in lost.items()}
        if start == "latest" and not self.kept:
            starts = await answers.ends(tps)
        elif begins.is_at_start or not begin.since:
            starts = dict(self.beginnings)
        else:
            starts = await answers.since(tps, {tps[0].topic: self.now}, begin.since)
            if begins.is_gone:
                _log.warning(
                    "kafka.positions_gone",
                    group=self.cursor,
                    topic=self.topic,
                    since=begin.since,
                    positions={self.name(tp): starts[tp] for tp in tps if tp in starts},
                    advice=_GONE,
                )
        return {self.name(tp): self._place(tp, starts[tp], None) for tp in tps if tp in starts}

    def _position(self, tp: Any) -> tuple[int, str] | None:
        """Return the position of the cursor, and the incarnation of the topic that it belongs to."""
        own, kept = self.known.done.get(self.name(tp)), self.kept.get(tp)
        was = self.known.incarnations.get(self.topic, "")
        if kept is not None and (own is None or is_another(was, kept.incarnation or "") or kept.offset > own):
            return kept.offset, kept.incarnation or ""
        return None if own is None else (own, was)

    def _place(self, tp: Any, offset: int, gap: Gap | None) -> CursorPlace:
        return CursorPlace(Placed(offset, gap), self.now, tp not in self.kept)


def proceed(
    partition: str,
    position: int,
    *,
    beginning: int,
    was: str = "",
    now: str = "",
    is_out_of_range: bool = False,
) -> tuple[int, Gap | None]:
    """Return the offset at which to read, and the gap before it.

    Args:
        partition: its name.
        position: the next offset of the group.
        beginning: the first offset of the partition now.
        was: the topic's incarnation when the position was stored; empty if not known.
        now: the present incarnation.
        is_out_of_range: the broker refused to read at the position.
    """
    if is_another(was, now):
        return beginning, Gap(partition, position, None, "deleted")
    if position < beginning:
        return beginning, Gap(partition, position, beginning - 1, "expired")
    if is_out_of_range:
        return beginning, Gap(partition, position, None, "truncated" if was and was == now else "deleted")
    return position, None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a group begins in those partitions of a topic in which Kafka has no position of it.

    Args:
        is_recreated: the group read an earlier topic of this name.
        is_gone: the group read this topic, and Kafka has forgotten its positions.
        is_at_start: at the first record; otherwise at the time at which the group began.
    """

    is_recreated: bool = False
    is_gone: bool = False
    is_at_start: bool = False


def origin(others: Collection[Committed | None], *, was: str, now: str) -> Origin:
    """Return where partitions without a position begin.

    A topic's deletion deletes the positions of all groups in it, so an incarnation that the group has stored elsewhere
    (``was``) is often the only sign. A partition that was added to a topic is read from its first record; if the
    gateway committed the other positions, the time of beginning leads to the same record, and it is also right while
    several processes of a new group commit their first positions one after another.

    Args:
        others: the group's positions in all partitions of the topic.
        was: the incarnation that the group has stored; empty if none.
        now: the present incarnation.
    """
    known = [one for one in others if one is not None]
    if is_another(was, now) or any(is_another(one.incarnation or "", now) for one in known):
        return Origin(is_recreated=True, is_at_start=True)
    if any(one.incarnation is None for one in known):
        return Origin(is_at_start=True)
    return Origin(is_gone=bool(was) and not known)


class SharedAnswers:
    """Shared answers of one log. Each method raises ``KafkaAway`` if there is no answer.

    Args:
        ids: incarnations, shared with the readers of the log.
    """

    def __init__(self, options: KafkaOptions, offsets: OffsetClient, ids: TopicIds) -> None:
        self._options = options
        self._offsets = offsets
        self._ids = ids
        self._kept: dict[tuple[Any, float, str], tuple[int, float]] = {}
        self._asking = asyncio.Lock()

    async def incarnations(self, topics: Collection[str]) -> Mapping[str, str]:
        """Return the incarnation of each topic that exists, at most ``MAX_AGE_S`` old, by its name in Kafka."""
        client = await self._offsets.client()
        try:
            known = await self._ids.recent(client)
            if not all(map(known.__contains__, topics)):
                async with self._asking:
                    known = await self._ids.recent(client)
                    if not all(map(known.__contains__, topics)):
                        known = await self._ids.now(client, topics)
        except CLIENT_ERRORS as exc:
            raise away(exc, "Kafka", client) from exc
        return {topic: known[topic] for topic in topics if topic in known}

    async def beginnings(self, partitions: Collection[Any], ids: Mapping[str, str]) -> dict[Any, int]:
        """Return the first offset of each partition.

        Args:
            partitions: by aiokafka's names.
            ids: incarnations of their topics.
        """

        async def ask(missing: Collection[Any]) -> Mapping[Any, int]:
            return await self._offsets.offsets(dict.fromkeys(missing, BEGINNING))

        return await self._kept_or(ask, partitions, ids, BEGINNING)

    async def since(self, partitions: Collection[Any], ids: Mapping[str, str], unix_s: float) -> dict[Any, int]:
        """Return the offset of the first record appended at or after a time; the end where there is none.

        Args:
            partitions: by aiokafka's names.
            ids: incarnations of their topics.
            unix_s: the time, Unix seconds.
        """

        async def ask(missing: Collection[Any]) -> Mapping[Any, int]:
            # The ends first: records appended between the two requests are then behind the end, and are read.
            ends = await self.ends(missing)
            return ends | await self._offsets.offsets(dict.fromkeys(missing, max(0, int(unix_s * 1000))))

        return await self._kept_or(ask, partitions, ids, unix_s)

    async def ends(self, partitions: Collection[Any]) -> dict[Any, int]:
        """Return the offset that the next record of each partition gets, asked now."""
        return await self._offsets.offsets(dict.fromkeys(partitions, END))

    async def _kept_or(
        self,
        ask: Callable[[Collection[Any]], Awaitable[Mapping[Any, int]]],
        partitions: Collection[Any],
        ids: Mapping[str, str],
        at: float,
    ) -> dict[Any, int]:
        keys = {tp: (tp, at, ids.get(tp.topic, "")) for tp in partitions}
        async with self._asking:
            now = time.monotonic()
            self._kept = {key: kept for key, kept in self._kept.items() if now - kept[1] < KEEP_S}
            if missing := [tp for tp, key in keys.items() if key not in self._kept]:
                self._kept |= {keys[tp]: (offset, now) for tp, offset in (await ask(missing)).items()}
            return {tp: self._kept[key][0] for tp, key in keys.items() if key in self._kept}
