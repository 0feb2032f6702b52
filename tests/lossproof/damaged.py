"""Which events the journal itself named as damaged, after the test had flipped a bit: those alone may be missing.

The gateway names damage in three ways, and each is held against a copy of the journal from before the flip:

* ``journal.damaged`` of its log: offsets of a row whose checksum is wrong. What stood at them is excused;
* ``journal.commits_lost`` of its log: how many commits stand behind a bad page of the WAL. What recovery dropped is
  excused if it is no more rows than those commits and the one that the bad page belongs to;
* ``gateway journal check`` (here: its function): offsets that cannot be read. What was delivered long ago is read by
  nobody any more, so this alone excuses an event's absence from the log, and not its absence at a subscriber.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.log.journal.check import check
from tests.lossproof import stored
from tests.lossproof.callbacks import Item

Told = Callable[[str], list[dict[str, Any]]]

_EVENTS = "events"


@dataclass(slots=True)
class Damaged:
    """What stood where, and what of it was named.

    Args:
        in_log: may be missing in the log.
        at_subscribers: may be missing there, too.
    """

    in_log: set[Item] = field(default_factory=set)
    at_subscribers: set[Item] = field(default_factory=set)
    #: An offset is given anew when the commits behind it were dropped.
    _stood: defaultdict[int, set[Item]] = field(default_factory=lambda: defaultdict(set))
    _missing: list[stored.Row] = field(default_factory=list)
    _commits_told: int = 0

    def saw(self, sound: Path, flipped: Path) -> None:
        """A bit was flipped: the journal before, and after."""
        before, after = stored.rows(sound), set[int]()
        named = check(flipped).damages  # before anything else opens the copy: closing it folds the WAL into the file
        with suppress(sqlite3.DatabaseError):  # then it has to be salvaged
            after = {row.first for row in stored.rows(flipped)}
        for row in before:
            for offset, arrival in enumerate(row.arrivals, row.first):
                if arrival.item is not None:
                    self._stood[offset].add(arrival.item)
        self._missing = [row for row in before if row.first not in after]
        for damage in named:
            if damage.stream == _EVENTS:
                self.in_log |= self._at(damage.first, damage.last)

    def dropped(self, told: Told) -> list[str]:
        """The WAL was cut at the bad page: as many commits as the gateway's log says. Breaches, one sentence each."""
        commits = sum(int(line["commits"]) for name in ("journal.commits_lost", "journal.commit_dropped")
                      for line in told(name))  # fmt: skip
        new, self._commits_told = commits - self._commits_told, commits
        if not new:
            return ["a bit was flipped in the WAL and nothing was said"]
        if len(self._missing) > new + 1:
            return [f"{len(self._missing)} commits are missing, and the gateway said {new} and the damaged one"]
        gone = {arrival.item for row in self._missing for arrival in row.arrivals if arrival.item is not None}
        self.in_log |= gone
        self.at_subscribers |= gone
        return []

    def salvaged(self, flipped: Path) -> None:
        """The gateway refused to start, and what could be read was copied out: what ``salvage`` names is gone."""
        for damage in check(flipped).damages:
            if damage.stream == _EVENTS:
                self.at_subscribers |= self._at(damage.first, damage.last)

    def read(self, told: Told) -> None:
        """At the end: the rows that the gateway met and named."""
        for line in told("journal.damaged"):
            if line["stream"] == _EVENTS and line["count"] == line["last"] - line["first"] + 1:
                named = self._at(line["first"], line["last"])
                self.in_log |= named
                self.at_subscribers |= named

    def covers(self, item: Item, where: str) -> bool:
        """Return whether the journal named this loss."""
        return item in (self.at_subscribers if where else self.in_log)

    def _at(self, first: int, last: int) -> set[Item]:
        return set().union(*(self._stood[offset] for offset in _known(self._stood, first, last)))


def _known(stood: dict[int, set[Item]], first: int, last: int) -> Iterable[int]:
    return (offset for offset in range(first, last + 1) if offset in stood)
