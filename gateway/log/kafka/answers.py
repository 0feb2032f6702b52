"""Requests of many cursors about the same partitions at the same time, sent once.

Hundreds of cursors are placed when partitions are assigned, and need the same beginnings and the same times. An answer
is reused for ``KEEP_S``. An old one does no harm: a beginning only increases, so reading at an old one finds the gap;
and the offset of a time stays right, because no record is appended before it afterwards. Only after a topic was deleted
and created again an old answer is invalid, so answers are stored by incarnation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from gateway.log.kafka.errors import CLIENT_ERRORS, away
from gateway.log.kafka.incarnation import TopicIds
from gateway.log.kafka.offsets import BEGINNING, END, OffsetClient

#: A start of hundreds of cursors takes some seconds. Ten times more would not save requests.
KEEP_S: Final = 10.0


class Answers:
    """Shared answers of one log.

    Args:
        ids: incarnations, shared with the readers of the log.
    """

    def __init__(self, offsets: OffsetClient, ids: TopicIds) -> None:
        self._offsets = offsets
        self._ids = ids
        self._kept: dict[tuple[Any, float, str], tuple[int, float]] = {}
        self._asking = asyncio.Lock()

    async def incarnations(self, topics: Collection[str]) -> Mapping[str, str]:
        """Return the incarnation of each topic that exists, at most ``MAX_AGE_S`` old, by its name in Kafka.

        Raises:
            KafkaAway: no answer.
        """
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
            ids: incarnations of their topics.

        Raises:
            KafkaAway: no answer.
        """

        async def ask(missing: Collection[Any]) -> Mapping[Any, int]:
            return await self._offsets.offsets(dict.fromkeys(missing, BEGINNING))

        return await self._kept_or(ask, partitions, ids, BEGINNING)

    async def since(self, partitions: Collection[Any], ids: Mapping[str, str], unix_s: float) -> dict[Any, int]:
        """Return the offset of the first record appended at or after a time; the end where there is none.

        Args:
            ids: incarnations of their topics.

        Raises:
            KafkaAway: no answer.
        """

        async def ask(missing: Collection[Any]) -> Mapping[Any, int]:
            # The ends first: records appended between the two requests are then behind the end, and are read.
            ends = await self.ends(missing)
            return ends | await self._offsets.offsets(dict.fromkeys(missing, max(0, int(unix_s * 1000))))

        return await self._kept_or(ask, partitions, ids, unix_s)

    async def ends(self, partitions: Collection[Any]) -> dict[Any, int]:
        """Return the offset that the next record of each partition gets, asked now.

        Raises:
            KafkaAway: no answer.
        """
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
