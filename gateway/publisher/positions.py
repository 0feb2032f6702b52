"""Positions of the publisher in the journal: one for each topic, and the oldest of all.

======================  ==================================================================================
``publisher.<topic>``   Kafka has acknowledged all records of this topic below it
``publisher``           of all topics: the oldest of those positions. The journal protects it: records that
                        it has not passed never expire
======================  ==================================================================================

A topic gets its position before anything of the journal that holds a record of it is handed to any cursor, and durably
so. Therefore a topic that has none has no record below the foremost position of all, and begins there. What an older
version left is the position ``publisher`` alone, below which everything is in Kafka, so that all topics begin there. An
older version that follows begins at the oldest position: it repeats, and loses nothing.

Topics that are in the configuration no more keep their positions, and what is left of them is published.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from gateway.log.journal import EVENTS

#: Name of the oldest position.
GROUP: Final = "publisher"
_PREFIX: Final = f"{GROUP}."

#: Offsets by (group, stream), as the journal keeps them.
Positions = Mapping[tuple[str, str], int]


def cursor_name(topic: str) -> str:
    """Return the name of a topic's position."""
    return _PREFIX + topic


def starts(positions: Positions, topics: Collection[str], floor: int) -> dict[str, int]:
    """Return where each topic begins: those of the configuration, and all that were published before.

    Args:
        positions: of the journal.
        topics: of the configuration.
        floor: the first offset that the journal keeps.
    """
    oldest = positions.get((GROUP, EVENTS), floor)
    known = {
        name.removeprefix(_PREFIX): max(position, oldest)
        for (name, stream), position in positions.items()
        if stream == EVENTS and name.startswith(_PREFIX)
    }
    foremost = max(known.values(), default=oldest)
    return dict.fromkeys(topics, foremost) | known


def is_published(positions: Positions, topic: str, offset: int) -> bool:
    """Return whether Kafka has acknowledged the record of a topic at an offset."""
    position = positions.get((cursor_name(topic), EVENTS), positions.get((GROUP, EVENTS), 0))
    return offset < position
