"""One connection without sockets: bytes go in chunk by chunk, as cut, and what was answered and stored comes out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.config.settings import Ingest
from gateway.connections import ConnectionLimit
from gateway.errors import JournalFull
from gateway.ingest.accept import Acceptor
from gateway.ingest.endpoints import Endpoints
from gateway.ingest.fast_path import FastConnection, FastConnections
from gateway.ingest.server import IngestServer
from gateway.log import Appended, Entry
from gateway.log.journal.batch_format import KnownIds
from gateway.telemetry.metrics import METRICS
from tests.waiting import turn

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
#: Turns of the loop after which nothing can be left to do: no step of a request takes more than a few.
TURNS = 60
_DATE = re.compile(rb"Date: [^\r]*\r\n")


class ListLog:
    """A log in a list: done in the next turn; full for events that say so. It knows repeats as the journal does."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._known = KnownIds(100)

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Appended] = loop.create_future()
        if any(b"log-is-full" in entry.value for entry in entries):
            future.set_exception(JournalFull("full"))
        elif any(b"log-is-broken" in entry.value for entry in entries):
            raise RuntimeError("broken")
        else:
            loop.call_soon(future.set_result, self._stored(entries))
        return future

    def _stored(self, entries: Sequence[Entry]) -> Appended:
        repeated: list[int] = []
        for index, entry in enumerate(entries):
            event_id = bytes.fromhex(entry.id)
            if event_id in self._known:
                repeated.append(index)
            else:
                self.entries.append(entry)
                self._known.update([event_id])
        return Appended(frozenset(repeated))


@dataclass(eq=False)
class Wire(asyncio.Transport):
    """A transport into memory."""

    sent: list[bytes] = field(default_factory=list)
    is_reading: bool = True

    def __post_init__(self) -> None:
        super().__init__({"peername": ("203.0.113.7", 40000)})
        self._protocol: asyncio.Protocol | None = None
        self._is_closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        assert self._protocol is not None
        return self._protocol

    def write(self, data: Any) -> None:
        if not self._is_closing:
            self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(lambda: self.get_protocol().connection_lost(None))

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


@dataclass(frozen=True)
class Outcome:
    """What one connection led to; dates of answers left out."""

    answered: bytes
    stored: list[tuple[Any, ...]]
    is_closed: bool
    counted: dict[str, float]


def connection(
    endpoints: Endpoints, log: ListLog, *, is_fast: bool, patience_s: float = 60.0, **settings: Any
) -> tuple[asyncio.Protocol, FastConnections | None]:
    """The protocol of a new connection, on one of the two ways."""
    section = Ingest.model_validate({"port": 0, **settings})
    acceptor = Acceptor(log, clock=lambda: NOW, max_waiting=100)
    server = IngestServer(section, endpoints, acceptor, clock=lambda: NOW)
    limit = ConnectionLimit("ingest", 1000, section.read_timeout)
    ordinary = server.ordinary(limit)
    if not is_fast:
        return ordinary(), None
    fast = FastConnections(
        endpoints,
        acceptor,
        clock=lambda: NOW,
        ordinary=ordinary,
        trusted=tuple(section.trusted_proxies),
        max_body=int(section.max_body_bytes),
        keepalive_s=section.keepalive_timeout,
        limit=limit,
        patience_s=patience_s,
    )
    return FastConnection(fast), fast


async def talk(
    endpoints: Endpoints, chunks: Sequence[bytes], *, is_fast: bool, patience_s: float = 60.0, **settings: Any
) -> Outcome:
    """Send the chunks on one connection; an empty chunk lets the loop turn before the next."""
    log, wire, before = ListLog(), Wire(), _counts()
    protocol, fast = connection(endpoints, log, is_fast=is_fast, patience_s=patience_s, **settings)
    wire.set_protocol(protocol)
    protocol.connection_made(wire)
    for chunk in chunks:
        if not chunk:
            await turns()
        elif not wire.is_closing():
            wire.get_protocol().data_received(chunk)
    await turns()
    if fast is not None:
        for one in list(fast.connections):
            one.lose_patience()
        await turns()
    outcome = Outcome(
        _DATE.sub(b"", b"".join(wire.sent)),
        [tuple(entry) for entry in log.entries],
        wire.is_closing(),
        {name: value - before.get(name, 0.0) for name, value in _counts().items() if value != before.get(name, 0.0)},
    )
    if fast is not None:
        fast.pre_shutdown()
    if not wire.is_closing():
        wire.close()
    await turns()
    return outcome


async def turns() -> None:
    """Let the loop do all that is left; there are no sockets and no timers in it that one could wait for."""
    await turn(TURNS)


def _counts() -> dict[str, float]:
    samples = [
        sample
        for metric in (
            METRICS.counter("gateway_callbacks"),
            METRICS.counter("gateway_http_refused"),
            METRICS.histogram("gateway_callback_answer_seconds"),
        )
        for family in metric.collect()
        for sample in family.samples
    ]
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for sample in samples
        if sample.name.endswith(("_total", "_count"))
    }
