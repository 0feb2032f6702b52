"""Nothing of a person stands in what the process writes, from the callback to the answer of a subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
import orjson
import pytest

from tests.gateway.conftest import MakeGateway

PHONE, MAIL, TEXT = "+6281122334455", "budi.santoso@example.com", "Halo Budi Santoso"
PLANTED = (PHONE, PHONE[1:], MAIL, TEXT, quote(TEXT), quote(MAIL))
Answer = Callable[[bytes], bytes]


def echo(status: str) -> Answer:
    """Answer with the request in the reason, the headers and the body."""

    def answer(request: bytes) -> bytes:
        body = request.partition(b"\r\n\r\n")[2]
        return (
            f"HTTP/1.1 {status} {TEXT} {MAIL}\r\nRetry-After: {PHONE}\r\nX-Echo: {TEXT} {PHONE}\r\n"
            f"Location: /{PHONE}/{MAIL}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode() + body

    return answer


ANSWERS: dict[str, Answer] = {
    "ok": echo("200"),
    "failing": echo("500"),
    "refusing": echo("422"),
    "gone": echo("410"),
    "moved": echo("302"),
    "busy": echo("429"),
    "no-http": lambda request: f"{TEXT} {PHONE} {MAIL}\r\n\r\n".encode() + request,
    "bad-header": lambda request: f"HTTP/1.1 500 no\r\n{TEXT} {PHONE}\r\n\r\n".encode(),
    "bad-length": lambda request: f"HTTP/1.1 500 no\r\nContent-Length: {PHONE} {MAIL}\r\n\r\n".encode(),
    "bad-chunk": lambda request: f"HTTP/1.1 500 no\r\nTransfer-Encoding: chunked\r\n\r\n{TEXT}\r\n".encode(),
}


@asynccontextmanager
async def raw(answer: Answer) -> AsyncIterator[str]:
    """A subscriber that answers with these bytes; its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        writer.write(answer(head + await reader.readexactly(length)))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_a_subscriber_answers_reaches_no_log(gateway: MakeGateway, name: str) -> None:
    """At level debug, with ten ways of answering, and with a person in the event, in the console and in its paths."""
    async with raw(ANSWERS[name]) as url:
        running = await gateway(
            log={"level": "debug", "format": "json"},
            admin={"port": 0, "token": "right"},
            subscribers=[
                {
                    "name": name, "topics": ["sms.dr"], "url": url, "allow_private": True,
                    "retry": {"attempts": 2, "first_delay_s": 0.1, "max_delay_s": 0.1},
                }
            ],
        )  # fmt: skip
        form = {"messageid": PHONE, "phone": PHONE, "status": TEXT, "ext": MAIL, MAIL: "1", TEXT: PHONE}
        async with aiohttp.ClientSession() as session:
            for body in (form, {**form, "messageid": MAIL}, {"nothing": PHONE}):
                async with session.post(f"{running.url}/callbacks/sms-dr", data=body) as answer:
                    assert answer.status in (200, 400)
            await running.logged("delivery.attempted", count=1 if name == "gone" else 2)
            search, event = f"/api/search?q={quote(PHONE)}", f"/api/events/{quote(TEXT)}"
            for path in (search, event, f"/{quote(MAIL)}", f"/callbacks/{quote(TEXT)}"):
                for address in (running.admin_url, running.url):
                    headers = {"Authorization": f"Bearer {'right' if 'q=' in path else PHONE}"}
                    async with session.get(f"{address}{path}", headers=headers) as answer:
                        assert answer.status < 500
            async with session.get(f"{running.admin_url}/metrics") as answer:
                metrics = await answer.text()
    await running.terminate()
    shown = orjson.dumps(running.lines).decode() + metrics
    assert {text for text in PLANTED if text in shown} == set()
