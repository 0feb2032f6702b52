"""What the platform sends, as whole HTTP requests ready for the wire, no two of them equal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from gateway.callbacks.signature import callbot_signature
from tests.benchmarks.decoders import varied
from tests.callbacks.samples import FOLDER, load

SECRET = "demoSecretKey0001"
#: More than the window of known ids that the benchmarks configure, so that each is stored although they go round.
COUNT = 20_000
_AGENT = b"User-Agent: Apache-HttpClient/4.5.13 (Java/1.8.0_292)\r\nAccept-Encoding: gzip,deflate\r\n"


def sms_dr(number: int) -> tuple[bytes, bytes]:
    """More header lines, and the body of a receipt with a form body."""
    return b"Content-Type: application/x-www-form-urlencoded\r\n", (
        b"result=DELIVRD&size=2&phone=155501%05d&rate=7.05&price=0.031&messageid=0f1e2d3c%024d"
        b"&drtime=2024-01-02+03%%3A04%%3A%02d&currency=USD&sendtime=2024-01-02+03%%3A04%%3A05&status=2&ext=order-42"
    ) % (number % 100_000, number, number % 30)


def callbot_task(number: int) -> tuple[bytes, bytes]:
    """A signed task status."""
    body = (
        b'{"callbackType":1,"userTaskID":"ut-%06d","taskID":"t-%06d","sceneID":"sc-77","taskStatus":3,'
        b'"createTs":17350000%02d,"taskStat":{"answerOrderCount":6,"finishOrderCount":10,"totalOrderCount":10,'
        b'"finishRate":1.0,"totalAnswerCall":6,"totalCall":14,"answerRate":0.43}}'
    ) % (number, number, number % 30)
    request_id = f"5f0c1d2e3a4b4c5d8e9f{number:012d}"
    sign = callbot_signature(SECRET, request_id=request_id, uuid="demoUuid0001", create_ts="1735000300", body=body)
    head = f"requestID: {request_id}\r\nuuid: demoUuid0001\r\ncreateTs: 1735000300\r\nsign: {sign}\r\n"
    return b"Content-Type: application/json\r\n" + head.encode(), body


@functools.cache
def _whatsapp_text() -> bytes:
    return load(FOLDER / "whatsapp" / "text").request.body.strip()


def whatsapp(number: int) -> tuple[bytes, bytes]:
    """An incoming text message."""
    body = varied(_whatsapp_text(), number % 997).replace(b"ABGGTEST0001", b"ABGG%08d" % number)
    return b"Content-Type: application/json\r\n", body


LOADS: dict[str, Callable[[int], tuple[bytes, bytes]]] = {
    "sms-dr": sms_dr,
    "callbot-task": callbot_task,
    "whatsapp": whatsapp,
}


def message(callback: str, number: int, *, keep_alive: bool = True, path: str = "") -> bytes:
    """One request."""
    more, body = LOADS[callback](number)
    connection = b"Connection: Keep-Alive\r\n" if keep_alive else b"Connection: close\r\n"
    return b"POST %b HTTP/1.1\r\nHost: gateway.example.com\r\n%b%b%bContent-Length: %d\r\n\r\n%b" % (
        (path or f"/callbacks/{callback}").encode(),
        _AGENT,
        connection,
        more,
        len(body),
        body,
    )


def write(callback: str, folder: Path, *, keep_alive: bool = True, count: int = COUNT) -> Path:
    """A file of requests for :func:`tests.benchmarks.wrk.drive`."""
    path = folder / f"{callback}-{'keep' if keep_alive else 'close'}.requests"
    path.write_bytes(b"\0".join(message(callback, number, keep_alive=keep_alive) for number in range(count)))
    return path
