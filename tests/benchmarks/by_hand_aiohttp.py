"""The same job by hand: aiohttp and ``await producer.send_and_wait()``, as a competent person writes it.

python -m tests.benchmarks.by_hand_aiohttp PORT BOOTSTRAP
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

PRODUCER: web.AppKey[AIOKafkaProducer] = web.AppKey("producer", AIOKafkaProducer)


async def receipt(request: web.Request) -> web.Response:
    form = await request.post()
    if not form.get("messageid"):
        return web.Response(text="error", status=400)
    event = {name: str(value) for name, value in form.items()}
    await request.app[PRODUCER].send_and_wait(
        "by-hand.aiohttp", json.dumps(event).encode(), key=event["messageid"].encode()
    )
    return web.Response(text="success")


async def produce(app: web.Application) -> AsyncIterator[None]:
    app[PRODUCER] = AIOKafkaProducer(bootstrap_servers=sys.argv[2], acks="all", enable_idempotence=True)
    await app[PRODUCER].start()
    yield
    await app[PRODUCER].stop()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/callbacks/sms-dr", receipt)
    app.cleanup_ctx.append(produce)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
