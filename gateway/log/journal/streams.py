"""Which stream of the journal holds a topic, and how stream and offset make the number of a row."""

from __future__ import annotations

from typing import Final

#: The stream of all vendor events, whatever their topic: they share one order and one commit.
EVENTS: Final = "events"
#: Topics that get a stream of their own; ``internal.`` are those that :mod:`gateway.log.journal.inspection` names.
INTERNAL: Final = ("retry.", "dlq.", "replay.", "fanout.", "internal.")
#: Of these the last record of a key counts, whatever its age: they are kept for :data:`KEPT_S`, and never make room.
#: Their writers write records again that are older than a part of that time.
KEPT: Final = frozenset({"fanout.subscribers"})
#: A gateway that is switched on once a year has its subscribers. Ten times more would keep each change ever made.
KEPT_S: Final = 365 * 86400.0
#: Another such topic, shared by all subscribers.
REPLAY: Final = "replay"

#: 2^44 records in one stream is 500 years at a thousand a second; 2^19 streams are left.
SHIFT: Final = 44
MASK: Final = (1 << SHIFT) - 1


def stream_of(topic: str) -> str:
    """The stream that holds a topic: internal topics have one each, vendor events share one."""
    return topic if topic.startswith(INTERNAL) or topic == REPLAY else EVENTS
