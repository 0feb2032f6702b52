"""Detection of another process with the same ``group.instance.id``, and of its end.

Kafka does not report why it does not know a member. A guess must not be reported as a fact, so the group's members are
requested: the subscription of a member with the same id names its process.
"""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import suppress
from typing import Final

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from gateway.log.kafka.errors import INSTANCE_IN_USE, KafkaAway, Problem
from gateway.log.kafka.offsets import OffsetClient

#: Between checks whether the other process still exists.
_LOOK_S: Final = 5.0
#: Between checks whether the group has assigned its partitions: before that Kafka returns no subscriptions.
_DEALT_S: Final = 0.2
#: Between the number that changes and the name of the process, in a subscription.
MARK: Final = b" "
#: A static member's id is its instance id, a hyphen and a UUID.
_UUID_LENGTH: Final = 37


class Namesake:
    """Detects it for one reader.

    Args:
        process: the name of this process in subscriptions.
    """

    def __init__(self, offsets: OffsetClient, group: str, instance_id: str, process: str) -> None:
        self._offsets = offsets
        self._group = group
        self._instance_id = instance_id
        self._process = process
        self._look_at = 0.0
        #: The member id that Kafka gave to this process last; empty before it first joins.
        self.member_id = ""
        #: Whether another process was seen, and its end was not.
        self.is_there = False

    @property
    def problem(self) -> Problem:
        """The problem to report while it exists."""
        return Problem(INSTANCE_IN_USE, f"another process reads with kafka.instance_id {self._instance_id}")

    async def appears(self) -> bool:
        """Return whether there is one, as soon as Kafka says it.

        While the group assigns its partitions Kafka does not, also if the member is a late join of this process; the
        time-out of the rebalance ends that.
        """
        while True:
            with suppress(KafkaAway):
                if (found := await self._find()) is not None:
                    self.is_there = found
                    self._look_at = time.monotonic() + _LOOK_S
                    return found
            await asyncio.sleep(_DEALT_S)

    async def is_gone(self) -> bool:
        """Return whether it is gone; checked now and then.

        Raises:
            KafkaAway: Kafka does not answer now.
        """
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self.is_there = await self._find() is not False
        return not self.is_there

    async def _find(self) -> bool | None:
        """Return whether a member of another process has the same id; None while Kafka does not return its process.

        Raises:
            KafkaAway: no answer.
        """
        members = await self._offsets.members(self._group)
        ours = [said for member, said in members.items() if member[:-_UUID_LENGTH] == self._instance_id]
        if any(said and process_of(said) != self._process for said in ours):
            return True
        return False if all(ours) else None


def process_of(subscription: bytes) -> str:
    """Return the process of a member from its subscription; empty if it names none."""
    try:
        user_data = ConsumerProtocolMemberMetadata.decode(subscription).user_data
    except (ValueError, struct.error):  # another client's, or none while the group assigns its partitions
        return ""
    return (user_data or b"").partition(MARK)[2].decode(errors="replace")
