"""Requests to brokers that aiokafka 0.14 does not have, described by Kafka's protocol tables.

Each is in the oldest version that has what is asked for, so that old brokers answer, too
(https://kafka.apache.org/protocol):

=====================  =======  =======================================================================================
Metadata               8        with authorized operations of topics and cluster (KIP-430, Kafka 2.3)
Metadata               11       with ids of topics (KIP-516, Kafka 2.8); the first one without deprecated fields
DescribeGroups         3        with authorized operations (KIP-430); aiokafka reads the answer as if it were version 2
DescribeQuorum         1        the controller's wall clock (KIP-836, Kafka 3.3)
=====================  =======  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any, Final

from aiokafka import errors
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

#: In place of the id of a topic that has none, and of one that is asked for by its name.
NO_ID: Final = bytes(16)
_TAGS: Final = ("tags", TaggedFields)


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


class Question:
    """A request of one version, for ``send`` of aiokafka's clients and connections."""

    def __init__(self, struct: Any, *fields: Any) -> None:
        self._struct = struct
        self._fields = fields

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Return what is sent.

        Args:
            versions: the oldest and the newest version that the broker answers, by request.

        Raises:
            IncompatibleBrokerVersion: this one is not among them.
        """
        oldest, newest = versions.get(self._struct.API_KEY, (0, -1))
        if not oldest <= self._struct.API_VERSION <= newest:
            raise errors.IncompatibleBrokerVersion(f"request {self._struct.API_KEY} v{self._struct.API_VERSION}")
        return self._struct(*self._fields)


def _request(key: int, version: int, schema: Schema, response: Any, *, is_flexible: bool = False) -> Any:
    """Return aiokafka's class of one request in one version."""
    same = {"API_KEY": key, "API_VERSION": version}
    if isinstance(response, Schema):
        response = type("Answer", (Response,), {**same, "SCHEMA": response})
    more = {"FLEXIBLE_VERSION": is_flexible, "RESPONSE_TYPE": response, "SCHEMA": schema}
    return type("Asked", (RequestStruct,), {**same, **more})


def _partitions(array: Any, *more: Any) -> Any:
    numbers = (("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32))
    replicas = (("replicas", array(Int32)), ("isr", array(Int32)), ("offline_replicas", array(Int32)))
    return array(*numbers, *replicas, *more)


_TOPICS_AND_RIGHTS: Final = _request(
    3,
    8,
    Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    ),
    Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String()), ("port", Int32), ("rack", String()))),
        ("cluster_id", String()),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", String()),
                ("is_internal", Boolean),
                ("partitions", _partitions(Array)),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    ),
)
_TOPIC_IDS: Final = _request(
    3,
    11,
    Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    ),
    Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()), _TAGS
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", _partitions(CompactArray, _TAGS)),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
    is_flexible=True,
)
_GROUPS_AND_RIGHTS: Final = _request(
    15,
    3,
    Schema(("groups", Array(String())), ("include_authorized_operations", Boolean)),
    DescribeGroupsResponse_v3,
)
_REPLICAS: Final = CompactArray(
    ("replica_id", Int32),
    ("log_end_offset", Int64),
    ("last_fetch_timestamp", Int64),
    ("last_caught_up_timestamp", Int64),
    _TAGS,
)
_QUORUM: Final = _request(
    55,
    1,
    Schema(
        (
            "topics",
            CompactArray(("name", CompactString()), ("partitions", CompactArray(("partition", Int32), _TAGS)), _TAGS),
        ),
        _TAGS,
    ),
    Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("name", CompactString()),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", _REPLICAS),
                        ("observers", _REPLICAS),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
    is_flexible=True,
)


def topics_and_rights(topics: Collection[str]) -> Question:
    """Ask for brokers, these topics, and what the user may do to them and to the cluster; creates nothing."""
    return Question(_TOPICS_AND_RIGHTS, sorted(topics), False, True, True)


def topic_ids(topics: Collection[str]) -> Question:
    """Ask for the ids of these topics; creates nothing."""
    return Question(_TOPIC_IDS, [(NO_ID, name, {}) for name in sorted(topics)], False, False, {})


def groups_and_rights(groups: Collection[str]) -> Question:
    """Ask for these groups, and what the user may do to them; for those that the asked broker coordinates."""
    return Question(_GROUPS_AND_RIGHTS, sorted(groups), True)


def quorum() -> Question:
    """Ask for the controllers. The leader states of itself that it has caught up now: that is its clock."""
    return Question(_QUORUM, [("__cluster_metadata", [(0, {})], {})], {})
