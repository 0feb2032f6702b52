"""Report of a writer's topics that were deleted and created again.

It requests the incarnation of a topic before the writer writes the first record: a later answer could be that of a
topic that has replaced the first one. After that it checks now and then, and the writer continues without an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

from gateway.log import gaps
from gateway.log.kafka.errors import CLIENT_ERRORS
from gateway.log.kafka.incarnation import MAX_AGE_S, TopicIds
from gateway.log.kafka.options import KafkaOptions

_ADVICE: Final = (
    "events that were written to the deleted topic are gone, but for those that its readers had read; "
    "what is accepted from now on is written to the new topic"
)
#: Between two requests for a topic that one broker has created and another one does not know yet.
_AGAIN_S: Final = 0.05


class Recreations:
    """Looks at the topics now and then, in a task of its own.

    Args:
        name: of the writer, for metrics and logs.
    """

    def __init__(self, options: KafkaOptions, name: str) -> None:
        self._options = options
        self._name = name
        self._ids = TopicIds()
        self._looking: asyncio.Task[None] | None = None

    async def learn(self, client: Any, topic: str) -> None:
        """Return when it is known which incarnation a topic is.

        Args:
            client: aiokafka's.
            topic: one that exists; without end while no broker knows it.

        Raises:
            KafkaError: no answer.
        """
        await self._check(client, [topic])
        while not self._ids.knows(self._options.kafka_name(topic)):
            await asyncio.sleep(_AGAIN_S)
            await self._check(client, [topic])

    def look(self, client: Any, topics: Collection[str]) -> None:
        """Begin to look, unless the last look is still under way or was just now.

        Args:
            client: aiokafka's.
            topics: those that are written to.
        """
        if topics and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look(client, topics), name=f"kafka-ids-{self._name}")

    def stop(self) -> None:
        """No more looks."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self, client: Any, topics: Collection[str]) -> None:
        with suppress(*CLIENT_ERRORS):
            await self._check(client, topics)
        await asyncio.sleep(MAX_AGE_S)

    async def _check(self, client: Any, topics: Collection[str]) -> None:
        for changed in await self._ids.changed(client, [self._options.kafka_name(topic) for topic in topics]):
            gaps.report_deleted([self._name], self._options.own_name(changed), {}, advice=_ADVICE)
