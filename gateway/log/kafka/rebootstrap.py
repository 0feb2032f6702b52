"""Whether Kafka is unavailable to a client, or has only moved from the addresses that the client knows.

aiokafka learns the brokers' addresses once and does not use the bootstrap servers again; for a client of a cluster that
moved to new addresses, Kafka would be unavailable for ever (the subject of KIP-899). So when a client has had no
connection for a long time, a new client checks whether it can connect, and since when.
"""

from __future__ import annotations

import asyncio

from gateway.log.kafka import topics
from gateway.log.kafka.options import KafkaOptions


class Staleness:
    """Decides whether one client must be replaced.

    Args:
        away_s: no check before this time: most outages are shorter.
        grace_s: time that the old client has after a new one can connect. It is longer than a request whose connection
            died silently: giving a producer up too early repeats the records that it had sent.
    """

    def __init__(self, options: KafkaOptions, *, away_s: float, grace_s: float) -> None:
        self._options = options
        self._away_s = away_s
        self._grace_s = grace_s
        self._probe: asyncio.Task[bool] | None = None
        self._reachable_since: float | None = None

    def is_stale(self, away_s: float, now: float) -> bool:
        """Return whether to replace the client; called regularly while it has no connection.

        Args:
            away_s: seconds without a connection.
            now: monotonic seconds.
        """
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
        """Start again for a new client."""
        self._reachable_since = None

    def stop(self) -> None:
        """Stop the checks."""
        if self._probe is not None:
            self._probe.cancel()
