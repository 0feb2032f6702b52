"""Puts the partitions that came to a consumer where they are read from, see :mod:`gateway.log.kafka.gaps`.

aiokafka would do it in silence (``auto_offset_reset``), also when the position is gone. So its consumers have
no reset, and nothing is handed out of a partition before it was placed here. It happens in the task that reads: what
cannot be asked now is asked again with the next fetch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka import TopicPartition, errors

from gateway.log import Begin, Begins, Gap, Start
from gateway.log.gaps import report_each
from gateway.log.kafka import gaps
from gateway.log.kafka.gaps import Committed
from gateway.log.kafka.incarnation import TopicIds, is_another
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.positions import Positions

_log = structlog.get_logger("gateway.kafka")

_GONE: Final = (
    "Kafka has forgotten how far this group was (offsets.retention.minutes, or the group was deleted): it reads again "
    "from the time at which it began, so that events may be delivered again"
)


class GoneBack(Exception):
    """A partition must be read again from before what was handed out of it: its owner must give it up first."""


class Placement:
    """The partitions of one reader.

    Args:
        ids: shared by the readers of a log.
        start: where partitions without a position begin: a time for each topic, or the one or the other end.
    """

    def __init__(self, options: KafkaOptions, group: str, positions: Positions, ids: TopicIds) -> None:
        self._options = options
        self._group = group
        self._positions = positions
        self._ids = ids
        self.start: Start | Begins = "earliest"
        self._placed: set[Any] = set()
        self._out_of_range: set[Any] = set()
        self._round = 0

    def is_placed(self, tp: Any) -> bool:
        """Whether records of this partition may be handed out."""
        return tp in self._placed

    def reset(self, assigned: Collection[Any]) -> None:
        """Partitions were assigned anew: all of them must be placed."""
        self._round += 1
        self._placed.clear()
        self._out_of_range.intersection_update(assigned)

    def moved(self, tp: Any) -> None:
        """The owner put the partition somewhere itself."""
        self._placed.add(tp)
        self._out_of_range.discard(tp)

    def out_of_range(self, partitions: Collection[Any]) -> None:
        """The broker refused to read these where they stand."""
        self._placed.difference_update(partitions)
        self._out_of_range.update(partitions)

    def incarnations(self) -> Mapping[str, str]:
        """Of the topics that were placed, by their names without the prefix."""
        return {topic: found for topic, found in self._positions.incarnations.items() if found}

    async def recreated(self, client: Any) -> list[str]:
        """Return the topics that were deleted and created again since they were placed, as far as is known by now."""
        recent = await self._ids.recent(client)
        kafka_name = self._options.kafka_name
        known = self._positions.incarnations.items()
        return [topic for topic, was in known if is_another(was, recent.get(kafka_name(topic), ""))]

    async def place(self, consumer: Any) -> None:
        """Give every assigned partition that has none its position; returns at once where all have one.

        Those of a topic that is not there now wait for the next call.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka did not answer; call again.
            GoneBack: the consumer must join its group again first.
        """
        waiting = [tp for tp in consumer.assignment() if tp not in self._placed]
        if not waiting:
            return
        current = self._round
        ids = await self._ids.now(consumer._client, {tp.topic for tp in waiting})
        by_topic: defaultdict[str, list[Any]] = defaultdict(list)
        for tp in waiting:
            if tp.topic in ids:
                by_topic[tp.topic].append(tp)
        beginnings = await consumer.beginning_offsets([tp for tps in by_topic.values() for tp in tps])
        committed = await self._committed(consumer, by_topic.keys())
        for topic, partitions in by_topic.items():
            now = ids[topic]
            found = await self._topic(consumer, topic, partitions, committed, beginnings, now)
            if current != self._round:
                return  # assigned anew meanwhile: what was asked may be old
            if any(gap and gap.reason != "expired" for _, gap in found.values()):
                self._check_unread(topic, has_owner=consumer._group_id is not None)
            self._apply(consumer, topic, found, now, committed)

    async def _committed(self, consumer: Any, topics: Collection[str]) -> dict[Any, Committed]:
        """Return what Kafka keeps for the group in all partitions of the topics; nothing for one without a group."""
        if consumer._group_id is None:
            return {}
        wanted = [
            TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic) or ()
        ]
        found = await consumer._coordinator.fetch_committed_offsets(wanted)
        return {tp: Committed.of(kept) for tp, kept in found.items()}

    async def _topic(
        self,
        consumer: Any,
        topic: str,
        partitions: list[Any],
        committed: Mapping[Any, Committed],
        beginnings: Mapping[Any, int],
        now: str,
    ) -> dict[Any, tuple[int, Gap | None]]:
        found: dict[Any, tuple[int, Gap | None]] = {}
        new: list[Any] = []
        for tp in partitions:
            known = self._known(tp, committed.get(tp))
            if known is None:
                new.append(tp)
                continue
            position, was = known
            found[tp] = gaps.proceed(
                self._positions.name(tp),
                position,
                beginning=beginnings[tp],
                was=was,
                now=now,
                is_out_of_range=tp in self._out_of_range,
            )
        if new:
            others = [committed.get(TopicPartition(topic, n)) for n in consumer.partitions_for_topic(topic) or ()]
            found |= await self._starts(consumer, topic, new, others, beginnings, now)
        return found

    def _known(self, tp: Any, kept: Committed | None) -> tuple[int, str] | None:
        """Return where the group goes on in a partition, and in which incarnation of the topic that is right."""
        own = self._positions.place(self._positions.name(tp))
        was = self._positions.incarnations.get(self._options.own_name(tp.topic), "")
        if kept is not None and (own is None or is_another(was, kept.incarnation or "") or kept.offset > own):
            return kept.offset, kept.incarnation or ""
        return None if own is None else (own, was)

    async def _starts(
        self,
        consumer: Any,
        topic: str,
        partitions: list[Any],
        others: list[Committed | None],
        beginnings: Mapping[Any, int],
        now: str,
    ) -> dict[Any, tuple[int, Gap | None]]:
        """Return where partitions without a position begin, and what that says of an earlier topic."""
        name = self._options.own_name(topic)
        begin = self.start.get(name, Begin(0.0)) if not isinstance(self.start, str) else Begin(0.0)
        origin = gaps.origin(others, was=self._positions.incarnations.get(name) or begin.incarnation, now=now)
        if origin.is_recreated:
            names = {tp: self._positions.name(tp) for tp in partitions}
            before = self._positions.before
            return {tp: (beginnings[tp], Gap(own, before(own), None, "deleted")) for tp, own in names.items()}
        if self.start == "latest":
            starts = await consumer.end_offsets(partitions)
        elif origin.is_at_start or not begin.since:
            starts = beginnings
        else:
            starts = await self._since(consumer, name, begin, partitions, is_gone=origin.is_gone)
        return {tp: (starts[tp], None) for tp in partitions}

    async def _since(
        self, consumer: Any, topic: str, begin: Begin, partitions: list[Any], *, is_gone: bool
    ) -> dict[Any, int]:
        """Return the offsets of a time, and say what that means."""
        # The ends first: what is appended between the two questions is then behind the end, and is read.
        ends = await consumer.end_offsets(partitions)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, int(begin.since * 1000)))
        starts = {tp: ends[tp] if found.get(tp) is None else found[tp].offset for tp in partitions}
        positions = {self._positions.name(tp): offset for tp, offset in sorted(starts.items())}
        known: dict[str, Any] = {"group": self._group, "topic": topic, "since": begin.since, "positions": positions}
        if is_gone:
            _log.warning("kafka.positions_gone", **known, advice=_GONE)
        else:
            _log.info("kafka.group_begins", **known)
        return starts

    def _check_unread(self, topic: str, *, has_owner: bool) -> None:
        """A topic begins anew: in all of its partitions at once, and in none that was read since it was assigned.

        Args:
            has_owner: somebody keeps account of what was read, and must hear of it first.

        Raises:
            GoneBack: they must be assigned anew.
        """
        is_reading = has_owner and self._positions.is_reading(self._options.own_name(topic))
        if is_reading or any(tp.topic == topic for tp in self._placed):
            raise GoneBack(topic)

    def _apply(
        self,
        consumer: Any,
        topic: str,
        found: Mapping[Any, tuple[int, Gap | None]],
        now: str,
        committed: Mapping[Any, Committed],
    ) -> None:
        positions = self._positions
        positions.incarnations[self._options.own_name(topic)] = now
        seen: list[Gap] = []
        for tp, (offset, gap) in found.items():
            with suppress(errors.IllegalStateError):  # taken away while we asked
                consumer.seek(tp, offset)
                self.moved(tp)
                positions.put(positions.name(tp), offset, gap, is_kept=tp in committed)
                if gap is not None:
                    seen.append(gap)
        report_each("kafka", [(self._group, gap) for gap in seen])
