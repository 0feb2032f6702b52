"""The window of known event ids: a repeat of one of them is answered without being stored again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.log import Gap, gaps
from gateway.log.journal.batch_format import EVENTS
from gateway.log.journal.storage import Store

#: Bytes read at once.
_READ_BYTES: Final = 4 * 1024 * 1024


class KnownIds:
    """Remembers at least the newest ``size`` ids of 16 bytes; 0 remembers none.

    Two generations: new ids are added to the young one; when it is full, it replaces the old one. So the window has
    between ``size`` and twice ``size`` ids, of about 90 bytes each, and needs no bookkeeping for single ids.
    """

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


def newest_ids(store: Store, limit: int) -> Iterator[bytes]:
    """Yield the ids of the newest vendor events, oldest first, to rebuild the window after a start.

    Args:
        store: the file.
        limit: number of events that are read; the ids of damaged ones are missing.
    """
    stream = store.streams.get(EVENTS)
    if stream is None:
        return
    position = max(stream.floor, stream.head - limit)
    while position < stream.head:
        segments = store.read(EVENTS, position, _READ_BYTES)
        if not segments:
            return
        for base, end, records in segments:
            if records is None:
                gaps.report("journal", ["start"], Gap(EVENTS, base, end - 1, "damaged"))
            else:
                yield from (bytes.fromhex(record.id) for record in records if record.offset >= position)
            position = end
