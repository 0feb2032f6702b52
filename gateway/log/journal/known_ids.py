"""The window of known event ids: a repeat of one of them is answered without being stored again.

Two generations: new ids are added to the young one; when it is full, it replaces the old one. So the window has
between ``size`` and twice ``size`` ids, of about 90 bytes each, and needs no bookkeeping for single ids.
"""

from __future__ import annotations

from collections.abc import Iterable


class KnownIds:
    """Remembers at least the newest ``size`` ids of 16 bytes; 0 remembers none."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._young or event_id in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def update(self, event_ids: Iterable[bytes]) -> None:
        """Add ids, oldest first."""
        if not self.size:
            return
        for event_id in event_ids:
            self._young.add(event_id)
            if len(self._young) >= self.size:
                self._old, self._young = self._young, set()
