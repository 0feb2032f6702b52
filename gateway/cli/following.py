"""Read the journal's file while a gateway uses it, or after it has stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.log import Record
from gateway.log.journal import EVENTS
from gateway.log.journal.batch_format import stream_of
from gateway.log.journal.storage import Store

#: Some thousand events at once.
_CHUNK_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Damaged:
    """Records that are not what was written."""

    stream: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.stream} offsets {self.first} to {self.last} are damaged"


def follow(
    folder: Path, topic: str | None, since: float | None, wait: Callable[[], object] | None
) -> Iterator[Record | Damaged]:
    """Yield records of one stream in order, forever or to the end.

    Args:
        folder: the journal's.
        topic: decides the stream: internal topics have one each; None is vendor events. Other topics come along.
        since: Unix seconds of the first record wanted; None begins behind the newest.
        wait: called when there is nothing new; None ends instead.

    Raises:
        JournalUnavailable, JournalDamaged: the file cannot be read.
    """
    store = Store(folder, is_writer=False)
    name = stream_of(topic) if topic is not None else EVENTS
    try:
        stream = store.streams.get(name)
        position = store.offset_at(name, since) if since is not None else stream.head if stream else 0
        while True:
            store.refresh()
            found = store.read(name, position, _CHUNK_BYTES)
            for base, end, records in found:
                if records is None:
                    yield Damaged(name, base, end - 1)
                else:
                    yield from (record for record in records if record.offset >= position)
                position = end
            if found:
                continue
            if wait is None:
                return
            wait()
    finally:
        store.close()
