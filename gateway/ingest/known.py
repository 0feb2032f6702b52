"""The window of known event ids: a repeat of one of them is answered without being stored again.

Two generations: new ids go to the young one; when it is full it becomes the old one and the old one goes. So the
window holds between ``size`` and twice ``size`` ids, at about 120 bytes each, with no bookkeeping per id. (As text:
turned into 16 bytes an id takes 90, and every look-up half a microsecond more.)
"""

from __future__ import annotations

from collections.abc import Iterable


class KnownIds:
    """Remembers at least the newest ``size`` ids; 0 remembers none."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: set[str] = set()
        self._old: set[str] = set()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._young or event_id in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, event_id: str) -> None:
        """Remember one id."""
        if not self._size:
            return
        self._young.add(event_id)
        if len(self._young) >= self._size:
            self._old, self._young = self._young, set()

    def update(self, event_ids: Iterable[str]) -> None:
        """Remember many, oldest first."""
        for event_id in event_ids:
            self.add(event_id)
