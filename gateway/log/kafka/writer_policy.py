"""Numbers of :mod:`gateway.log.kafka.writer`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WriterPolicy:
    """Numbers of a writer.

    Args:
        max_batch_bytes: of one partition in one request. A quarter of a broker's default limit: above, little is
            gained per record; ten times less doubles the cost of a backlog.
        topic_bytes: records of one topic, waiting or on their way; past it the topic has no room.
        total_bytes: past it, of all topics together, each has ``least_bytes``.
        least_bytes: what a topic may hold whatever the others hold: one batch keeps a partition busy.
        stalled_s: without an acknowledgement for this long Kafka, or a topic, counts as away.
        rebootstrap_s: and for this long, we look whether a fresh client gets through.
        grace_s: if it does for this long, the producer is replaced; it is also the longest that a request takes
            whose connection died silently.
        settle_s: for answers to other partitions after a producer failed.
        resolve_s: for a topic's partitions.
        forget_s: after its last failure a topic's trouble is forgotten, when nothing waits for that topic any more.
        look_s: between looks at the above.
    """

    max_batch_bytes: int = 256 * 1024
    topic_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 16 * 1024 * 1024
    least_bytes: int = 256 * 1024
    stalled_s: float = 5.0
    rebootstrap_s: float = 45.0
    grace_s: float = 15.0
    settle_s: float = 3.0
    resolve_s: float = 3.0
    forget_s: float = 60.0
    look_s: float = 1.0
    close_s: float = 3.0
