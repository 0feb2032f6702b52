"""A stretch of the log, read once: all of it, or an error."""

from __future__ import annotations

import pytest

from gateway.errors import Transient
from gateway.fanout.scan import scan
from gateway.log import Batch
from tests.fanout.events import entries, entry
from tests.fanout.memory_log import MemoryLog, MemoryReader


async def found(log: MemoryLog, since: float = 0.0, until: float = 10.0**10) -> list[int]:
    return [int(record.id, 16) async for record in scan(log, "scan.x", ["sms.dr"], since=since, until=until)]


async def test_it_finds_what_came_out_of_the_order_of_time() -> None:
    """A machine that was cut off publishes late, with the times of then: that is found behind what is too new."""
    now = [0.0]
    log = MemoryLog(now=lambda: now[0])
    for number, at in enumerate((1001, 1005, 1009, 1002, 1004, 1006), start=1):
        now[0] = float(at)
        await log.append([entry(number)])
    assert await found(log, 1000.0, 1008.0) == [1, 2, 4, 5, 6]


async def test_it_ends_where_the_log_ended_when_it_began() -> None:
    """A log that is written faster than it is read does not keep a scan for ever."""
    log = MemoryLog()
    await log.append(entries(5))
    seen = []
    async for record in scan(log, "scan.x", ["sms.dr"], until=10.0**10):
        seen.append(record.id)
        await log.append([entry(100 + len(seen))])
    assert len(seen) == 5


class Silent(MemoryReader):
    has_answered = False

    async def fetch(self, *, max_records: int, wait_s: float) -> Batch:
        if self.has_answered:
            return Batch()
        self.has_answered = True
        return await super().fetch(max_records=3, wait_s=wait_s)


async def test_silence_before_the_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of what is there never looks like all of it."""
    log = MemoryLog()
    await log.append(entries(5))
    seen = []
    monkeypatch.setattr("tests.fanout.memory_log.MemoryReader", Silent)
    with pytest.raises(Transient, match="there is more to come"):
        async for record in scan(log, "scan.x", ["sms.dr"], until=10.0**10, silence_s=0.05):
            seen.append(record.id)  # noqa: PERF401  # what came before the error counts
    assert len(seen) == 3


async def test_several_at_a_time_each_find_everything() -> None:
    """Two people who ask the same do not get a half each."""
    log = MemoryLog(partitions=3)
    await log.append(entries(30, 30))
    other = scan(log, "scan.x", ["sms.dr"], until=10.0**10)
    await anext(other)
    assert len(await found(log)) == 30
    assert len([record async for record in other]) == 29
