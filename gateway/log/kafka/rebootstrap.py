"""Is a client away from Kafka, or only from the addresses that it remembers?

aiokafka learns the brokers' addresses once and never asks the bootstrap servers again; for one that was connected to a
cluster that moved to new addresses, Kafka would be away for ever (what KIP-899 is about). So when a client has been
away for long, we look whether a fresh one gets through, and for how long already.
"""

from __future__ import annotations

import asyncio

from gateway.log.kafka import topics
from gateway.log.kafka.options import KafkaOptions


class Staleness:
    """The judgement on one client.

    Args:
        away_s: before that no look is taken: most outages are shorter.
        grace_s: the old client may take so long after a fresh one gets through. As long as a request takes whose
            connection died silently, and more: giving a producer up too early repeats what it had sent.
    """

    def __init__(self, options: KafkaOptions, *, away_s: float, grace_s: float) -> None:
        self._options = options
        self._away_s = away_s
        self._grace_s = grace_s
        self._probe: asyncio.Task[bool] | None = None
        self._reachable_since: float | None = None

    def is_stale(self, away_s: float, now: float) -> bool:
        """Asked regularly while the client is away: whether to replace it."""
        if away_s < self._away_s:
            self._reachable_since = None
            return False
        if self._probe is None:
            self._probe = asyncio.create_task(topics.is_reachable(self._options), name="kafka-probe")
        elif self._probe.done():
            is_reachable = not self._probe.cancelled() and self._probe.result()
            self._probe = None
            self._reachable_since = (self._reachable_since or now) if is_reachable else None
        return self._reachable_since is not None and now - self._reachable_since > self._grace_s

    def reset(self) -> None:
        """There is a new client."""
        self._reachable_since = None

    def stop(self) -> None:
        """No more looks."""
        if self._probe is not None:
            self._probe.cancel()
