"""Partitions of which a broker said that they end before the place at which they are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Truncated:
    """Of one log: whoever meets it says so, and all cursors of the partition are placed anew."""

    def __init__(self) -> None:
        self.partitions: set[Any] = set()
        #: Another number after each :meth:`add`.
        self.count = 0

    def add(self, partitions: Collection[Any]) -> None:
        """Note partitions, by aiokafka's names."""
        self.partitions.update(partitions)
        self.count += 1
