"""The complete end of an aiokafka consumer.

aiokafka's ``stop()`` waits for the end of a rebalance, which may take as long as other members settle. A cancelled stop
leaves its heartbeats running: a member that does not answer, for which its group waits during the whole time-out of the
rebalance. So this module does the work that a stop did not finish, by the private names of aiokafka 0.14.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.group import LeaveGroupRequest

from gateway.log.kafka.options import within


async def end(consumer: Any, stop_s: float, cut_s: float) -> None:
    """Stop a consumer, started or not; raises nothing.

    Args:
        consumer: aiokafka's.
        stop_s: for aiokafka's own stop.
        cut_s: for the remaining work if that stop did not end: half of it to leave the group, half to close
            connections. A member whose request to leave has no answer by then leaves when its session is over.
    """
    if await within(stop_s, consumer.stop()):
        return
    if isinstance(consumer._coordinator, GroupCoordinator):
        await within(cut_s / 2, _leave(consumer._coordinator, consumer._client))
    if consumer._fetcher is not None:
        await within(cut_s / 4, consumer._fetcher.close())
    await within(cut_s / 4, consumer._client.close())


async def _leave(coordinator: Any, client: Any) -> None:
    """Stop heartbeats and leave the group."""
    coordinator._coordination_task.cancel()
    await asyncio.wait([coordinator._coordination_task])
    await coordinator._stop_heartbeat_task()
    await coordinator._stop_commit_offsets_refresh_task()
    if coordinator.member_id and coordinator.coordinator_id is not None:
        # By the other connection: on the coordinator's own a request to join may wait for its answer, and a broker
        # takes one request of a connection at a time. Nor by aiokafka's own good-bye, which spares the first join.
        good_bye = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
        await client.send(coordinator.coordinator_id, good_bye)
