"""A reader that belongs to no group: it reads whole topics, or given partitions, and commits nothing.

It serves one person or one process alone (a stream's client, a replay's scan, the states of subscribers), and a cursor
that catches up. Kafka distributes the partitions of a group among its members, so two readers in one group would each
get a half.

The gateway assigns the partitions. If whole topics are read, added partitions are noticed within ``METADATA_AGE_S`` and
read from their beginning, and the reader reports gaps. If given partitions are read, gaps are only in the batches, and
when a position becomes invalid (a topic was created again, an end was lost), the owner of the positions must learn it:
the reader notes it in the log object and returns no more records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition, errors

from gateway.log import Batch, Gap, Start, gaps
from gateway.log.kafka.errors import KafkaAway
from gateway.log.kafka.reader import ConsumerReader
from gateway.log.kafka.topics import is_another


class StandaloneReader(ConsumerReader):
    """See :class:`gateway.log.LogReader`. Made by :meth:`gateway.log.kafka.KafkaLog.browse`.

    Args:
        start: where it begins in the partitions that are there.
        positions: read these partitions alone, from these offsets.
    """

    def __init__(self, *args: Any, start: Start, positions: Mapping[str, int] | None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._start = start
        self._is_given = positions is not None
        self._given = {self._options.partition(name): offset for name, offset in (positions or {}).items()}
        self._found_gaps: list[Gap] = []

    async def _open(self) -> None:
        if not self._is_given:
            try:
                self._missing.found(await self._ensure(self._topics))
            except KafkaAway as exc:
                raise KafkaAway(f"{self._called}: {exc}", exc.problem) from exc
        await self._prepare()

    # -- partitions ---------------------------------------------------------------------------------------------

    async def _prepare(self) -> Any:
        if self.consumer is None:
            self.consumer = await self._connected(group_id=None)
            await self._ask(self._assign(self.consumer))
            self._heard()
        elif await self._is_another(self.consumer):
            await self._again(self.consumer)
        elif self._has_more(self.consumer):
            await self._ask(self._assign(self.consumer))
        return self.consumer

    async def _assign(self, consumer: Any) -> None:
        """Assign all partitions at once, each at its position; those of a recreated topic at their beginnings."""
        partitions = set(self._given) if self._is_given else await self._partitions(consumer)
        ids = await self._ids.now(consumer._client, {tp.topic for tp in partitions})
        lost = self._drop_other(ids)
        places = {tp: self._placed.get(tp, self._given.get(tp)) for tp in partitions}
        new = [tp for tp, place in places.items() if place is None]
        begin = consumer.end_offsets if self._start == "latest" else consumer.beginning_offsets
        starts = await begin(new) if new else {}
        consumer.assign(partitions)
        for topic in self._missing.of(self._kafka_names()):
            # :meth:`_has_more` sees when it is there; assign() keeps only what it got.
            consumer._client.add_topic(topic)
        self._placed = {tp: starts[tp] if place is None else place for tp, place in places.items()}
        for tp, place in self._placed.items():
            consumer.seek(tp, place)
        self._note({tp.topic for tp in partitions}, ids)
        self._report(lost)
        self._start = "earliest"  # partitions that come after the first ones are added ones
        self._turn += 1

    def _drop_other(self, ids: Mapping[str, str]) -> list[Gap]:
        """Forget where topics were read that were deleted and made again; return what that says."""
        lost: list[Gap] = []
        for tp, place in list(self._placed.items()):
            topic = self._options.own_name(tp.topic)
            if is_another(self._incarnations.get(topic, ""), ids.get(tp.topic, "")):
                del self._placed[tp]
                lost.append(Gap(self._name(tp), place, None, "deleted"))
        return lost

    async def _partitions(self, consumer: Any) -> set[Any]:
        names = self._kafka_names()
        there = [
            *self._missing.others(names),
            *(topic for topic in self._missing.of(names) if consumer.partitions_for_topic(topic)),
        ]
        numbers = await asyncio.gather(*(consumer._client._wait_on_metadata(topic) for topic in there))
        return {TopicPartition(topic, number) for topic, found in zip(there, numbers, strict=True) for number in found}

    def _has_more(self, consumer: Any) -> bool:
        known = [consumer.partitions_for_topic(topic) or () for topic in self._kafka_names()]
        return not self._is_given and sum(map(len, known)) > len(self._placed)

    async def _again(self, consumer: Any) -> None:
        """Read topics that were deleted and made again from their beginnings."""
        if self._is_given:
            raise KafkaAway(f"{self._called}: a topic was deleted and created again")
        await self._ask(consumer._client.force_metadata_update())
        await self._ask(self._assign(consumer))

    async def _lost_end(self, consumer: Any, partitions: Collection[Any]) -> None:
        if self._is_given:
            self._ids.truncate(partitions)
            raise KafkaAway(f"{self._called}: {self._name(next(iter(partitions)))} is shorter than it was")
        beginnings = await self._ask(consumer.beginning_offsets(list(partitions)))
        for tp in partitions:
            gap = Gap(self._name(tp), self._placed.get(tp), None, "truncated")
            self._seek(consumer, tp, beginnings[tp])
            self._report([gap])

    def _report(self, found: Sequence[Gap]) -> None:
        gaps.report_each("kafka", [(self.group, gap) for gap in found])
        self._found_gaps += found

    async def _replace(self, consumer: Any) -> None:
        if self.consumer is consumer:
            self.consumer = None
            await self._end(consumer)

    # -- reading ------------------------------------------------------------------------------------------------

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        """See :meth:`gateway.log.LogReader.fetch`."""
        batch = await super().fetch(max_records=max_records, wait_s=wait_s)
        if batch.gaps and not self._is_given:
            gaps.report_each("kafka", [(self.group, gap) for gap in batch.gaps])
        if self._found_gaps:
            batch.gaps = [*self._found_gaps, *batch.gaps]
            self._found_gaps = []
        return batch

    async def seek(self, partition: str, offset: int) -> None:
        """See :meth:`gateway.log.LogReader.seek`. Clamped to what is kept; what is gone is named."""
        consumer, tp = await self._ready(), self._options.partition(partition)
        if tp not in self._placed:
            raise KafkaAway(f"{self._called}: {partition} does not exist")
        first = (await self._ask(consumer.beginning_offsets([tp])))[tp]
        end = (await self._ask(consumer.end_offsets([tp])))[tp]
        if offset < first:  # a stream's client that comes back late
            gaps.report("kafka", [self.group], Gap(partition, offset, first - 1, "expired"))
        self._seek(consumer, tp, min(max(offset, first), end))

    async def seek_to_time(self, unix_s: float) -> None:
        """See :meth:`gateway.log.LogReader.seek_to_time`."""
        consumer, partitions = await self._ready(), list(self._placed)
        if not partitions:
            return
        # The ends first: what is appended between the two questions is then behind the end, and is read.
        ends = await self._ask(consumer.end_offsets(partitions))
        found = await self._ask(consumer.offsets_for_times(dict.fromkeys(partitions, max(0, int(unix_s * 1000)))))
        for tp in partitions:
            self._seek(consumer, tp, found[tp].offset if found.get(tp) is not None else ends[tp])

    def _seek(self, consumer: Any, tp: Any, offset: int) -> None:
        with suppress(errors.IllegalStateError):
            consumer.seek(tp, offset)
            self._placed[tp] = offset

    async def positions(self) -> Mapping[str, int]:
        """See :meth:`gateway.log.LogReader.positions`."""
        await self._ready()
        return {self._name(tp): offset for tp, offset in self._placed.items()}
