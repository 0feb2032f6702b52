"""Partitions that end, by a broker's answer, before the offset at which they are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Truncated:
    """Truncated partitions of one log: a reader adds them, and all cursors of the partition are placed again."""

    def __init__(self) -> None:
        self.partitions: set[Any] = set()
        #: A number that changes with each :meth:`add`.
        self.count = 0

    def add(self, partitions: Collection[Any]) -> None:
        """Note partitions, by aiokafka's names."""
        self.partitions.update(partitions)
        self.count += 1
