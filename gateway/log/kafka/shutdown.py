"""The end of an aiokafka consumer, of which nothing may live on.

aiokafka's ``stop()`` waits for a rebalance to end, which may take as long as others settle. Cut short it leaves its
heartbeats behind: a member that answers nothing, and for which its group waits for all of the rebalance's time-out. So
what a stop did not come to is done here, by aiokafka 0.14's inner names.
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
        stop_s: for aiokafka's own stop.
        cut_s: for the rest, should it not have ended: half of it to leave the group, half to close connections. One
            whose good-bye the broker does not take in that time is out of the group when its session is over.
    """
    if await within(stop_s, consumer.stop()):
        return
    if isinstance(consumer._coordinator, GroupCoordinator):
        await within(cut_s / 2, _leave(consumer._coordinator, consumer._client))
    if consumer._fetcher is not None:
        await within(cut_s / 4, consumer._fetcher.close())
    await within(cut_s / 4, consumer._client.close())


async def _leave(coordinator: Any, client: Any) -> None:
    """No more heartbeats, and good-bye to the group."""
    coordinator._coordination_task.cancel()
    await asyncio.wait([coordinator._coordination_task])
    await coordinator._stop_heartbeat_task()
    await coordinator._stop_commit_offsets_refresh_task()
    if coordinator.member_id and coordinator.coordinator_id is not None:
        # By the other connection: on the coordinator's own a request to join may wait for its answer, and a broker
        # takes one request of a connection at a time. Nor by aiokafka's own good-bye, which spares the first join.
        good_bye = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
        await client.send(coordinator.coordinator_id, good_bye)
