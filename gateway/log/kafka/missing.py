"""Missing topics of a reader: reported, waited for, never created.

The gateway creates its own topics. A topic of dead letters exists from its first record on; until then it is read as
empty and is not reported. Any other topic may be mistyped, or may be created later by its owner. The reader reads the
existing topics; one that is created later is read from its beginning, because all of its records are new.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import structlog

from gateway.log.kafka.errors import UNKNOWN_TOPIC, Problem
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.topics import is_created_by_writing
from gateway.telemetry.metrics import METRICS

#: Between checks of a topic that does not exist. aiokafka checks only once a minute.
_LOOK_S: Final = 5.0

_log = structlog.get_logger("gateway.kafka")


class MissingTopics:
    """The missing topics of one reader.

    Args:
        group: label of the gauge and of log lines.
    """

    def __init__(self, group: str, options: KafkaOptions) -> None:
        self._group = group
        self._options = options
        #: Problem by topic, for ``/readyz`` and the console.
        self.problems: dict[str, Problem] = {}
        #: Time since which there are problems, Unix seconds.
        self.since = 0.0
        self._looked_at = 0.0
        self._empty: frozenset[str] = frozenset()

    def found(self, hints: Mapping[str, str]) -> None:
        """Replace the missing topics, each with the end of a sentence about the nearest name; log new ones."""
        self._empty = frozenset(filter(is_created_by_writing, hints))
        hints = {topic: hint for topic, hint in hints.items() if topic not in self._empty}
        for topic, hint in hints.items():
            if topic not in self.problems:
                _log.warning(
                    "kafka.topic_missing",
                    group=self._group,
                    topic=self._options.kafka_name(topic),
                    word=UNKNOWN_TOPIC,
                    advice=f"correct the name, or create the topic: it is read as soon as it exists{hint}",
                )
        self.since = self.since if self.problems else time.time()
        self.problems = {
            topic: Problem(UNKNOWN_TOPIC, f"does not exist, and is read as soon as it does{hint}")
            for topic, hint in hints.items()
        }
        self._show()

    def of(self, kafka_names: Collection[str]) -> list[str]:
        """Return the missing ones of these names in Kafka."""
        absent = self._absent()
        return [name for name in kafka_names if self._options.own_name(name) in absent]

    def others(self, kafka_names: Collection[str]) -> list[str]:
        """Return the existing ones of these names in Kafka."""
        absent = self._absent()
        return [name for name in kafka_names if self._options.own_name(name) not in absent]

    def look(self, consumer: Any) -> None:
        """Forget topics that the consumer knows now; request new metadata now and then. Quick, and never blocks."""
        if not (absent := self._absent()):
            return
        there = {name for name in absent if consumer.partitions_for_topic(self._options.kafka_name(name))}
        self._empty -= there
        for name in sorted(there & self.problems.keys()):
            del self.problems[name]
            _log.info("kafka.topic_found", group=self._group, topic=self._options.kafka_name(name))
        if there:
            self._show()
        now = time.monotonic()
        if absent - there and now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            consumer._client.force_metadata_update()

    def _absent(self) -> frozenset[str]:
        return self._empty | self.problems.keys()

    def close(self) -> None:
        """Remove the gauge of a closed reader. May be called twice."""
        self.problems = {}
        self._show()

    def _show(self) -> None:
        METRICS.gauge("gateway_kafka_missing_topics").labels(self._group).set(len(self.problems))
