"""Which events an operator destroyed with the journal that held them: those alone may be missing.

Files that are removed under a running gateway are not found by its next start. What was accepted and neither delivered
nor published by then is destroyed; so is what the gateway accepted until it noticed. A callback that was answered with
success once more after that is not excused: its sender was told that it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.lossproof.callbacks import Item, callback
from tests.lossproof.history import Told


class Removal(NamedTuple):
    """One journal that no start will find again. Microseconds of the history.

    Args:
        since: everything accepted before it had arrived everywhere when the files were removed.
        until: the gateway had noticed, and accepted nothing any more.
    """

    since: int
    until: int


@dataclass(slots=True)
class Destroyed:
    """The journals that were destroyed, and what was in them.

    Args:
        is_the_log: the journal is the log itself (no Kafka), so that delivered events are gone from it, too.
    """

    is_the_log: bool = False
    removals: list[Removal] = field(default_factory=list)
    in_log: set[Item] = field(default_factory=set)
    at_subscribers: set[Item] = field(default_factory=set)

    def read(self, history: Mapping[int, Told]) -> None:
        """Find the callbacks whose last answer of success came while a journal was there that is gone."""
        if not self.removals:
            return
        newest = max(removal.until for removal in self.removals)
        for number, told in history.items():
            wanted = callback(number)
            at = told.last_answered_at(wanted.status)
            if at is None or at > newest:
                continue
            items = [Item(number, place) for place in range(len(wanted.expected))]
            was_under_way = any(since <= at <= until for since, until in self.removals)
            if was_under_way:
                self.at_subscribers.update(items)
            if was_under_way or self.is_the_log:
                self.in_log.update(items)

    def covers(self, item: Item, where: str) -> bool:
        """Return whether this loss was destroyed with a journal."""
        return item in (self.at_subscribers if where else self.in_log)
