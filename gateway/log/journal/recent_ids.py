"""Ids of the newest events of a journal."""

from __future__ import annotations

from gateway.log.journal import losses
from gateway.log.journal.journal import Journal
from gateway.log.journal.streams import EVENTS

#: Read at once.
_READ_BYTES = 4 * 1024 * 1024


async def newest_ids(journal: Journal, limit: int) -> list[str]:
    """Return the ids of the newest vendor events, oldest first: a window of known ids is rebuilt from them.

    Args:
        journal: an open one.
        limit: events that are looked at; ids of damaged ones are missing.
    """
    head = journal.head(EVENTS)
    position = max(journal.floor(EVENTS), head - limit)
    ids: list[str] = []
    while position < head:
        segments = await journal.read_file(EVENTS, position, _READ_BYTES)
        if not segments:
            break
        for item in segments:
            info = item[0] if isinstance(item, tuple) else item
            if isinstance(item, tuple):
                ids += [record.id for record in item[1] if record.offset >= position]
            else:
                losses.damaged(EVENTS, info, "start")
            position = info.end
    return ids
