"""Requests to brokers that aiokafka 0.14 does not have: who may do what, and what time it is.

Described by Kafka's protocol tables (https://kafka.apache.org/protocol), each in the oldest version that has what is
asked for, so that old brokers answer, too:

=========================  =======  ====================================================================
Metadata                   8        with authorized operations of topics and cluster (KIP-430, Kafka 2.3)
DescribeGroups             3        with authorized operations (KIP-430); aiokafka has the request, but reads
                                    the answer as if it were version 2
DescribeQuorum             1        the controller's wall clock (KIP-836, Kafka 3.3)
=========================  =======  ====================================================================
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
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


class _MetadataResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
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
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("authorized_operations", Int32),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class TopicsAndRights(Request[_MetadataRequest]):  # type: ignore[misc]
    """Brokers, these topics, and what the user may do to them and to the cluster; creates nothing."""

    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        """See aiokafka."""
        return request_struct_class(sorted(self._topics), False, True, True)


class _GroupsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(String())), ("include_authorized_operations", Boolean))


class GroupsAndRights(Request[_GroupsRequest]):  # type: ignore[misc]
    """These groups, and what the user may do to them; for those that the asked broker coordinates."""

    API_KEY = 15

    def __init__(self, groups: Collection[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: Any) -> Any:
        """See aiokafka."""
        return request_struct_class(sorted(self._groups), True)


_REPLICAS = CompactArray(
    ("replica_id", Int32),
    ("log_end_offset", Int64),
    ("last_fetch_timestamp", Int64),
    ("last_caught_up_timestamp", Int64),
    ("tags", TaggedFields),
)


class _QuorumResponse(Response):  # type: ignore[misc]
    API_KEY = 55
    API_VERSION = 1
    SCHEMA = Schema(
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
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _QuorumRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 55
    API_VERSION = 1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _QuorumResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("name", CompactString()),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class Quorum(Request[_QuorumRequest]):  # type: ignore[misc]
    """The controllers. The leader states of itself that it has caught up now: that is its clock."""

    API_KEY = 55

    def build(self, request_struct_class: Any) -> Any:
        """See aiokafka."""
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})
