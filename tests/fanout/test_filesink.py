from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from gateway.fanout.clock import SystemClock
from gateway.fanout.filesink import FileSink
from gateway.fanout.transform import Transform
from gateway.log import Record
from tests.fanout.events import entries, in_order
from tests.fanout.memory_log import MemoryLog
from tests.fanout.running import make, plan
from tests.fanout.test_reader import until

GROUP = "gateway.billing"


def sink(path: Path, **options: object) -> FileSink:
    return FileSink(str(path), **{"max_bytes": 10**6, "keep": 3, "clock": SystemClock(), **options})  # type: ignore[arg-type]


def records(count: int) -> list[Record]:
    return [Record("p", at, 0.0, *one) for at, one in enumerate(entries(count))]


def _lines(folder: Path) -> dict[str, int]:
    return {file.name: len(file.read_bytes().splitlines()) for file in folder.iterdir()}


def _sizes(folder: Path) -> list[int]:
    return [file.stat().st_size for file in folder.iterdir()]


async def test_every_event_is_a_line_in_order_per_key(tmp_path: Path) -> None:
    """A file is a subscriber like any other: everything, once, in order, committed when it is on disk."""
    log = MemoryLog()
    await log.append(entries(500, 20))
    path = tmp_path / "out" / "events.jsonl"
    reader = make(log, sink(path), plan())
    reader.start()
    await until(lambda: log.committed.get((GROUP, "events-0")) == 500)
    await reader.stop(1.0)
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    numbers: dict[str, list[int]] = {}
    for event in lines:
        numbers.setdefault(event["partitionkey"], []).append(event["data"]["number"])
    assert len(lines) == 500
    assert in_order(numbers)


async def test_full_files_are_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    """No file above its size, no more files than asked for, and the newest events are there."""
    path = tmp_path / "events.jsonl"
    size = len(records(23)[-1].value) + 1
    one = sink(path, max_bytes=size * 5, keep=2, transform=None)
    for record in records(23):
        await one.attempt(record, is_replay=False)
    await one.close()
    assert _lines(tmp_path) == {"events.jsonl": 3, "events.jsonl.1": 5, "events.jsonl.2": 5}
    assert max(_sizes(tmp_path)) <= size * 5


async def test_a_line_cut_off_by_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    """What a crash left without a line break gets one before the next event."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"id":"half')
    one = sink(path)
    await one.attempt(records(1)[0], is_replay=False)
    await one.close()
    assert path.read_bytes().splitlines() == [b'{"id":"half', records(1)[0].value]


async def test_attempts_share_writes(tmp_path: Path) -> None:
    """Events that come together are written together, each with its own outcome."""
    one = sink(tmp_path / "events.jsonl", transform=Transform(include=["data.number"]))
    results = await asyncio.gather(*(one.attempt(record, is_replay=False) for record in records(50)))
    await one.close()
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert {result.status for result in results} == {200}
    assert [orjson.loads(line)["data"] for line in lines] == [{"number": number} for number in range(1, 51)]


async def test_a_disk_that_refuses_is_a_failed_attempt(tmp_path: Path) -> None:
    """It is retried like any other, and nothing is taken for written."""
    (tmp_path / "taken").write_text("a file, not a folder")
    one = sink(tmp_path / "taken" / "events.jsonl")
    result = await one.attempt(records(1)[0], is_replay=False)
    await one.close()
    assert (result.error, result.is_success) == ("io", False)
