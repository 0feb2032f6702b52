"""The log on Kafka: :class:`KafkaLog` behind the interface of :mod:`gateway.log`.

In the order of an event's way: ``record_format`` (event ⇄ Kafka record), ``partitioner`` (key → partition),
``send_queue``, ``topic_queue`` and ``backlog`` (what waits for a partition, for a topic, for all), ``producer``
(one of aiokafka's) and ``writer`` (one after another, in order through every failure), ``topic_resolver`` (which
partitions a topic has), ``outcomes`` (what an answer means), ``troubles`` (why a topic cannot be written).
Reading: ``group_reader`` and ``membership`` (the partitions that a group gives us),
``standalone_reader`` (whole topics or given partitions, in no group), ``consumer_reader`` (what both share). Positions:
``cursors`` (kept under groups without members), ``cursor_placement``, ``answers`` and ``gaps`` (where they go on, and
what is gone before that), ``offsets`` (the requests).

Beside it: ``options`` and ``security`` (how clients are made), ``topics`` (create, list), ``incarnation`` and
``recreations`` (is it still the same topic), ``errors`` (what may be the matter, in our words), ``observed_client``
(what one client met), ``availability`` (what is the matter with it), ``outage`` (what is logged of that),
``log_rate_limit`` (aiokafka's own log), ``rebootstrap`` (away, or moved?).

For ``gateway check``: ``needs`` (what a role uses, what the cluster says), ``connecting`` (one broker, or why not),
``requests`` (what aiokafka does not ask), ``diagnosis`` (all of it), ``rights`` and ``topic_settings`` (rules).
"""

from gateway.log.kafka.availability import State
from gateway.log.kafka.cursors import CursorPolicy
from gateway.log.kafka.group_reader import GroupReader
from gateway.log.kafka.log import KafkaLog
from gateway.log.kafka.offsets import GroupInUse
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.reader_policy import ReaderPolicy
from gateway.log.kafka.standalone_reader import StandaloneReader
from gateway.log.kafka.writer import Writer
from gateway.log.kafka.writer_policy import WriterPolicy

__all__ = [
    "CursorPolicy",
    "GroupInUse",
    "GroupReader",
    "KafkaLog",
    "KafkaOptions",
    "ReaderPolicy",
    "StandaloneReader",
    "State",
    "Writer",
    "WriterPolicy",
]
