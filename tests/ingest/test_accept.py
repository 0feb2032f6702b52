"""Callbacks of one turn of the event loop: they share a commit, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecodedEvent, DecoderCallback
from gateway.ingest.accept import Acceptor, Pending
from gateway.ingest.endpoints import Decodes, Endpoint
from gateway.log.journal import Journal, Retention

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
