"""The log on Kafka: :class:`KafkaLog` behind the interface of :mod:`gateway.log`.

In the order of an event's way: ``binding`` (event ⇄ Kafka record), ``partitioner`` (key → partition), ``lane`` and
``backlog`` (what waits for one partition, for all), ``producer`` (one of aiokafka's) and ``writer`` (one after another,
in order through every failure). Reading: ``group_reader`` and ``membership`` (the partitions that a group gives us),
``standalone_reader`` (whole topics or given partitions, in no group), ``consumer_reader`` (what both share). Positions:
``cursors`` (kept under groups without members), ``cursor_placement``, ``answers`` and ``gaps`` (where they go on, and
what is gone before that), ``offsets`` (the requests). ``reader``, ``member``, ``positions`` and ``placement`` are a
group with one position, for whoever has not moved to a shared reading yet.

Beside it: ``options`` and ``security`` (how clients are made), ``topics`` (create, list), ``incarnation`` and
``recreations`` (is it still the same topic), ``availability`` (what is the matter, told once), ``staleness`` (away, or
moved?), ``faults`` (aiokafka's errors in our words), ``quiet`` (its log).
"""

from gateway.log.kafka.availability import State
from gateway.log.kafka.cursors import CursorPolicy
from gateway.log.kafka.group_reader import GroupReader
from gateway.log.kafka.log import KafkaLog
from gateway.log.kafka.offsets import GroupInUse
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.reader import KafkaReader
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
    "KafkaReader",
    "ReaderPolicy",
    "StandaloneReader",
    "State",
    "Writer",
    "WriterPolicy",
]
