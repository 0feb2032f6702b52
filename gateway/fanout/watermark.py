"""Completions in any order → the offset up to which everything is done.

Only records that are tracked count: offsets of one partition may have gaps (other topics, compaction,
Kafka's transaction markers), and a record that a filter drops needs no place here.
"""

from __future__ import annotations

from collections import deque


class Watermark:
    """Contiguous completion of one partition.

    ``track`` and ``pass_over`` are called in the order of the log, ``done`` in any order, once for each
    tracked offset. All are O(1), amortised. Memory grows with :attr:`span`; the window bounds it.
    """

    __slots__ = ("_done", "_next", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None

    @property
    def span(self) -> int:
        """Tracked offsets at and above the watermark, done or not: what a crash now would repeat at most."""
        return len(self._open)

    @property
    def committable(self) -> int | None:
        """Everything below this is done; None before the first record."""
        return self._open[0] if self._open else self._next

    def track(self, offset: int) -> None:
        """Track an accepted record; it holds the watermark until it is done."""
        self._open.append(offset)
        self._next = offset + 1

    def pass_over(self, offset: int) -> None:
        """Skip a record; it never holds the watermark."""
        self._next = offset + 1

    def done(self, offset: int) -> bool:
        """Note that a tracked record is done; return whether :attr:`committable` moved."""
        if self._open[0] != offset:
            self._done.add(offset)
            return False
        self._open.popleft()
        while self._open and self._open[0] in self._done:
            self._done.remove(self._open.popleft())
        return True
