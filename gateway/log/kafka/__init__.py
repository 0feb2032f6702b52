"""The log on Kafka: :class:`KafkaLog` behind the interface of :mod:`gateway.log`.

Writing, in the order of an event's path: ``record_format`` (event ⇄ Kafka record, key → partition), ``backlog``
(waiting records of a partition, of a topic, of all topics), ``writer`` (sends them in order through every failure, and
what brokers answer), ``producer`` (a new producer of aiokafka, the partitions of topics that are written to).

Reading: ``group_consumer`` and ``membership`` (the partitions that a group assigns to this process),
``standalone_consumer`` (whole topics or given partitions, in no group), ``reader`` (the base of both), ``fetcher``
(records out of aiokafka's consumer).

Positions: ``positions`` (stored under groups without members), ``placement`` (where cursors continue, and which records
before that are gone), ``offsets`` (the requests).

Common parts: ``options`` (arguments of clients), ``topics`` (create, list, wait for, distinguish), ``errors`` (problems
in the gateway's words), ``health`` (problems of a client), ``outage`` (their log lines), ``requests`` (requests that
aiokafka lacks), ``aiokafka_workarounds``.

For ``gateway check``: ``connecting`` (one broker, or the reason why there is no connection), ``diagnosis`` (the check),
``check_rules`` (what a role uses, what the cluster answers, what is right and what is not).
"""

from gateway.log.kafka.group_consumer import GroupReader
from gateway.log.kafka.health import State
from gateway.log.kafka.log import KafkaLog
from gateway.log.kafka.offsets import GroupInUse
from gateway.log.kafka.options import KafkaOptions, ReaderPolicy, WriterPolicy
from gateway.log.kafka.positions import CursorPolicy
from gateway.log.kafka.standalone_consumer import StandaloneReader
from gateway.log.kafka.writer import KafkaWriter

__all__ = [
    "CursorPolicy",
    "GroupInUse",
    "GroupReader",
    "KafkaLog",
    "KafkaOptions",
    "KafkaWriter",
    "ReaderPolicy",
    "StandaloneReader",
    "State",
    "WriterPolicy",
]
