"""The same job by hand: FastAPI, uvicorn with uvloop and httptools, ``await producer.send_and_wait()``.

python -m tests.benchmarks.by_hand_fastapi PORT BOOTSTRAP
"""

# No "from __future__ import annotations": FastAPI reads the types of the form's fields at run time.
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Form
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

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
    ext: str | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    global producer
    producer = AIOKafkaProducer(bootstrap_servers=sys.argv[2], acks="all", enable_idempotence=True)
    await producer.start()
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/callbacks/sms-dr", response_class=PlainTextResponse)
async def receipt(body: Annotated[Receipt, Form()]) -> str:
    await producer.send_and_wait("by-hand.fastapi", body.model_dump_json().encode(), key=body.messageid.encode())
    return "success"


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="warning",
        access_log=False,
    )  # fmt: skip
