"""Another process with our ``group.instance.id``: whether there is one, as Kafka says it, and until when.

Kafka does not tell a member why it does not know it. A guess must not be reported as a fact, so the group's members are
looked at: those of our id say in their subscription which process they are of.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from gateway.log.kafka.errors import INSTANCE_IN_USE, KafkaAway, Problem
from gateway.log.kafka.membership import process_of
from gateway.log.kafka.offsets import OffsetClient

#: Between looks whether the other process is still there.
_LOOK_S: Final = 5.0
#: Between looks whether the group has dealt its partitions: before that Kafka shows no subscriptions.
_DEALT_S: Final = 0.2
#: A static member's id is its instance id, a hyphen and a UUID.
_UUID_LENGTH: Final = 37


class Namesake:
    """Of one reader.

    Args:
        process: what this process is called in subscriptions.
    """

    def __init__(self, offsets: OffsetClient, group: str, instance_id: str, process: str) -> None:
        self._offsets = offsets
        self._group = group
        self._instance_id = instance_id
        self._process = process
        self._look_at = 0.0
        #: Whether another process was seen, and not yet that it has gone.
        self.is_there = False

    @property
    def problem(self) -> Problem:
        """What to report while it is there."""
        return Problem(INSTANCE_IN_USE, f"another process reads with kafka.instance_id {self._instance_id}")

    async def appears(self, within_s: float) -> bool:
        """Look whether there is one; returns False, too, when Kafka does not say it within ``within_s`` seconds."""
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
        """Look, now and then, whether it has gone.

        Raises:
            KafkaAway: Kafka cannot be asked now.
        """
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self.is_there = await self._find() is not False
        return not self.is_there

    async def _find(self) -> bool | None:
        """Return whether a member of another process has our id; None while Kafka does not say of which it is.

        Raises:
            KafkaAway: no answer.
        """
        members = await self._offsets.members(self._group)
        ours = [said for member, said in members.items() if member[:-_UUID_LENGTH] == self._instance_id]
        if any(said and process_of(said) != self._process for said in ours):
            return True
        return False if all(ours) else None
