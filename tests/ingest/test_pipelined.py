"""Requests that share a segment: each is answered by itself, whatever is wrong with its neighbour."""

from __future__ import annotations

import asyncio

import pytest

from tests.ingest.conftest import Running, Serve, read_reply
from tests.waiting import pause, turn

BODY = b"messageid=%s&status=2"


def post(name: bytes, *lines: bytes) -> bytes:
    body = BODY % name
    head = [b"POST /callbacks/sms-dr HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def get(name: bytes) -> bytes:
    """With raw spaces, as the vendor's older accounts send it."""
    target = b"/callbacks/sms-dr?messageid=%s&status=2&drtime=2021-02-26 10:01:15" % name
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"


NEIGHBOURS = {
    "no HTTP": b"\x00\x01 nonsense\r\n\r\n",
    "a bad version": b"GET / HTTP/9.9.9\r\n\r\n",
    "a header without a colon": b"POST /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\nwhat\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a head that is too long": b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
}


async def answers(server: Running, *chunks: bytes, count: int) -> list[int]:
    """The statuses of so many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await pause(0.02, "a segment of its own")
        async with asyncio.timeout(10):
            return [(await read_reply(reader)).status for _ in range(count)]
    finally:
        writer.close()


async def ids(server: Running) -> set[str]:
    return {event["subject"] for event in await server.events()}


@pytest.mark.parametrize("neighbour", NEIGHBOURS.values(), ids=NEIGHBOURS)
async def test_a_whole_request_is_taken_before_a_malformed_one(serve: Serve, neighbour: bytes) -> None:
    """In one segment: the good ones are stored and answered, then the bad one is refused."""
    server = await serve()
    assert [200, 200, 400] == await answers(server, post(b"a") + get(b"b") + neighbour, count=3)
    assert {"a", "b"} == await ids(server)


@pytest.mark.parametrize("between", [b"", b"\r\n", b"\r\n\r\n", b"\n"], ids=repr)
async def test_raw_spaces_are_mended_wherever_a_request_begins(serve: Serve, between: bytes) -> None:
    """First, in the middle, last, behind empty lines: in one segment, and a byte at a time."""
    data = between + between.join([get(b"a"), post(b"b"), get(b"c"), get(b"d"), post(b"e")])
    server = await serve(read_timeout=60.0)
    assert [200] * 5 == await answers(server, data, count=5)
    assert set("abcde") == await ids(server)
    for size in (1, 7, 50):
        again = await serve(read_timeout=60.0)
        reader, writer = await asyncio.open_connection("127.0.0.1", again.port)
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])
            await turn()
        async with asyncio.timeout(10):
            assert [200] * 5 == [(await read_reply(reader)).status for _ in range(5)]
        writer.close()
        assert set("abcde") == await ids(again)


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0", b"x"])
@pytest.mark.parametrize("is_together", [True, False], ids=["one segment", "two"])
async def test_a_request_behind_one_to_upgrade_is_answered(serve: Serve, protocol: bytes, is_together: bool) -> None:
    """We do not upgrade, so what follows is HTTP/1."""
    server = await serve()
    lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABk")
    chunks = [post(b"a", *lines), get(b"b"), post(b"c")]
    assert [200] * 3 == await answers(server, *([b"".join(chunks)] if is_together else chunks), count=3)
    assert {"a", "b", "c"} == await ids(server)


async def test_what_looks_like_a_request_in_a_body_is_a_body(serve: Serve) -> None:
    """Cut by its length, and by its chunks: nothing in a body is mended or taken."""
    hidden = get(b"hidden")
    server = await serve()
    sized = b"POST /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    chunked = b"POST /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(hidden)
    for data in (sized + hidden + post(b"a"), chunked + hidden + b"\r\n0\r\n\r\n" + post(b"b")):
        assert [400, 200] == await answers(server, data, count=2)
    assert "hidden" not in await ids(server)
    assert {"a", "b"} <= await ids(server)


async def test_a_segment_full_of_requests_is_answered_whole_and_waits_its_turn(serve: Serve) -> None:
    """Thousands in a few segments: all are answered, few of them wait as parsed requests at a time."""
    server = await serve()
    most = 0

    def measure() -> None:
        nonlocal most, timer
        found = server.server._server.connections if server.server._server is not None else []
        most = max([most, *(len(one._messages) for one in found)])
        timer = loop.call_later(0, measure)

    loop = asyncio.get_running_loop()
    timer = loop.call_soon(measure)
    data = b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    async with asyncio.timeout(30):
        assert {404} == {(await read_reply(reader)).status for _ in range(2000)}
    writer.close()
    timer.cancel()
    assert 0 < most <= 100
