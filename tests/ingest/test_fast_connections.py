"""The life of fast connections: who waits for whom, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.config.settings import Ingest
from gateway.connections import ConnectionLimit
from gateway.errors import JournalUnavailable
from gateway.ingest.accept import Acceptor, IngestLog
from gateway.ingest.endpoints import endpoints
from gateway.ingest.fast_path import FastConnection, FastConnections
from gateway.ingest.server import IngestServer
from gateway.log import ALL_NEW, Appended, Entry
from gateway.log.journal import EVENTS, Journal, Retention
from gateway.telemetry.metrics import METRICS
from tests.ingest.conftest import Serve, read_reply, request_bytes
from tests.ingest.wire import NOW, Wire, turns

SECTION = Ingest.model_validate({"port": 0})
RECEIPT = request_bytes("POST", b"/callbacks/sms-dr", b"messageid=m-1&status=2")
OTHER = RECEIPT.replace(b"m-1", b"m-2")


class SlowLog:
    """A log that is done when the test says so."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.waiting: list[asyncio.Future[Appended]] = []

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        self.entries += entries
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    async def done(self, error: Exception | None = None) -> None:
        for future in self.waiting:
            if error is None:
                future.set_result(ALL_NEW)
            else:
                future.set_exception(error)
        self.waiting.clear()
        await turns()


class Gateway:
    """Fast connections over a log, a slow one where none is given."""

    def __init__(self, log: IngestLog | None = None, keepalive_s: float = 75.0) -> None:
        self.log = SlowLog()
        paths = endpoints(SECTION)
        acceptor = Acceptor(log or self.log, clock=lambda: NOW, max_waiting=100)
        limit = ConnectionLimit("ingest", 1000, 15.0)
        ordinary = IngestServer(SECTION, paths, acceptor, clock=lambda: NOW).ordinary(limit)
        self.connections = FastConnections(
            paths,
            acceptor,
            clock=lambda: NOW,
            ordinary=ordinary,
            trusted=(),
            max_body=1 << 20,
            keepalive_s=keepalive_s,
            limit=limit,
        )

    def connect(self) -> Wire:
        wire = Wire()
        wire.set_protocol(FastConnection(self.connections))
        wire.get_protocol().connection_made(wire)
        return wire


def counted(outcome: str) -> float:
    """Callbacks of this outcome, so far."""
    families = METRICS.counter("gateway_callbacks").collect()
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["outcome"] == outcome
    )


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


async def test_success_is_not_told_before_the_log_is_done(gateway: Gateway) -> None:
    wire = gateway.connect()
    wire.get_protocol().data_received(RECEIPT)
    await turns()
    assert len(gateway.log.entries) == 1
    assert not wire.sent
    await gateway.log.done()
    assert b"".join(wire.sent).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_requests_of_one_turn_share_an_append_and_each_gets_its_own_answer(gateway: Gateway) -> None:
    """Of two connections; the one that fails to store is told so like the other."""
    wires = [gateway.connect() for _ in range(2)]
    wires[0].get_protocol().data_received(RECEIPT)
    wires[1].get_protocol().data_received(OTHER)
    await turns()
    assert len(gateway.log.waiting) == 1
    await gateway.log.done(JournalUnavailable("no disk"))
    for wire in wires:
        assert b"".join(wire.sent).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Retry-After: 5\r\n" in b"".join(wire.sent)


async def test_what_is_pipelined_waits_for_the_answer_before_it(gateway: Gateway) -> None:
    """Nothing of it is decoded or stored until then, and a sender of endless requests is not read endlessly."""
    wire = gateway.connect()
    protocol = wire.get_protocol()
    protocol.data_received(RECEIPT)
    for number in range(100):
        protocol.data_received(RECEIPT.replace(b"m-1", b"n-%02d" % number).replace(b": 22", b": 23"))
    await turns()
    assert len(gateway.log.entries) == 1
    assert not wire.is_reading
    for _ in range(101):
        await gateway.log.done()
    assert len(gateway.log.entries) == 101
    assert b"".join(wire.sent).count(b"HTTP/1.1 200 OK") == 101
    assert wire.is_reading


async def test_sender_that_does_not_read_its_answers_is_not_read(gateway: Gateway) -> None:
    wire = gateway.connect()
    protocol = wire.get_protocol()
    protocol.pause_writing()
    protocol.data_received(RECEIPT)
    await turns()
    assert not gateway.log.entries
    protocol.resume_writing()
    await turns()
    await gateway.log.done()
    assert len(wire.sent) == 1


async def test_sender_that_goes_away_is_counted_and_nothing_is_written(gateway: Gateway) -> None:
    wire = gateway.connect()
    wire.get_protocol().data_received(RECEIPT)
    await turns()
    wire.close()
    await turns()
    before = counted("accepted")
    await gateway.log.done()
    assert counted("accepted") == before + 1
    assert not wire.sent


async def test_event_of_a_sender_that_went_away_is_stored_and_known(tmp_path: Path) -> None:
    """When it comes again on another connection it is answered with success, and not stored twice."""
    journal = Journal(tmp_path, Retention(1 << 30, 3600.0), known_ids=100)
    await journal.start()
    gateway = Gateway(journal)
    wire = gateway.connect()
    wire.get_protocol().data_received(RECEIPT)
    wire.close()
    await turns()
    assert not wire.sent
    assert journal.head(EVENTS) == 1
    again, before = gateway.connect(), counted("repeated")
    again.get_protocol().data_received(RECEIPT)
    await turns()
    assert b"".join(again.sent).startswith(b"HTTP/1.1 200 OK\r\n")
    assert counted("repeated") == before + 1
    assert journal.head(EVENTS) == 1
    await journal.stop()


async def test_sender_that_closes_its_side_is_still_answered(gateway: Gateway) -> None:
    wire = gateway.connect()
    wire.get_protocol().data_received(RECEIPT)
    assert wire.get_protocol().eof_received()
    await turns()
    await gateway.log.done()
    assert len(wire.sent) == 1
    assert wire.is_closing()
    assert not gateway.connect().get_protocol().eof_received()


async def test_stop_closes_idle_connections_and_waits_for_answers_that_are_due(gateway: Gateway) -> None:
    idle, busy = gateway.connect(), gateway.connect()
    busy.get_protocol().data_received(RECEIPT)
    await turns()
    gateway.connections.pre_shutdown()
    assert idle.is_closing()
    assert not busy.is_closing()
    busy.get_protocol().data_received(OTHER)
    stopping = asyncio.create_task(gateway.connections.shutdown(60.0))
    await turns()
    assert not stopping.done()
    await gateway.log.done()
    await stopping
    assert b"Connection: close\r\n" in b"".join(busy.sent)
    assert busy.is_closing()
    assert len(gateway.log.entries) == 1


async def test_stop_does_not_wait_for_ever(gateway: Gateway) -> None:
    wire = gateway.connect()
    wire.get_protocol().data_received(RECEIPT)
    await turns()
    gateway.connections.pre_shutdown()
    await gateway.connections.shutdown(0.01)
    assert wire.is_closing()
    await gateway.log.done()


async def test_idle_connection_is_closed_after_its_time_and_a_busy_one_is_not(serve: Serve) -> None:
    """The connection that was silent is closed by us; a request in between starts the time anew."""
    gateway = await serve(keepalive_timeout=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    started = asyncio.get_running_loop().time()
    assert await reader.read() == b""
    assert asyncio.get_running_loop().time() - started >= 0.29
    writer.close()


async def test_connection_stays_open_between_requests(serve: Serve) -> None:
    """Fast ones and others by turns, as a proxy sends them on one connection."""
    gateway = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for number, request in enumerate([RECEIPT, RECEIPT, request_bytes("GET", b"/elsewhere"), RECEIPT]):
        writer.write(request)
        assert (404 if number == 2 else 200) == (await read_reply(reader)).status
    writer.close()
    assert len(await gateway.stored()) == 1


async def test_half_closed_connection_gets_its_answer(serve: Serve) -> None:
    gateway = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(RECEIPT)
    writer.write_eof()
    assert (await read_reply(reader)).status == 200
    assert await reader.read() == b""
    writer.close()
