"""What was rejected or given up is as large as callbacks are, and there may be much of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.admin.running import running, webhook
from tests.gateway.subscriber import Subscriber

COUNT = 80
SIZE = 500_000
#: A few of them, each in several forms at once (bytes, parsed, answered). All of them are 40 MB at least.
BOUND = 30_000_000


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Not more memory than this is taken by anything within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def ext() -> str:
    return "x" * SIZE


async def test_rejected_callbacks_are_gone_through_one_by_one(tmp_path: Path, ext: str) -> None:
    """A list of the newest takes the memory of a few of them, and so does decoding all of them again."""
    async with running(tmp_path) as gateway:
        for number in range(COUNT):
            assert await gateway.sms(number, messageid="", ext=f"{number}{ext}") == 400
        await gateway.indexed()
        with at_most(BOUND):
            listed = await gateway.get("/api/rejected", limit=3)
        every = await gateway.get("/api/rejected")
        with at_most(BOUND):
            replayed = await gateway.post("/api/rejected/replay", {})
    assert [COUNT] == list(listed["counts"].values())
    assert every["rejected"][:3] == listed["rejected"]
    assert list(range(COUNT)) == [one["offset"] for one in reversed(every["rejected"])]
    assert (COUNT, COUNT, False) == (replayed["looked_at"], replayed["still_rejected"], replayed["is_more"])


async def test_dead_letters_are_gone_through_one_by_one(tmp_path: Path, refusing: Subscriber, ext: str) -> None:
    """A list of all of them takes the memory of a few."""
    broken = webhook("broken", refusing.url, breaker={"min_attempts": 1000})
    async with running(tmp_path, subscribers=[broken]) as gateway:
        for number in range(COUNT):
            assert await gateway.sms(number, ext=ext) == 200
        await gateway.until("/api/dead-letters", lambda found: len(found["letters"]) == COUNT)
        with at_most(BOUND):
            listed = await gateway.get("/api/dead-letters")
    assert {"broken": {"attempts": COUNT}} == listed["counts"]
