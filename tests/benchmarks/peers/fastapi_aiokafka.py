"""By hand: FastAPI, uvicorn with uvloop and httptools, ``await producer.send_and_wait()``, as its tutorial has it.

python -m tests.benchmarks.peers.fastapi_aiokafka PORT BOOTSTRAP TOPIC
"""

# No "from __future__ import annotations": FastAPI reads the types of the form's fields at run time.
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Form, HTTPException
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from tests.benchmarks.peers import receipt

producer: AIOKafkaProducer


class Receipt(BaseModel):
    """An SMS delivery receipt as the vendor's page has it."""

    messageid: str
    phone: str
    status: str
    result: str
    drtime: str
    sendtime: str
    currency: str
    price: str
    rate: str
    size: str
    ext: str = ""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global producer
    producer = AIOKafkaProducer(bootstrap_servers=sys.argv[2], acks="all", enable_idempotence=True)
    await producer.start()
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.post(receipt.PATH, response_class=PlainTextResponse)
async def accept(body: Annotated[Receipt, Form()]) -> str:
    try:
        key, value = receipt.event(body.model_dump())
    except (KeyError, ValueError) as exc:
        raise HTTPException(400, "error") from exc
    await producer.send_and_wait(sys.argv[3], value, key=key)
    return "success"


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="warning",
        access_log=False, backlog=4096,
    )  # fmt: skip
