"""By hand: granian's RSGI interface and ``await producer.send_and_wait()``.

BOOTSTRAP=… TOPIC=… granian --interface rsgi --loop uvloop --port PORT tests.benchmarks.peers.granian_aiokafka:app
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from aiokafka import AIOKafkaProducer

from tests.benchmarks.peers import receipt

TEXT = [("content-type", "text/plain; charset=utf-8")]


class Application:
    """One worker's handler and its producer."""

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=os.environ["BOOTSTRAP"], acks="all", enable_idempotence=True
        )
        await self._producer.start()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._producer.stop())

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        if scope.path != receipt.PATH or scope.method != "POST":
            protocol.response_empty(404, [])
            return
        try:
            key, value = receipt.decode(await protocol())
        except (KeyError, ValueError):
            protocol.response_str(400, TEXT, "error")
            return
        await self._producer.send_and_wait(os.environ["TOPIC"], value, key=key)
        protocol.response_str(200, TEXT, "success")


app = Application()
