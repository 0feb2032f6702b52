"""Questions of many cursors about the same partitions, combined into one request; and the lags of groups.

Hundreds of cursors are placed when partitions are assigned, and need the same beginnings and the same times. An answer
is reused for ``KEEP_S``. An old one does no harm: a beginning only increases, so reading at an old one finds the gap;
and the offset of a time stays right, because no record is appended before it afterwards. Only after a topic was deleted
and created again an old answer is invalid, so answers are stored by incarnation.

Lags. Each process knows the positions in its own partitions; Kafka has the committed positions of all. The ends of all
partitions need one request, the positions one for each group: aiokafka does not have the request for several groups
(KIP-709, Kafka 3.0).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition

from gateway.log.kafka import topics
from gateway.log.kafka.errors import CLIENT_ERRORS, away
from gateway.log.kafka.incarnation import TopicIds, is_another
from gateway.log.kafka.offsets import BEGINNING, END, Committed, OffsetClient
from gateway.log.kafka.options import KafkaOptions

#: A start of hundreds of cursors takes some seconds. Ten times more would not save requests.
KEEP_S: Final = 10.0
#: Requests for positions in flight: commits use the same connections. With a third, 300 groups take twice as long.
_AT_ONCE: Final = 10


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

    # -- lags ---------------------------------------------------------------------------------------------------

    async def lags(self, groups: Mapping[str, Collection[str]]) -> dict[str, int | None]:
        """Return the records between each group's positions and the ends of its topics, whichever process reads them.

        None if it is not known: none of its topics exists, or it has no position in one of their partitions.

        Args:
            groups: topics by group, with names as in the configuration.
        """
        names = {group: set(map(self._options.kafka_name, own_names)) for group, own_names in groups.items()}
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
        for info in await topics.describe(self._options):
            if (group := group_of(info.name)) is not None:
                groups[info.kafka_name] = group
                there += [TopicPartition(info.kafka_name, number) for number in range(info.partitions)]
        facts = await self._facts(there, set(groups.values()))
        found = dict.fromkeys(map(self._options.own_name, groups), 0)
        for tp in there:
            left, records = facts.left(groups[tp.topic], tp), facts.records(tp)
            found[self._options.own_name(tp.topic)] += records if left is None else min(left, records)
        return found

    async def _facts(self, partitions: Collection[Any], groups: Collection[str]) -> _Facts:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def ask(group: str) -> dict[Any, Committed]:
            async with at_once:
                return await self._offsets.committed(group)

        ids = await self.incarnations({tp.topic for tp in partitions})
        beginnings, ends = await asyncio.gather(self.beginnings(partitions, ids), self.ends(partitions))
        kept = await asyncio.gather(*map(ask, groups))
        return _Facts(ids, beginnings, ends, dict(zip(groups, kept, strict=True)))
