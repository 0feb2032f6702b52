"""What the platform's clients really send: blanks and letters that are not escaped, split anywhere."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.plain_http import mended
from tests.ingest.conftest import Serve, read_reply, request_bytes
from tests.rows import rows
from tests.waiting import turn

QUERY = (
    "result=DELIVRD&size=2&phone=15550100200&messageid=m-1&drtime=2024-01-02 03:04:09&sendtime=2024-01-02 03:04:05"
    "&status=2&ext=成功接通 a+b"
).encode()


@pytest.mark.parametrize("escape", [b" ", b"+", b"%20"])
async def test_blank_in_the_query_is_accepted_however_it_is_written(serve: Serve, escape: bytes) -> None:
    """A raw blank, ``+``, ``%20`` and raw UTF-8 all give the same event."""
    gateway = await serve()
    reply = await gateway.raw(request_bytes("POST", b"/callbacks/sms-dr?" + QUERY.replace(b" ", escape)))
    assert (200, b"success") == (reply.status, reply.body)
    (event,) = await gateway.events()
    assert "2024-01-02 03:04:09" == event["data"]["raw"]["drtime"]
    assert "成功接通 a b" == event["data"]["ext"]
    assert "2024-01-01T19:04:09.000000Z" == event["data"]["done_at"]


async def test_absolute_target_says_the_same_as_its_path(serve: Serve) -> None:
    """Proxies send the whole address (RFC 9112, section 3.2.2): the same event, with raw blanks or without."""
    gateway = await serve()
    targets = [b"/callbacks/sms-dr?" + QUERY, b"/callbacks/sms-dr?" + QUERY.replace(b" ", b"%20")]
    for target in [*targets, *(b"http://gateway.example.com:8080" + one for one in targets)]:
        reply = await gateway.raw(request_bytes("POST", target))
        assert (200, b"success") == (reply.status, reply.body)
    (event,) = await gateway.events()
    assert "2024-01-02 03:04:09" == event["data"]["raw"]["drtime"]
    assert "成功接通 a b" == event["data"]["ext"]


async def test_request_may_be_split_at_any_byte(serve: Serve) -> None:
    """One connection, one request after the other, each cut at another place: all are understood."""
    gateway = await serve()
    count = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    request = request_bytes("POST", b"/callbacks/sms-dr?" + QUERY, b"rate=7.05", {"Content-Type": "x"})
    for cut in range(1, len(request)):
        one = request.replace(b"m-1", b"m-%d" % cut)
        writer.write(one[:cut])
        await writer.drain()
        await turn()
        writer.write(one[cut:])
        reply = await read_reply(reader)
        assert (200, b"success") == (reply.status, reply.body), cut
        count += 1
    writer.close()
    assert count == len(await gateway.stored())


async def test_body_bytes_that_look_like_a_request_line_are_not_touched(serve: Serve) -> None:
    """Mending never reaches into a body, even when a chunk of it starts like a request."""
    gateway = await serve()
    body = b"messageid=m-1&status=2&ext=x\r\nPOST /a b HTTP/1.1\r\n&size=1"
    request = request_bytes("POST", b"/callbacks/sms-dr", body, {"Content-Type": "application/x-www-form-urlencoded"})
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    cut = request.index(b"POST /a b")
    writer.write(request[:cut])
    await writer.drain()
    writer.write(request[cut:])
    assert (await read_reply(reader)).status == 200
    writer.close()
    (event,) = await gateway.events()
    assert event["data"]["raw"]["ext"] == "x\r\nPOST /a b HTTP/1.1\r\n"


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    gateway = await serve()
    requests = [request_bytes("POST", b"/callbacks/sms-dr?messageid=m-%d&status=2" % n) for n in range(20)]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"".join(requests))
    replies = [await read_reply(reader) for _ in requests]
    writer.close()
    assert {200} == {reply.status for reply in replies}
    assert [f"m-{n}" for n in range(20)] == [event["subject"] for event in await gateway.events()]


async def test_expect_100_is_answered_before_the_body(serve: Serve) -> None:
    """curl asks so before a large body, and would wait a second."""
    gateway = await serve()
    body = b"messageid=m-1&status=2"
    request = request_bytes("POST", b"/callbacks/sms-dr", body, {"Expect": "100-continue"})
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request[: -len(body)])
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readexactly(25)
    writer.write(body)
    assert (await read_reply(reader)).status == 200
    writer.close()


@rows(
    "line",
    [
        b"POST /a HTTP/1.1 HTTP/1.1",
        b"POST /a http/1.0 x HTTP/1.1",
        b"POST  /a b HTTP/1.1",
        b"post /a b HTTP/1.1",
        b"POST a b HTTP/1.1",
        b"POST /a b HTTP/2.0",
        b"POST /a b HTTP/1.1 ",
        b"POST\t/a b\tHTTP/1.1",
        b"POST http://x/a HTTP/1.1 HTTP/1.1",
        b"POST http://x /a b HTTP/1.1",
        b"POST http://x y/a b HTTP/1.1",
        b"POST http:///a b HTTP/1.1",
        b"POST http://u@x/a b HTTP/1.1",
        b"POST ftp://x/a b HTTP/1.1",
        b"POST x:443/a b HTTP/1.1",
        b"POST http://\xe9/a b HTTP/1.1",
    ],
)
def test_line_with_two_readings_is_left_for_the_parser(line: bytes) -> None:
    data = line + b"\r\nHost: x\r\n\r\n"
    assert data == mended(data)


async def test_ambiguous_line_is_answered_400(serve: Serve) -> None:
    gateway = await serve()
    reply = await gateway.raw(b"POST /callbacks/sms-dr HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (400, b"error") == (reply.status, reply.body)


printable = st.binary(max_size=60).filter(lambda raw: not set(raw) & set(b"\r\n"))


@given(
    host=st.sampled_from([b"", b"http://x", b"https://192.0.2.1:8080", b"http://[::1]"]),
    target=printable,
    rest=st.binary(max_size=40),
)
def test_mending_changes_nothing_but_blanks_and_letters_of_the_target(host: bytes, target: bytes, rest: bytes) -> None:
    """The same bytes come out with each blank and non-ASCII byte escaped; what follows the line is untouched."""
    data = b"POST " + host + b"/" + target + b" HTTP/1.1\r\n" + rest
    result = mended(data)
    if result != data:
        line, _, after = result.partition(b"\r\n")
        method, changed, version = line.split(b" ")
        assert (b"POST", b"HTTP/1.1", rest) == (method, version, after)
        expected = b"".join(
            b"%%%02X" % byte if byte == 32 or byte >= 128 else bytes([byte]) for byte in host + b"/" + target
        )
        assert expected == changed


@given(st.binary(max_size=200))
def test_mending_is_safe_on_any_bytes_and_does_nothing_twice(data: bytes) -> None:
    once = mended(data)
    assert once == mended(once)
