from __future__ import annotations

import asyncio
import re

import orjson
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from gateway import __version__
from gateway.fanout.attempt import HEAD_BYTES
from gateway.fanout.http_answer import MAX_RESPONSE_BYTES
from gateway.fanout.transform import Transform
from gateway.log import Record
from tests.fanout.events import entry
from tests.fanout.receiver import Post, Receiver, ok, status
from tests.fanout.running import SECRET, webhook
from tests.ports import free_port

RECORD = Record("p", 0, 0.0, *entry(1))


async def test_what_a_subscriber_gets() -> None:
    """The event's bytes unchanged, the headers of Standard Webhooks, a trace, and nothing else of ours."""
    async with Receiver() as receiver:
        sink = webhook(receiver.url, headers={"X-Team": "billing", "User-Agent": "ours"})
        result = await sink.attempt(RECORD, is_replay=False)
        await sink.close()
    (post,) = receiver.posts
    assert (200, True) == (result.status, result.is_success)
    assert RECORD.value == post.body
    assert orjson.loads(RECORD.value) == Webhook(SECRET).verify(post.body, post.headers)
    assert RECORD.id == post.id
    assert "application/cloudevents+json" == post.headers["content-type"]
    assert re.fullmatch(f"00-{RECORD.id}-[0-9a-f]{{16}}-01", post.headers["traceparent"])
    assert "billing" == post.headers["x-team"]
    assert "ours" == post.headers["user-agent"]
    assert "gateway-replay" not in post.headers
    assert "cookie" not in post.headers


async def test_attempts_differ_in_span_and_replays_say_so() -> None:
    """Same id and bytes at each attempt, a fresh span, and ``gateway-replay`` on replays."""
    async with Receiver() as receiver:
        sink = webhook(receiver.url)
        await sink.attempt(RECORD, is_replay=False)
        await sink.attempt(RECORD, is_replay=True)
        await sink.close()
    first, second = receiver.posts
    assert (first.body, first.id) == (second.body, second.id)
    assert first.headers["traceparent"] != second.headers["traceparent"]
    assert "true" == second.headers["gateway-replay"]
    assert f"nxcloud-gateway/{__version__}" == first.headers["user-agent"]


async def test_trace_that_came_with_the_event_goes_on() -> None:
    """The trace id and flags of the record's own ``traceparent``, with a span of the attempt."""
    carried = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"
    async with Receiver() as receiver:
        sink = webhook(receiver.url)
        await sink.attempt(RECORD._replace(headers=(("traceparent", carried),)), is_replay=False)
        await sink.close()
    sent = receiver.posts[0].headers["traceparent"]
    assert carried[:36] == sent[:36]
    assert "b" * 16 != sent[36:52]
    assert "-00" == sent[52:]


async def test_failures_tell_status_wait_and_first_kilobyte() -> None:
    """Of an answer the first kilobyte is kept, and ``Retry-After`` read."""
    async with Receiver(status(503, text="x" * 5000, headers={"Retry-After": "7"})) as receiver:
        sink = webhook(receiver.url)
        result = await sink.attempt(RECORD, is_replay=False)
        await sink.close()
    assert (503, 7.0, b"x" * HEAD_BYTES) == (result.status, result.retry_after_s, result.head)
    assert "answered 503 Service Unavailable" == result.detail


async def test_endless_answers_are_cut() -> None:
    """A subscriber that answers without end is read to the limit, then its connection is closed."""
    sent = 0
    is_cut = asyncio.Event()

    async def endless(post: Post) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(requests[-1])
        try:
            while True:
                await response.write(b"x" * 8192)
                sent += 8192
        except (ConnectionError, OSError):
            is_cut.set()
            raise
        return response

    requests: list[web.BaseRequest] = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        requests.append(request)
        return await endless(Post({}, b""))

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sink = webhook(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    result = await sink.attempt(RECORD, is_replay=False)
    async with asyncio.timeout(5):
        await is_cut.wait()
    await sink.close()
    await runner.cleanup()
    assert 200 == result.status
    assert sent > MAX_RESPONSE_BYTES


async def test_no_answer_in_time_is_a_timeout() -> None:
    """The time-out covers connecting, waiting and reading."""
    hold = asyncio.Event()

    async def hang(_: Post) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    async with Receiver(hang) as receiver:
        sink = webhook(receiver.url, timeout_s=0.05)
        result = await sink.attempt(RECORD, is_replay=False)
        hold.set()
        await sink.close()
    assert ("timeout", None, True) == (result.error, result.status, result.is_overload)


async def test_nobody_listening_and_unknown_names_are_values() -> None:
    """What goes wrong before an answer has a kind and a sentence, and is never an exception."""
    refused, unknown = webhook(f"http://127.0.0.1:{free_port()}/"), webhook("http://no-such-host.invalid/")
    results = [await sink.attempt(RECORD, is_replay=False) for sink in (refused, unknown)]
    await refused.close()
    await unknown.close()
    assert ["connect", "dns"] == [result.error for result in results]
    assert all(result.detail for result in results)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", "disconnected"),
        (b"HTTP/1.1 20", "disconnected"),
        (b"HTTP/1.1 102 Processing\r\n\r\n", "disconnected"),
        (b"SSH-2.0-x\r\n\r\n", "protocol"),
    ],
)
async def test_what_is_not_http_is_a_value(said: bytes, kind: str) -> None:
    """Connections that close, answers cut short, other protocols."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sink = webhook(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    result = await sink.attempt(RECORD, is_replay=False)
    await sink.close()
    server.close()
    await server.wait_closed()
    assert (kind, None) == (result.error, result.status)


@pytest.mark.parametrize("status", [200, 410, 500])
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "hanging"])
async def test_the_status_counts_whatever_becomes_of_the_body(status: int, is_closed: bool) -> None:
    """A body that breaks off or does not end in time leaves the answer as it is; what came of it is kept."""
    hold = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: 9\r\n\r\nshort" % status)
        await writer.drain()
        if not is_closed:
            await hold.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sink = webhook(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout_s=0.2)
    result = await sink.attempt(RECORD, is_replay=False)
    hold.set()
    await sink.close()
    server.close()
    await server.wait_closed()
    assert (status, None, b"short") == (result.status, result.error, result.head)


async def test_cookies_are_not_kept() -> None:
    """A subscriber cannot make the gateway carry its state."""
    async with Receiver(status(200, headers={"Set-Cookie": "a=b"})) as receiver:
        sink = webhook(receiver.url)
        await sink.attempt(RECORD, is_replay=False)
        await sink.attempt(RECORD, is_replay=False)
        await sink.close()
    assert all("cookie" not in post.headers for post in receiver.posts)


async def test_transform_changes_what_is_sent_and_signed_not_what_is_stored() -> None:
    """Without ``data.raw``: signed as sent, the same bytes at each attempt."""
    async with Receiver() as receiver:
        sink = webhook(receiver.url, transform=Transform(exclude=["data.raw"]))
        await sink.attempt(RECORD, is_replay=False)
        await sink.attempt(RECORD, is_replay=False)
        await sink.close()
    first, second = receiver.posts
    assert first.body == second.body
    sent = Webhook(SECRET).verify(first.body, first.headers)
    whole = orjson.loads(RECORD.value)
    del whole["data"]["raw"]
    assert whole == sent


async def test_large_events_are_sent_whole() -> None:
    """Above a mebibyte as well, with a length."""
    large = RECORD._replace(value=entry(1, text="x" * 2_000_000).value)
    async with Receiver(ok) as receiver:
        sink = webhook(receiver.url)
        result = await sink.attempt(large, is_replay=False)
        await sink.close()
    assert 200 == result.status
    assert large.value == receiver.posts[0].body
