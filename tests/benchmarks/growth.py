"""Does an event cost more when more of them lie there? ``python -m tests.benchmarks growth [--up-to 10000000]``.

Each row is a process of its own, so that its memory is its own. ``backlog``: a journal with so many unread events;
what appending 20,000 more costs, what reading 20,000 from its start costs, what reading all of it costs, and the
memory at the end. ``subscribers``: so many readers of 20,000 events; the cost of each event and reader. ``keys``:
fan-out of 20,000 events with so many keys to a receiver. Bars (issue 7): flat within 10 %, memory flat.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import uvloop

from gateway.log import Entry
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.telemetry import logs
from tests.benchmarks import fanout, report
from tests.benchmarks.machine import cores, resident_bytes
from tests.fanout.events import entry

SAMPLE = 20_000
_BATCH = 64
_FILLING = b"0123456789" * 80


def _entries(start: int, count: int) -> list[Entry]:
    """Events of the size of an SMS receipt."""
    return [
        Entry("sms.dr", f"key-{at}", f"{at:032x}", b'{"id":"%032x","x":"%b"}' % (at, _FILLING))
        for at in range(start, start + count)
    ]


async def _append(journal: Journal, start: int, count: int) -> float:
    """Processor seconds of appending, in commits as large as under load; making the entries does not count."""
    spent = 0.0
    for at in range(start, start + count, _BATCH):
        entries = _entries(at, min(_BATCH, start + count - at))
        before = time.process_time()
        await journal.append(entries)
        spent += time.process_time() - before
    return spent


async def _read(journal: Journal, group: str, most: int, start: str = "earliest") -> tuple[int, float]:
    """Events read and processor seconds, positions committed on the way."""
    placed = await journal.cursors.load(group, ["sms.dr"], [EVENTS], start=start)  # type: ignore[arg-type]
    reader = await journal.browse(group, [], positions={EVENTS: placed[EVENTS].offset})
    count, before = 0, time.process_time()
    while count < most and (records := await reader.fetch(max_records=500, wait_s=0)):
        count += len(records)
        journal.cursors.commit(group, EVENTS, records[-1].offset + 1)
    spent = time.process_time() - before
    await reader.close()
    return count, spent


async def backlog(size: int, events: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), Retention(1 << 40, 1e9))
        await journal.start()
        for at in range(0, size, 5000):
            await journal.append(_entries(at, min(5000, size - at)))
        memory = resident_bytes(os.getpid())
        sample = min(events, size)
        append = statistics.median([await _append(journal, size + turn * sample, sample) for turn in range(3)])
        first = [await _read(journal, f"head-{turn}", sample) for turn in range(3)]
        count, spent = await _read(journal, "all", sys.maxsize)
        found = {
            "append_us": round(append / sample * 1e6, 2),
            "read_from_start_us": round(statistics.median([took / read for read, took in first]) * 1e6, 2),
            "read_all_us": round(spent / count * 1e6, 2),
            "filled_mib": round(memory / 2**20),
            "read_mib": round(resident_bytes(os.getpid()) / 2**20),
        }
        await journal.stop()
        return found


async def subscribers(count: int, events: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), Retention(1 << 40, 1e9))
        await journal.start()
        await _append(journal, 0, events)
        before = time.process_time()
        await asyncio.gather(*(_read(journal, f"reader-{number}", events) for number in range(count)))
        spent = time.process_time() - before
        found = {
            "us_each": round(spent / events / count * 1e6, 2),
            "mib": round(resident_bytes(os.getpid()) / 2**20),
        }
        await journal.stop()
        return found


async def keys(count: int, events: int) -> dict[str, Any]:
    server = await asyncio.get_running_loop().create_server(fanout.Sinkhole, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    bodies = [entry(at, f"key-{at * 7919 % count}", text="x" * 400) for at in range(events)]
    rates = [await fanout.fanout(url, bodies, 32, None) for _ in range(3)]
    server.close()
    return {"us": round(1e6 / statistics.median(rates), 1), "mib": round(resident_bytes(os.getpid()) / 2**20)}


def run(
    *,
    backlogs: tuple[int, ...] = (10_000, 100_000, 1_000_000),
    subscribers: tuple[int, ...] = (1, 5, 10, 50),
    keys: tuple[int, ...] = (100, 1_000, 10_000, 1_000_000),
    up_to: int = 1_000_000,
    events: int = SAMPLE,
) -> dict[str, Any]:
    """All rows; ``up_to`` 10,000,000 adds the largest backlog (12 GB of disk, some minutes)."""
    sizes = [size for size in backlogs if size <= up_to] + ([up_to] if up_to > max(backlogs) else [])
    rows = [("backlog", size) for size in sizes]
    rows += [("subscribers", count) for count in subscribers] + [("keys", count) for count in keys]
    found: dict[str, Any] = {}
    for kind, number in rows:
        label = f"{kind} {number:,}"
        found[label] = _in_a_process(kind, number, events)
        print(report.line(label, found[label]), flush=True)
    return found


def _in_a_process(kind: str, number: int, events: int) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: dict[str, Any] = orjson.loads(pool.apply(_row, (kind, number, events)))
    return found


def _row(kind: str, number: int, events: int) -> bytes:
    logs.configure("warning")
    os.sched_setaffinity(0, cores()[0])
    row: Callable[[int, int], Any] = {"backlog": backlog, "subscribers": subscribers, "keys": keys}[kind]
    return orjson.dumps(uvloop.run(row(number, events)))
