"""Incarnations of topics: distinguish a topic from a later one of the same name.

Kafka gives each topic an id at its creation (KIP-516, Kafka 2.8). A broker without ids returns no incarnation, and
nothing is concluded.

An incarnation is ``<cluster id>/<topic id>``. It is stored in the metadata of committed offsets. It has the cluster id
because tools that copy a group to another cluster (MirrorMaker 2) copy the metadata too, and the topic there is another
one with translated offsets: incarnations of two clusters cannot be compared.
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka import errors

from gateway.log.kafka.errors import TOO_OLD
from gateway.log.kafka.requests import NO_ID, topic_ids

#: How long :meth:`TopicIds.recent` uses an answer; a recreated topic is noticed within it and a fetch. One request each
#: time for all readers of a log; a tenth would cost a percent of a processor with hundreds of topics.
MAX_AGE_S: Final = 3.0
#: For one such request: reading continues without an answer, because other parts notice an outage.
ASK_S: Final = 2.0
_MARK: Final = "topic-id:"
#: No error, and a partition without a leader (LEADER_NOT_AVAILABLE), which does not concern the topic.
_KNOWN: Final = (0, 5)


async def incarnations(client: Any, topics: Collection[str]) -> dict[str, str]:
    """Return the incarnation of each topic, by its name in Kafka; empty if the broker returns none.

    Topics that the broker does not know, or that the user may not see, are left out.

    Args:
        client: aiokafka's client of a started consumer or producer.
        topics: names in Kafka; the request never creates them.

    Raises:
        KafkaError: no answer.
    """
    node = client.get_random_node()
    if node is None:
        raise errors.NodeNotReadyError("no broker is known")
    try:
        answer = await client.send(node, topic_ids(topics))
    except TOO_OLD:
        return dict.fromkeys(topics, "")
    return {
        name: "" if topic_id == NO_ID else f"{answer.cluster_id}/{urlsafe_b64encode(topic_id).decode().rstrip('=')}"
        for code, name, topic_id, *_ in answer.topics
        if code in _KNOWN
    }


class TopicIds:
    """Shared knowledge of the readers of one log: incarnations of topics, and partitions that lost their end."""

    def __init__(self) -> None:
        self._recent: dict[str, str] = {}
        self._wanted: set[str] = set()
        self._asked_at = -MAX_AGE_S
        self._asking = asyncio.Lock()
        #: Partitions that end, by a broker's answer, before an offset at which they were read.
        self.truncated: set[Any] = set()
        #: A number that changes with each :meth:`truncate`: all cursors of the partition are placed again.
        self.truncations = 0

    def truncate(self, partitions: Collection[Any]) -> None:
        """Note partitions that lost their end, by aiokafka's names."""
        self.truncated.update(partitions)
        self.truncations += 1

    async def now(self, client: Any, topics: Collection[str]) -> Mapping[str, str]:
        """Request incarnations now; see :func:`incarnations`."""
        found = await incarnations(client, topics)
        self._keep(topics, found)
        return found

    def knows(self, topic: str) -> bool:
        """Return whether a broker has answered with the topic's incarnation, or that it has none."""
        return topic in self._recent

    async def changed(self, client: Any, topics: Collection[str]) -> list[str]:
        """Return the topics that were deleted and created again since the last call; one caller gets each of them.

        Raises:
            KafkaError: no answer.
        """
        found = await incarnations(client, topics)
        changed = [topic for topic, now in found.items() if is_another(self._recent.get(topic, ""), now)]
        self._keep(topics, found)
        return changed

    def _keep(self, topics: Collection[str], found: Mapping[str, str]) -> None:
        self._wanted.update(topics)
        self._recent |= found

    async def recent(self, client: Any) -> Mapping[str, str]:
        """Return the incarnations of all topics ever requested, at most ``MAX_AGE_S`` old, or from before an outage.

        One reader sends the request for all, and waits at most ``ASK_S``.
        """
        if not self._asking.locked() and time.monotonic() - self._asked_at >= MAX_AGE_S:
            async with self._asking:
                self._asked_at = time.monotonic()
                with suppress(errors.KafkaError, OSError, TimeoutError):
                    async with asyncio.timeout(ASK_S):
                        self._recent = await incarnations(client, self._wanted)
        return self._recent


def mark(incarnation: str) -> str:
    """Return the metadata of an offset that was committed for this incarnation (empty: not known)."""
    return _MARK + incarnation


def marked(metadata: str | None) -> str | None:
    """Return the incarnation from an offset's metadata; None when it was not committed by :func:`mark`."""
    return metadata.removeprefix(_MARK) if metadata and metadata.startswith(_MARK) else None


def is_another(one: str, other: str) -> bool:
    """Return whether these are certainly two topics of one name, one after the other, in one cluster."""
    return bool(one and other) and one != other and one.partition("/")[0] == other.partition("/")[0]
