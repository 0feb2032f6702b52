"""Whether another subscriber waits behind a full window: read once, without a cursor, and stored nowhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.clock import Clock
from gateway.fanout import retry_records
from gateway.fanout.scan import has_more
from gateway.log import EventLog

#: How long the window is full before the first look, and between two looks.
_PATIENCE_S: Final = 2.0
_FETCH_RECORDS: Final = 500
_FETCH_WAIT_S: Final = 1.0
#: Records read at once. A subscriber whose events are further back is found when the window has moved.
_MAX_RECORDS: Final = 100_000


class Ahead:
    """Knows who waits behind the window of one topic."""

    def __init__(self, log: EventLog, topic: str, clock: Clock) -> None:
        self._log = log
        self._topic = topic
        self._clock = clock
        self._full_since: float | None = None
        self._waiting_at: dict[str, int] = {}

    def is_waited_for(self, nexts: Mapping[str, int]) -> bool:
        """Return whether subscribers are known to wait behind these places, by partition."""
        return any(nexts.get(name, offset + 1) <= offset for name, offset in self._waiting_at.items())

    async def look(self, nexts: Mapping[str, int], is_held: Callable[[str], bool], *, is_full: bool) -> None:
        """Look for subscribers that wait, if the window has been full for :data:`_PATIENCE_S`.

        Raises:
            Transient: the log cannot be read now.
        """
        now = self._clock.monotonic()
        if not is_full or self.is_waited_for(nexts):
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since >= _PATIENCE_S:
            self._full_since = now
            self._waiting_at = await look_ahead(self._log, self._topic, nexts, self._clock.now(), is_held)


async def look_ahead(
    log: EventLog, topic: str, nexts: Mapping[str, int], now: float, is_held: Callable[[str], bool]
) -> dict[str, int]:
    """Return the last place, by partition, of an event that is due and whose subscriber has none in the window.

    Args:
        nexts: where the window ends, by partition.
        now: Unix seconds.
        is_held: whether a subscriber has events in the window.

    Raises:
        Transient: the log cannot be read now.
    """
    found: dict[str, int] = {}
    reader = await log.browse(f"scan.{topic}", [topic], start="earliest")
    try:
        ends = {name: end for name, end in (await reader.ends()).items() if nexts.get(name, end) < end}
        reader.pause([name for name in await reader.ends() if name not in ends])
        for name in ends:
            await reader.seek(name, nexts[name])
        looked_at = 0
        while looked_at < _MAX_RECORDS and await has_more(reader, ends):
            records = await reader.fetch(max_records=_FETCH_RECORDS, wait_s=_FETCH_WAIT_S)
            if not records:
                break
            looked_at += len(records)
            for record in records:
                parked = retry_records.read(record)
                if parked.due <= now and not is_held(parked.subscriber):
                    found[record.partition] = record.offset
    finally:
        await reader.close()
    return found
