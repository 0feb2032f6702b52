"""By hand: granian's RSGI interface and confluent-kafka, whose reports a thread brings to the event loop.

BOOTSTRAP=… TOPIC=… granian --interface rsgi --loop uvloop --port PORT tests.benchmarks.peers.granian_confluent:app
"""

from __future__ import annotations

import asyncio
import os
from threading import Thread
from typing import Any

from confluent_kafka import KafkaException, Producer

from tests.benchmarks.peers import receipt

TEXT = [("content-type", "text/plain; charset=utf-8")]


class Application:
    """One worker's handler, its producer and the thread that polls it."""

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reported: list[tuple[asyncio.Future[None], Any]] = []
        self._producer = Producer({"bootstrap.servers": os.environ["BOOTSTRAP"], "enable.idempotence": True})
        Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        """Serve reports; those of one poll wake the loop once."""
        while True:
            self._producer.poll(0.1)
            if self._reported:
                reported, self._reported = self._reported, []
                self._loop.call_soon_threadsafe(self._resolve, reported)

    @staticmethod
    def _resolve(reported: list[tuple[asyncio.Future[None], Any]]) -> None:
        for stored, error in reported:
            if stored.done():
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(KafkaException(error))

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        if scope.path != receipt.PATH or scope.method != "POST":
            protocol.response_empty(404, [])
            return
        try:
            key, value = receipt.decode(await protocol())
        except (KeyError, ValueError):
            protocol.response_str(400, TEXT, "error")
            return
        stored = self._loop.create_future()
        self._producer.produce(
            os.environ["TOPIC"], value, key, on_delivery=lambda error, _: self._reported.append((stored, error))
        )
        await stored
        protocol.response_str(200, TEXT, "success")


app = Application()
