"""Journal → Kafka: a cursor for each topic, fed from one reading of the journal.

``publisher`` (starts, finds topics, stops), ``topic_cursor`` (one topic: its position, what it holds, whether it can be
written, how much is not published yet). :mod:`gateway.log.kafka.writer` writes.
"""

from gateway.publisher.publisher import DEAD_LETTERS, Publisher, PublisherPolicy, TopicState
from gateway.publisher.topic_cursor import GROUP, cursor_name, is_published

__all__ = ["DEAD_LETTERS", "GROUP", "Publisher", "PublisherPolicy", "TopicState", "cursor_name", "is_published"]
