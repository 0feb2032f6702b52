"""Ids of the newest events of a journal."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.log import Gap, gaps
from gateway.log.journal.store import Store
from gateway.log.journal.streams import EVENTS

#: Bytes read at once.
_READ_BYTES = 4 * 1024 * 1024


def newest_ids(store: Store, limit: int) -> Iterator[bytes]:
    """Yield the ids of the newest vendor events, oldest first, to rebuild the window of known ids.

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
        for item in segments:
            info = item[0] if isinstance(item, tuple) else item
            if isinstance(item, tuple):
                yield from (bytes.fromhex(record.id) for record in item[1] if record.offset >= position)
            else:
                gaps.report("journal", ["start"], Gap(EVENTS, info.base, info.end - 1, "damaged"))
            position = info.end
