"""The durable accept by itself: journal and HTTP side, wired as the gateway wires them, nothing that reads.

python -m tests.benchmarks.ingest_alone CONFIG

``gateway run`` has more in its process: the search index, the publisher, fan-out. Their costs have parts of their own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from gateway.config.loading import load
from gateway.config.settings import Settings
from gateway.ingest.accept import Acceptor
from gateway.ingest.endpoints import endpoints
from gateway.ingest.server import IngestServer
from gateway.log.journal import Journal, Retention
from gateway.telemetry import logs


async def serve(settings: Settings) -> None:
    journal = Journal(
        Path(settings.journal.dir),
        Retention(int(settings.journal.max_bytes), settings.journal.retention),
        known_ids=settings.ingest.dedup_window,
    )
    await journal.start()

    def clock() -> datetime:
        return datetime.now(UTC)

    acceptor = Acceptor(journal, clock=clock, max_waiting=settings.ingest.max_waiting)
    server = IngestServer(settings.ingest, endpoints(settings.ingest), acceptor, clock=clock)
    await server.start()
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    settings = load(Path(sys.argv[1]), os.environ)
    logs.configure(settings.log.level, settings.log.format)
    uvloop.run(serve(settings))
