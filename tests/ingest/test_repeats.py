"""Callbacks that come again, whole or in part: what is stored, how each is counted, and what is traced."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given, settings
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.callbacks import CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials
from gateway.callbacks.generic import DecodedEvent, DecoderCallback
from gateway.errors import NotNow
from gateway.ingest.accept import Acceptor, Pending, prepare
from gateway.ingest.endpoints import Endpoint
from gateway.log.journal import Journal, Retention
from gateway.telemetry.metrics import METRICS
from gateway.telemetry.tracing import Spans
from tests.effort import examples
from tests.waiting import turn

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def found(request: CallbackRequest, context: DecodeContext) -> list[DecodedEvent]:
    return [DecodedEvent(number, {"number": number}, id=f"parcel-{number}") for number in orjson.loads(request.body)]


PARCELS = Endpoint(
    "/callbacks/parcels", DecoderCallback("parcels", found, "parcel.status"), DecodeContext(), Credentials()
)


def request(body: bytes) -> CallbackRequest:
    return CallbackRequest("POST", PARCELS.path, b"", {}, body, NOW)


def ids(body: bytes) -> list[str]:
    """Of the events of one callback, as they are made each time."""
    return [event.id for event in prepare(PARCELS, request(body)).events]


class Gateway:
    """An acceptor over a journal, with its spans in memory."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder, Retention(1 << 30, 3600.0), known_ids=1000)
        self.exporter = InMemorySpanExporter()
        spans = Spans(SimpleSpanProcessor(self.exporter), Resource({}))
        self.acceptor = Acceptor(self.journal, clock=lambda: NOW, max_waiting=100, spans=spans)

    async def turn(self, bodies: Sequence[bytes]) -> list[str]:
        """Take callbacks in one turn of the loop; how each was counted."""
        taken = [self.acceptor.take(PARCELS, request(body)) for body in bodies]
        outcomes: list[str] = []
        for one in taken:
            assert isinstance(one, Pending)
            appended = await one.turn.wait()
            before = counts()
            self.acceptor.settled(PARCELS, one, appended)
            await turn()  # counted once a turn
            outcomes += [name for name, count in counts().items() if count != before.get(name, 0.0)]
        return outcomes

    async def stored(self) -> list[str]:
        reader = await self.journal.browse("test", [], start="earliest")
        records = await reader.fetch(max_records=1000, wait_s=0)
        await reader.close()
        return [record.id for record in records]

    def traced(self) -> list[str]:
        return [str((span.attributes or {})["messaging.message.id"]) for span in self.exporter.get_finished_spans()]


def counts() -> dict[str, float]:
    """Callbacks by outcome."""
    families = METRICS.counter("gateway_callbacks").collect()
    return {
        sample.labels["outcome"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["callback"] == "parcels"
    }


async def test_a_callback_with_some_repeats_stores_the_others_and_is_accepted(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    await gateway.journal.start()
    assert ["accepted"] == await gateway.turn([b"[1,2]"])
    assert ["accepted"] == await gateway.turn([b"[2,3,1,4]"])
    assert ["repeated"] == await gateway.turn([b"[4,1]"])
    assert ids(b"[1,2,3,4]") == await gateway.stored() == gateway.traced()
    await gateway.journal.stop()


async def test_of_two_equal_callbacks_of_one_turn_the_second_is_the_repeat(tmp_path: Path) -> None:
    """Whatever others of the turn repeat: each callback is judged by its own events."""
    gateway = Gateway(tmp_path)
    await gateway.journal.start()
    assert ["accepted", "repeated", "accepted", "repeated"] == await gateway.turn(
        [b"[1,2]", b"[2,1]", b"[3,1]", b"[3]"]
    )
    assert ids(b"[1,2,3]") == await gateway.stored() == gateway.traced()
    await gateway.journal.stop()


async def test_a_rejected_callback_that_comes_again_is_kept_once_and_counted_as_rejected(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    await gateway.journal.start()
    assert ["rejected", "rejected"] == await gateway.turn([b"[1", b"[1"])
    assert ["rejected"] == await gateway.turn([b"[1"])
    assert ids(b"[1") == await gateway.stored() == gateway.traced()
    await gateway.journal.stop()


async def test_nothing_is_counted_or_traced_of_what_the_log_refused(tmp_path: Path) -> None:
    """Afterwards it is new, not a repeat."""
    gateway = Gateway(tmp_path)
    await gateway.journal.start()
    await gateway.journal.stop()
    taken = gateway.acceptor.take(PARCELS, request(b"[1]"))
    assert isinstance(taken, Pending)
    with pytest.raises(NotNow):
        await taken.turn.wait()
    assert gateway.traced() == []
    again = Gateway(tmp_path)
    await again.journal.start()
    assert ["accepted"] == await again.turn([b"[1]"])
    await again.journal.stop()


bodies = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(orjson.dumps)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(st.lists(bodies, min_size=1, max_size=4), min_size=1, max_size=4))
def test_exactly_the_first_of_each_event_is_stored_and_traced(turns: list[list[bytes]]) -> None:
    """A callback is a repeat when all its events were there before it, in earlier turns or in its own."""

    async def check(folder: Path) -> None:
        gateway = Gateway(folder)
        await gateway.journal.start()
        first: dict[str, None] = {}
        for together in turns:
            expected: list[str] = []
            for body in together:
                made = ids(body)
                expected.append("repeated" if first.keys() >= set(made) else "accepted")
                first |= dict.fromkeys(made)
            assert expected == await gateway.turn(together)
        assert list(first) == await gateway.stored() == gateway.traced()
        await gateway.journal.stop()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
