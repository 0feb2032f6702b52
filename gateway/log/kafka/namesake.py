"""Detection of another process with the same ``group.instance.id``, and of its end.

Kafka does not report why it does not know a member. A guess must not be reported as a fact, so the group's members are
requested: the subscription of a member with the same id names its process.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from gateway.log.kafka.errors import INSTANCE_IN_USE, KafkaAway, Problem
from gateway.log.kafka.membership import process_of
from gateway.log.kafka.offsets import OffsetClient

#: Between checks whether the other process still exists.
_LOOK_S: Final = 5.0
#: Between checks whether the group has assigned its partitions: before that Kafka returns no subscriptions.
_DEALT_S: Final = 0.2
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
        #: Whether another process was seen, and its end was not.
        self.is_there = False

    @property
    def problem(self) -> Problem:
        """The problem to report while it exists."""
        return Problem(INSTANCE_IN_USE, f"another process reads with kafka.instance_id {self._instance_id}")

    async def appears(self, within_s: float) -> bool:
        """Return whether there is one; False also if Kafka does not answer it within ``within_s`` seconds."""
        with suppress(KafkaAway, TimeoutError):
            async with asyncio.timeout(within_s):
                found = await self._find()
                while found is None:
                    await asyncio.sleep(_DEALT_S)
                    found = await self._find()
                self.is_there = found
                self._look_at = time.monotonic() + _LOOK_S
        return self.is_there

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
