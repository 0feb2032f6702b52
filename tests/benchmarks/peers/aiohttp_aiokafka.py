"""By hand: aiohttp and ``await producer.send_and_wait()``, as a competent person writes it.

python -m tests.benchmarks.peers.aiohttp_aiokafka PORT BOOTSTRAP TOPIC
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import cast

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

from tests.benchmarks.peers import receipt

PRODUCER: web.AppKey[AIOKafkaProducer] = web.AppKey("producer", AIOKafkaProducer)


async def accept(request: web.Request) -> web.Response:
    try:
        key, value = receipt.event(cast("dict[str, str]", await request.post()))
    except (KeyError, ValueError):
        return web.Response(text="error", status=400)
    await request.app[PRODUCER].send_and_wait(sys.argv[3], value, key=key)
    return web.Response(text="success")


async def produce(app: web.Application) -> AsyncIterator[None]:
    app[PRODUCER] = AIOKafkaProducer(bootstrap_servers=sys.argv[2], acks="all", enable_idempotence=True)
    await app[PRODUCER].start()
    yield
    await app[PRODUCER].stop()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post(receipt.PATH, accept)
    app.cleanup_ctx.append(produce)
    web.run_app(
        app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=4096,
        loop=uvloop.new_event_loop(),
    )  # fmt: skip
