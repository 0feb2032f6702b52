"""Callbacks of one turn of the event loop share an append, and each hears of its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.errors import NotNow
from gateway.ingest.turn import Turns
from gateway.log import ALL_NEW, Appended, Entry
from tests.waiting import turn


class Appends:
    """A log whose appends end when the test says so."""

    def __init__(self) -> None:
        self.entries: list[list[str]] = []
        self.futures: list[asyncio.Future[Appended]] = []

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        self.entries.append([entry.id for entry in entries])
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


def entries(*ids: str) -> list[Entry]:
    return [Entry("t", "k", one, b"{}") for one in ids]


async def test_entries_of_a_turn_are_appended_together() -> None:
    """Each knows its places in the append; the next turn is another one, and waits for its own append."""
    log = Appends()
    turns = Turns(log)
    (one, first), (two, second) = turns.append_soon(entries("a", "b")), turns.append_soon(entries("c"))
    await turn()
    other, third = turns.append_soon(entries("d"))
    await turn()
    assert [["a", "b", "c"], ["d"]] == log.entries
    assert one is two is not other
    assert (range(2), range(2, 3), range(1), 3) == (first, second, third, turns.waiting)
    log.futures[1].set_result(ALL_NEW)
    async with asyncio.timeout(5):
        await other.wait()
    waiting = asyncio.ensure_future(one.wait())
    await turn()
    assert not waiting.done()
    assert 2 == turns.waiting
    log.futures[0].set_result(ALL_NEW)
    async with asyncio.timeout(5):
        await asyncio.gather(waiting, two.wait(), one.wait())
    assert 0 == turns.waiting


async def test_one_that_is_cancelled_or_fails_takes_nobody_with_it() -> None:
    """A sender that goes away, or an answer that cannot be written, delays neither commit nor other answers."""
    log = Appends()
    shared, _ = Turns(log).append_soon(entries("a"))
    gone, stays = (asyncio.ensure_future(shared.wait()) for _ in range(2))
    shared.when_done(lambda appended, error: 1 // 0)
    last = asyncio.ensure_future(shared.wait())
    await turn()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    log.futures[0].set_result(ALL_NEW)
    async with asyncio.timeout(5):
        await asyncio.gather(stays, last)


async def test_an_error_reaches_all() -> None:
    """Whether the append fails at once or later."""

    class Refusing(Appends):
        def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
            raise NotNow("full")

    log = Appends()
    for turns in (Turns(log), Turns(Refusing())):
        shared, _ = turns.append_soon(entries("a"))
        waiting = [asyncio.ensure_future(shared.wait()) for _ in range(2)]
        await turn()
        for future in log.futures:
            if not future.done():
                future.set_exception(NotNow("full"))
        for waiter in waiting:
            with pytest.raises(NotNow, match="full"):
                await waiter
        assert 0 == turns.waiting
