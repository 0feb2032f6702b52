"""What the search index costs an event, behind the accept path.

    python -m tests.benchmarks search

SMS receipts are appended to a journal, 30 to a commit, and every 1,500 of them the index is brought up to it, as it
happens behind a busy accept path. ``index_us`` is processor time of the index's thread and of the event loop meanwhile,
microseconds for each event, less what a reader takes that only reads; ``of_parsing`` is that as a multiple of what
orjson takes to parse the same events. ``find_us`` is one look-up of an event among all of them, by the clock.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.log import Entry
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.search import Search
from tests.benchmarks import report
from tests.benchmarks.compression import events

#: As in a busy second: one commit holds what came while the one before it ran.
COMMIT: Final = 30
#: Events between two pauses in which everything is read.
STRETCH: Final = 1500
LOOK_UPS: Final = 200
#: Reads, or indexes, everything that is in the journal.
Step = Callable[[], Awaitable[object]]


def run(rounds: int = 5, count: int = 100_000) -> dict[str, Any]:
    """Both sides in turn."""
    made = events("sms-dr", count)
    index: list[float] = []
    parsing: list[float] = []
    find: list[float] = []
    for _ in range(rounds):
        read_us, _ = asyncio.run(_round(made, _reading))
        index_us, find_us = asyncio.run(_round(made, _indexing))
        index.append(index_us - read_us)
        find.append(find_us)
        parsing.append(_parsing(made))
    figures = {
        "index_us": report.summary(index, 2),
        "of_parsing": report.ratio(index, parsing),
        "find_us": report.summary(find, 0),
    }
    print(report.line("SMS receipts", figures), flush=True)
    return {"SMS receipts": figures}


def _parsing(made: Sequence[Entry]) -> float:
    started = time.thread_time()
    for entry in made:
        orjson.loads(entry.value)
    return (time.thread_time() - started) / len(made) * 1e6


async def _round(made: Sequence[Entry], side: Callable[[Journal, Path], Any]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as name:
        journal = Journal(Path(name), Retention(1 << 34, 1e9))
        await journal.start()
        spent = find_us = 0.0
        async with side(journal, Path(name)) as (step, search):
            for start in range(0, len(made), STRETCH):
                for at in range(start, min(start + STRETCH, len(made)), COMMIT):
                    await journal.append(made[at : at + COMMIT])
                spent -= time.thread_time()
                await step()
                spent += time.thread_time()
            if search is not None:
                spent += await search.indexer.ask(lambda index: time.thread_time())
                find_us = await _find(search, made)
        await journal.stop()
    return spent / len(made) * 1e6, find_us


async def _find(search: Search, made: Sequence[Entry]) -> float:
    started = time.perf_counter()
    for entry in made[:: max(1, len(made) // LOOK_UPS)]:
        assert await search.event(entry.id) is not None
    return (time.perf_counter() - started) / LOOK_UPS * 1e6


@asynccontextmanager
async def _reading(journal: Journal, folder: Path) -> AsyncIterator[tuple[Step, None]]:
    reader = await journal.browse("benchmark", [], start="earliest")

    async def step() -> None:
        while reader.position < journal.head(EVENTS):
            await reader.fetch(max_records=STRETCH, wait_s=1.0)

    yield step, None
    await reader.close()


@asynccontextmanager
async def _indexing(journal: Journal, folder: Path) -> AsyncIterator[tuple[Step, Search]]:
    search = Search(journal, folder, with_attempts=False)
    await search.start()
    yield lambda: search.indexer.caught_up(600.0), search
    await search.stop()
