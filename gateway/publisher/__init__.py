"""Journal → Kafka: a cursor for each topic, fed from one reading of the journal.

``publisher`` (starts, finds topics, stops), ``topic_cursor`` (one topic: its position, what it holds, whether it can be
written), ``positions`` (names of positions, where topics begin), ``lag`` (how much is not published yet). What Kafka
answers is the business of :mod:`gateway.log.kafka.writer`.
"""

from gateway.publisher.positions import GROUP, cursor_name, is_published
from gateway.publisher.publisher import DEAD_LETTERS, Publisher, PublisherPolicy, TopicState

__all__ = ["DEAD_LETTERS", "GROUP", "Publisher", "PublisherPolicy", "TopicState", "cursor_name", "is_published"]
