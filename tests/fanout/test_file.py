from __future__ import annotations

import asyncio
import os
from pathlib import Path

import orjson
import pytest

from gateway.clock import SystemClock
from gateway.fanout.file import FileSink
from gateway.fanout.transform import Transform
from gateway.log import Record
from tests.fanout.events import entries, in_order
from tests.fanout.memory_log import MemoryLog
from tests.fanout.running import make, subscription
from tests.waiting import until

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
    reader = make(log, sink(path), subscription())
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


async def test_a_file_that_is_moved_or_deleted_takes_no_event_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log rotation renames the file: the next event begins a new one. One deleted before its sync is rewritten."""
    path = tmp_path / "events.jsonl"
    one = sink(path)
    made = records(4)
    await one.attempt(made[0], is_replay=False)
    path.rename(tmp_path / "rotated")
    await one.attempt(made[1], is_replay=False)
    assert {"rotated": 1, "events.jsonl": 1} == _lines(tmp_path)
    sync, deleted = os.fsync, []

    def deleting(descriptor: int) -> None:
        sync(descriptor)
        if not deleted:
            deleted.append(path.read_bytes())
            path.unlink()

    monkeypatch.setattr(os, "fsync", deleting)
    assert (await one.attempt(made[2], is_replay=False)).is_success
    await one.close()
    assert deleted
    assert made[2].value + b"\n" == path.read_bytes()


async def test_files_are_private_and_a_mode_that_was_given_is_kept(tmp_path: Path) -> None:
    """Whatever the umask; also for the files that are begun later."""
    path = tmp_path / "out" / "events.jsonl"
    one = sink(path, max_bytes=len(records(1)[0].value) + 10)
    before = os.umask(0)
    try:
        await one.attempt(records(1)[0], is_replay=False)
        assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)
        path.chmod(0o640)
        os.umask(0o077)
        await one.attempt(records(1)[0], is_replay=False)
    finally:
        os.umask(before)
    await one.close()
    assert [0o640, 0o640] == [file.stat().st_mode & 0o777 for file in path.parent.iterdir()]
