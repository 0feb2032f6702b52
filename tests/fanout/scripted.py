"""A sink whose answers the test gives, for time that only a manual clock can let pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.fanout.attempt import AttemptResult
from gateway.log import Record

OK = AttemptResult(200)
DOWN = AttemptResult(error="connect", detail="nobody there")


@dataclass(eq=False)
class Asked:
    record: Record
    answer: asyncio.Future[AttemptResult] = field(repr=False)


class ScriptedSink:
    """With ``answer`` set, answers at once; without, the test answers each :class:`Asked` itself."""

    def __init__(self, answer: Callable[[Record], AttemptResult] | None = None) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.attempts = 0
        self.delivered: list[Record] = []

    async def attempt(self, record: Record, *, is_replay: bool) -> AttemptResult:
        self.attempts += 1
        if self.answer is not None:
            result = self.answer(record)
        else:
            asked = Asked(record, asyncio.get_running_loop().create_future())
            self.asked.append(asked)
            try:
                result = await asked.answer
            finally:
                self.asked.remove(asked)
        if result.is_success:
            self.delivered.append(record)
        return result

    async def close(self) -> None:
        pass
