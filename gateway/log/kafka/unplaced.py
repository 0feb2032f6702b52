"""Keeps aiokafka from placing assigned partitions without a position: the gateway decides where they begin.

aiokafka 0.14 would request the group's position of each, get none, and raise ``NoOffsetForPartitionError`` some time
after the partition has been placed: without need, and a consumer that raises is replaced.
"""

from __future__ import annotations

from typing import Any


def leave_alone(consumer: Any) -> None:
    """Make a started consumer fetch only partitions with a position (``seek``)."""
    fetcher = consumer._fetcher
    actions = fetcher._get_actions_per_node
    fetcher._get_actions_per_node = lambda assignment: actions(_Placed(assignment))


class _Placed:
    """An assignment of aiokafka, without partitions that have no position."""

    def __init__(self, assignment: Any) -> None:
        self.state_value = assignment.state_value
        self.tps = [tp for tp in assignment.tps if assignment.state_value(tp).has_valid_position]
