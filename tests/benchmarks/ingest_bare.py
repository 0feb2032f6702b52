"""The yardstick: an aiohttp handler that reads the same body and answers the same bytes, and does nothing else.

python -m tests.benchmarks.ingest_bare PORT
"""

from __future__ import annotations

import asyncio
import gc
import sys

import uvloop
from aiohttp import web

ANSWERS = {
    "/callbacks/sms-dr": ("text/plain; charset=utf-8", b"success"),
    "/callbacks/whatsapp": ("application/json", b'{"code":0,"message":"success"}'),
    # As long as the signed answer; what a bare handler does not do is sign it.
    "/callbacks/callbot-task": (
        "application/json",
        b'{"retCode":0,"retMsg":"success","responseID":"0123456789abcdef0123456789abcdef"}',
    ),
}


async def answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    content_type, body = ANSWERS[request.path]
    return web.Response(body=body, headers={"Content-Type": content_type, "Server": "bare"})


async def serve(port: int) -> None:
    server = web.Server(answer, access_log=None)  # type: ignore[arg-type]
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=4096)
    gc.collect()
    gc.freeze()
    await listener.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
