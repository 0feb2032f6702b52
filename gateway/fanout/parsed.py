"""An event's bytes read once for the filters of all subscribers.

Subscribers are given the same records one after the other, a batch each: what is kept here is at least a batch, so that
the second one and all that follow find everything.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.event import parse

#: Events kept: two batches of the shared reading. More would only cost memory (some kilobytes each).
_MAX_EVENTS: Final = 1024
#: Bytes of their values: what is parsed takes several times as much.
_MAX_BYTES: Final = 8 * 1024 * 1024


class ParsedEvents:
    """Remembers what it has parsed, within bounds; at a bound it forgets all of it, which costs one parsing each."""

    __slots__ = ("_bytes", "_events")

    def __init__(self) -> None:
        self._events: dict[bytes, dict[str, Any]] = {}
        self._bytes = 0

    def get(self, value: bytes) -> dict[str, Any]:
        """Return the members of an event, not to be changed.

        Args:
            value: the event's bytes. The same object is found quickest: its hash is known, and nothing is compared.

        Raises:
            NotAnEvent: see :func:`gateway.event.parse`.
        """
        found = self._events.get(value)
        if found is None:
            found = parse(value)
            if len(self._events) >= _MAX_EVENTS or self._bytes + len(value) > _MAX_BYTES:
                self._events.clear()
                self._bytes = 0
            self._events[value] = found
            self._bytes += len(value)
        return found


#: Of this process: filters are compiled in several places, and all of them look at the same events.
EVENTS: Final = ParsedEvents()
