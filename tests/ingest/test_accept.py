"""Callbacks of one turn of the event loop share an append, and nothing else; each hears of its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecodedEvent, DecoderCallback
from gateway.errors import NotNow
from gateway.ingest.accept import Acceptor, Pending, Turns
from gateway.ingest.endpoints import Decodes, Endpoint
from gateway.log import ALL_NEW, Appended, Entry
from gateway.log.journal import Journal, Retention
from tests.waiting import turn

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def endpoint(callback: Decodes) -> Endpoint:
    return Endpoint(f"/callbacks/{callback.name}", callback, DecodeContext(), Credentials())


def request(path: str, body: bytes) -> CallbackRequest:
    return CallbackRequest("POST", path, b"", {}, body, NOW)


@pytest.mark.parametrize("key", [1.5, ["a"], {"a": 1}, b"a", "\ud83d", True], ids=ascii)
async def test_what_a_decoder_gives_fails_nobody_else(tmp_path: Path, key: Any) -> None:
    """A key that cannot be stored rejects its own callback, which is kept; those of the same turn are accepted."""
    journal = Journal(tmp_path, Retention(1 << 30, 3600.0))
    await journal.start()
    acceptor = Acceptor(journal, clock=lambda: NOW, max_waiting=100)
    parcels = endpoint(DecoderCallback("parcels", lambda request, context: [DecodedEvent(key, {})], "parcel.status"))
    calls = endpoint(CALLBACKS["nxlink-call"])
    taken = [
        acceptor.take(calls, request(calls.path, b'{"callId":"c1","orderId":"o1"}')),
        acceptor.take(parcels, request(parcels.path, b"{}")),
        acceptor.take(calls, request(calls.path, b'{"callId":"c2","orderId":"o2"}')),
    ]
    waiting = [one for one in taken if isinstance(one, Pending)]
    await asyncio.gather(*(one.turn.wait() for one in waiting))
    assert [(200, "accepted"), (400, "rejected"), (200, "accepted")] == [
        (one.answer.status, one.outcome) for one in waiting
    ]
    reader = await journal.browse("test", [], start="earliest")
    topics = [record.topic for record in await reader.fetch(max_records=10, wait_s=0)]
    await reader.close()
    await journal.stop()
    assert ["call.event", "callbacks.rejected", "call.event"] == topics


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
