"""The log on Kafka: :class:`KafkaLog` behind the interface of :mod:`gateway.log`.

Writing, in the order of an event's path: ``record_format`` (event ⇄ Kafka record), ``partitioner`` (key → partition),
``send_queue``, ``topic_queue`` and ``backlog`` (waiting records of a partition, of a topic, of all topics),
``producer`` (one producer of aiokafka) and ``writer`` (one producer after another, in order through every failure),
``topic_resolver`` (the partitions of a topic), ``outcomes`` (the meaning of a broker's answer), ``troubles`` (why a
topic cannot be written).
Reading: ``group_reader`` and ``membership`` (the partitions that a group assigns to this process),
``standalone_reader`` (whole topics or given partitions, in no group), ``consumer_reader`` (the base of both).
Positions: ``cursors`` (stored under groups without members), ``cursor_placement``, ``answers`` and ``gaps`` (where
cursors continue, and which records before that are gone), ``offsets`` (the requests).

Common parts: ``options`` and ``security`` (arguments of clients), ``topics`` (create, list), ``incarnation`` and
``recreations`` (whether a topic is still the same), ``errors`` (problems in the gateway's words), ``observed_client``
(failures of one client), ``availability`` (problems of a client), ``outage`` (their log lines), ``log_rate_limit``
(aiokafka's own log), ``rebootstrap`` (whether Kafka is unavailable or has moved).

For ``gateway check``: ``needs`` (what a role uses, what the cluster answers), ``connecting`` (one broker, or the reason
why there is no connection), ``requests`` (requests that aiokafka lacks), ``diagnosis`` (the check), ``rights`` and
``topic_settings`` (rules).
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
