"""What became of the events of a feed at one subscriber: pauses of keys, repeats, order, what is missing. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.receiver import Attempt


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Attempts at one subscriber, beside what it was to get.

    Args:
        given: monotonic time at which each event came, by its number.
        keys: event ``n`` has key ``n % keys``.
        attempts: in any order.
    """

    given: Sequence[float]
    keys: int
    attempts: Sequence[Attempt]

    def within(self, begin: float, end: float) -> Deliveries:
        """Return the same with the attempts that began in a time."""
        return Deliveries(self.given, self.keys, [one for one in self.attempts if begin <= one.begun < end])

    def lost(self) -> int:
        """Return how many events never came."""
        return len(self.given) - len({one.number for one in self.attempts})

    def repeats(self) -> int:
        """Return how many attempts were not the first of their event."""
        return len(self.attempts) - len({one.number for one in self.attempts})

    def out_of_order(self) -> int:
        """Return how many events came first after a later one of their key."""
        count = 0
        for attempts in self._by_key().values():
            last = -1
            for one in attempts:
                count += one.number < last
                last = max(last, one.number)
        return count

    def in_flight_twice(self) -> int:
        """Return how many attempts began while another one of the key was under way."""
        count, by_key = 0, defaultdict(list)
        for one in self.attempts:
            by_key[one.number % self.keys].append(one)
        for attempts in by_key.values():
            until = 0.0
            for one in sorted(attempts, key=lambda one: one.begun):
                count += one.begun < until
                until = max(until, one.ended)
        return count

    def pauses(self, begin: float, end: float) -> list[float]:
        """Return the longest pause of each key in a time, in seconds.

        A key pauses while an event of it waits and the one before is done. A pause counts as far as it is in the time.
        """
        return [self._pause(attempts, begin, end) for attempts in self._by_key().values()]

    def _pause(self, attempts: Sequence[Attempt], begin: float, end: float) -> float:
        longest, before = 0.0, begin
        for one in attempts:
            since = max(before, self.given[one.number], begin)
            longest = max(longest, min(one.begun, end) - since)
            before = max(before, one.ended)
        return longest

    def _by_key(self) -> Mapping[int, list[Attempt]]:
        """First attempts by key, as they began."""
        found: dict[int, list[Attempt]] = {key: [] for key in range(self.keys)}
        seen: set[int] = set()
        for one in sorted(self.attempts, key=lambda one: one.begun):
            if one.number not in seen:
                seen.add(one.number)
                found[one.number % self.keys].append(one)
        return found


def summary(all_of: Sequence[Deliveries], begin: float, end: float) -> dict[str, Any]:
    """Return the figures of a time, over several subscribers."""
    pauses = sorted(pause for one in all_of for pause in one.pauses(begin, end))
    parts = [one.within(begin, end) for one in all_of]
    before = [one.within(0.0, begin) for one in all_of]
    return {
        "pause_median_s": round(pauses[len(pauses) // 2], 2),
        "pause_max_s": round(pauses[-1], 2),
        "repeats": sum(one.within(0.0, end).repeats() for one in all_of) - sum(one.repeats() for one in before),
        "out_of_order": sum(one.within(0.0, end).out_of_order() for one in all_of)
        - sum(one.out_of_order() for one in before),
        "in_flight_twice": sum(part.in_flight_twice() for part in parts),
    }
