"""Limits and times of the readers of Kafka."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReaderPolicy:
    """Times of a reader, in seconds.

    Args:
        session_s: without a heartbeat for this long a member counts as dead, and others get its partitions.
        beat_s: between heartbeats: the group pauses until the last member has noticed that it must join again. Two
            small requests a second, for all subscribers.
        regroup_s: the group waits this long for a member to join again; less than the limit of a request.
        revoke_s: for ``on_revoked``, which its owner limits to 3.8 s.
        join_s: joining waits so long for partitions, then continues without.
        request_s: for one offset look-up or seek.
        probe_s: an idle reader checks after this time that Kafka is available.
        rebootstrap_s: unavailable for this long while a new client can connect: the consumer is replaced.
        close_s: for aiokafka's stop, which waits for others while the group assigns partitions.
        cut_s: for the work that this stop did not finish.
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
        """Time after its last heartbeat at which a member releases its partitions: before the group reassigns them.

        Cancelling attempts needs up to two seconds then, and the next owner of the partitions needs as long until its
        first attempt. If it were much earlier, all processes would release their partitions when a coordinator dies
        (nine seconds until another one replaces it).
        """
        return max(self.session_s * 0.8, self.session_s - 1.0)
