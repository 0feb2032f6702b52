"""Numbers of the readers of Kafka."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReaderPolicy:
    """Numbers of a reader.

    Args:
        session_s: without a heartbeat for this long a member counts as dead, and its partitions go to others.
        beat_s: between heartbeats: the group stands still until the last member has noticed that it must join again.
            Two small requests a second, for all subscribers.
        regroup_s: the group waits this long for a member to join again; less than a request may take.
        revoke_s: for ``on_revoked``, which its owner bounds to 3.8 s.
        join_s: joining waits so long for partitions, then goes on without.
        request_s: for one offset look-up or seek.
        probe_s: an idle reader makes sure of Kafka after this.
        rebootstrap_s: away for this long while a fresh client gets through: the consumer is replaced.
        close_s: for aiokafka's stop, which waits for others while the group assigns partitions.
        cut_s: for what that stop left undone.
    """

    session_s: float = 15.0
    beat_s: float = 0.5
    regroup_s: float = 8.0
    revoke_s: float = 4.0
    join_s: float = 50.0
    request_s: float = 10.0
    probe_s: float = 10.0
    rebootstrap_s: float = 60.0
    close_s: float = 4.0
    cut_s: float = 2.0
    fetch_max_bytes: int = 4 * 1024 * 1024
    max_partition_fetch_bytes: int = 1024 * 1024

    @property
    def lease_s(self) -> float:
        """So long after its last heartbeat a member gives its partitions up: before the group gives them to others.

        Attempts that must be cancelled then take up to two seconds, and so does whoever gets the partitions until it
        makes its first. Much earlier, and a coordinator that dies (nine seconds until another takes its place) would
        have every process give up what it has.
        """
        return max(self.session_s * 0.8, self.session_s - 1.0)
