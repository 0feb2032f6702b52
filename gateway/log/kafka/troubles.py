"""Why topics cannot be written: kept at their queues, and shown in the state of the client."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.log.kafka.availability import Availability
from gateway.log.kafka.errors import Problem
from gateway.log.kafka.topic_queue import TopicQueue


class Troubles:
    """Keeps both in step.

    Args:
        availability: of the client.
        on_change: called when a topic can no longer be written, or can be written again.
    """

    def __init__(self, availability: Availability, on_change: Callable[[str], None]) -> None:
        self._availability = availability
        self._on_change = on_change

    def begin(self, topic: TopicQueue, partition: int, problem: Problem) -> None:
        """Take notice of why a partition, or the topic as a whole (:data:`.WHOLE`), is not written."""
        is_new = not topic.troubles
        topic.troubles[partition] = problem
        topic.troubled_at = time.monotonic()
        self._show(topic)
        if is_new:
            self._on_change(topic.name)

    def end(self, topic: TopicQueue, partition: int | None = None) -> None:
        """Take notice that a partition, or the topic as a whole, is written again; None: nothing is in its way."""
        if not topic.troubles:
            return
        if partition is None:
            topic.troubles.clear()
        else:
            topic.troubles.pop(partition, None)
        self._show(topic)
        if not topic.troubles:
            self._on_change(topic.name)

    def _show(self, topic: TopicQueue) -> None:
        if (trouble := topic.trouble) is not None:
            self._availability.problem(topic.name, trouble)
        else:
            self._availability.solved(topic.name)
