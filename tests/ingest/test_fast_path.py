"""The fast path against the ordinary way: the same bytes, however cut, are answered, stored and counted the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config.settings import Ingest
from gateway.ingest.endpoints import Endpoints, endpoints
from gateway.ingest.plain_http import PlainHeads
from tests.effort import examples
from tests.ingest.test_contract import DR, NXLINK, TASK, TASK_HEADERS
from tests.ingest.wire import Outcome, talk
from tests.rows import rows
from tests.senders.samples import documented_paths

SETTINGS = Ingest.model_validate(
    {
        "callbacks": {
            "callbot-task": {"auth": {"signature": {"secret": "demoSecretKey0001", "algorithm": "md5"}}},
            "ota": {"auth": {"token": "right"}},
            "voice-dr": {"auth": {"allow_ips": ["198.51.100.0/24"]}},
        },
        "trusted_proxies": ["203.0.113.0/24"],
        "max_body_bytes": 2000,
    }
)
ENDPOINTS = endpoints(SETTINGS)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all examples."""
    with asyncio.Runner() as runner:
        yield runner


async def both(chunks: list[bytes], patience_s: float = 60.0) -> tuple[Outcome, Outcome]:
    more = {"trusted_proxies": ["203.0.113.0/24"], "max_body_bytes": 2000}
    fast = await talk(ENDPOINTS, chunks, is_fast=True, patience_s=patience_s, **more)
    return fast, await talk(ENDPOINTS, chunks, is_fast=False, **more)


def post(target: bytes = b"/callbacks/sms-dr", body: bytes = b"messageid=m-1&status=2", *lines: bytes) -> bytes:
    """A plain POST, with more lines in its head."""
    head = [b"POST " + target + b" HTTP/1.1", b"Host: x", *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


SIGNED = [f"{name}: {value}".encode() for name, value in TASK_HEADERS.items()]
PLAIN = {
    "receipt": post(body=DR.replace(b" ", b"+")),
    "in the query": post(b"/callbacks/sms-dr?" + DR.replace(b" ", b"%20"), b""),
    "raw blanks in the query": post(b"/callbacks/sms-dr?" + DR + "&x=成功".encode(), b""),
    "slash at the end": post(b"/callbacks/sms-dr/"),
    "json": post(b"/callbacks/nxlink-call", NXLINK, b"Content-Type: application/json"),
    "signed": post(b"/callbacks/callbot-task", TASK, *SIGNED),
    "wrong signature": post(b"/callbacks/callbot-task", TASK + b" ", *SIGNED),
    "token": post(b"/callbacks/ota?token=right&requestId=r-1&status=SUCCESS", b""),
    "token in the path": post(b"/callbacks/ota/right?requestId=r-1&status=SUCCESS", b""),
    "wrong token": post(b"/callbacks/ota?token=wrong&requestId=r-1&status=SUCCESS", b""),
    "wrong address": post(b"/callbacks/voice-dr", b"messageid=m-1"),
    "right address": post(b"/callbacks/voice-dr", b"messageid=m-1", b"X-Forwarded-For: 198.51.100.9"),
    "not understood": post(body=b"msgid=1"),
    "the log is full": post(body=b"messageid=m-2&ext=log-is-full"),
    "keep-alive": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Connection: Keep-Alive"),
    "close": post(b"/callbacks/sms-dr", b"messageid=m-1", b"connection: close"),
}
#: What must not be taken fast, as single requests. Some are good, some are how requests are smuggled.
OTHER = {
    "get": b"GET /callbacks/sms-dr?messageid=m-1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no length": b"POST /callbacks/sms-dr?messageid=m-1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"POST /callbacks/sms-dr?messageid=m-1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "http/1.0": post().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http/2.0": post().replace(b"HTTP/1.1", b"HTTP/2.0"),
    "lower-case method": post().replace(b"POST", b"post"),
    "chunked": b"POST /callbacks/sms-dr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"d\r\nmessageid=m-1\r\n0\r\n\r\n",
    "chunked and length": post(b"/callbacks/sms-dr", b"0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "another coding": post(b"/callbacks/sms-dr", b"x", b"Transfer-Encoding: identity"),
    "coding with a blank": post(b"/callbacks/sms-dr", b"x", b"Transfer-Encoding : chunked"),
    "two lengths": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Content-Length: 13"),
    "two other lengths": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Content-Length: 5"),
    "list of lengths": post().replace(b"Content-Length: 22", b"Content-Length: 22, 22"),
    "length with plus": post().replace(b"Content-Length: ", b"Content-Length: +"),
    "length with minus": post().replace(b"Content-Length: ", b"Content-Length: -"),
    "length in hex": post().replace(b"Content-Length: 22", b"Content-Length: 0x16"),
    "length with underscore": post().replace(b"Content-Length: 22", b"Content-Length: 2_2"),
    "empty length": post().replace(b"Content-Length: 22", b"Content-Length: "),
    "length with other digits": post().replace(b"Content-Length: 22", "Content-Length: ２２".encode()),
    "endless length": post().replace(b"Content-Length: 22", b"Content-Length: " + b"9" * 30),
    "folded line": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: a\r\n b"),
    "folded length": post().replace(b"Content-Length: ", b"Content-Length:\r\n "),
    "bare line feeds": post().replace(b"\r\n", b"\n"),
    "one bare line feed": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: a\nContent-Length: 5"),
    "bare carriage return": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: a\rContent-Length: 5"),
    "nul": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: a\0b"),
    "blank before the colon": post().replace(b"Content-Length:", b"Content-Length :"),
    "no colon": post(b"/callbacks/sms-dr", b"messageid=m-1", b"nonsense"),
    "no name": post(b"/callbacks/sms-dr", b"messageid=m-1", b": nonsense"),
    "bracket in a name": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X[]: a"),
    "tab": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X:\ta"),
    "no blank": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X:a"),
    "latin-1": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: \xe9"),
    "header twice": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: a", b"x: b"),
    "two hosts": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Host: y"),
    "expect": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Expect: 100-continue"),
    "upgrade": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"),
    "websocket": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Upgrade: websocket", b"Connection: upgrade"),
    "many connections": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Connection: keep-alive, close"),
    "proxy connection": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Proxy-Connection: close"),
    "encoded": post(b"/callbacks/sms-dr", b"messageid=m-1", b"Content-Encoding: gzip"),
    "absolute target": post(b"http://x/callbacks/sms-dr"),
    "absolute target with raw blanks": post(b"http://x/callbacks/sms-dr?" + DR + "&x=成功".encode(), b""),
    "absolute target with a blank in its host": post(b"http://x y/callbacks/sms-dr?" + DR, b""),
    "absolute target with user": post(b"http://u@x/callbacks/sms-dr?" + DR, b""),
    "authority target": post(b"x:443"),
    "asterisk target": post(b"*"),
    "escaped path": post(b"/callbacks/sms%2Ddr"),
    "fragment": post(b"/callbacks/sms-dr?messageid=m-1#x", b""),
    "dots": post(b"/callbacks/../callbacks/sms-dr"),
    "two slashes": post(b"//callbacks/sms-dr"),
    "unknown path": post(b"/elsewhere"),
    "two versions": post().replace(b" HTTP/1.1", b" HTTP/1.1 HTTP/1.1"),
    "two blanks": post().replace(b"POST ", b"POST  "),
    "empty lines before": b"\r\n\r\n" + post(),
    "too large": post(body=b"messageid=m-1&ext=" + b"x" * 3000),
    "very many headers": post(b"/callbacks/sms-dr", b"messageid=m-1", *(b"X-%d: a" % n for n in range(70))),
    "long header": post(b"/callbacks/sms-dr", b"messageid=m-1", b"X: " + b"a" * 5000),
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "the log is broken": post(body=b"messageid=m-2&ext=log-is-broken"),
}


@rows("request_", PLAIN.values(), ids=PLAIN.keys())
async def test_plain_requests_are_taken_fast_and_answered_the_same(request_: bytes) -> None:
    fast, ordinary = await both([request_])
    assert ordinary == fast
    assert fast.answered.startswith(b"HTTP/1.1 ")
    assert is_plain(request_)


@rows("request_", OTHER.values(), ids=OTHER.keys())
async def test_other_requests_are_left_to_aiohttp(request_: bytes) -> None:
    """Alone, and behind a request that was taken fast."""
    for chunks in ([request_], [post(), b"", request_], [post() + request_], [post(), request_, post()]):
        fast, ordinary = await both(chunks)
        assert ordinary == fast
    assert not is_plain(request_) or b"log-is-broken" in request_


def is_plain(request: bytes) -> bool:
    return PlainHeads(ENDPOINTS, 2000).read(request.partition(b"\r\n\r\n")[0]) is not None


LINES = [
    b"X-Forwarded-For: 198.51.100.9", b"Content-Length: 5", b"content-length: 22", b"Transfer-Encoding: chunked",
    b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue", b"X: a\r\n b", b"X : a", b"X: \x80",
    b"X: a\nY: b", b"X:", b"X: ", b"X:  a", b"Token: right", b"Upgrade: x", b"Content-Encoding: deflate",
    b"Content-Encoding: ", b"Accept: */*", b"accept: x", b"TE: trailers", b"Content-Type: application/json",
]  # fmt: skip
built = st.builds(
    post,
    st.sampled_from([b"/callbacks/sms-dr", b"/callbacks/sms-dr?messageid=m-1&x=a b", b"/callbacks/ota?token=right"]),
    st.sampled_from([b"", b"messageid=m-1", b"messageid=m-2&status=2", b"{}", b"0\r\n\r\n", post()]),
    st.sampled_from(LINES),
    st.sampled_from(LINES),
)
whole = st.one_of(st.sampled_from([*PLAIN.values()]), st.sampled_from([*PLAIN.values(), *OTHER.values()]), built)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with some bytes replaced, cut out or put in."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"\t", b"%", b"\x80", b"0", b"HTTP/1.1"]))
        data = data[:at] + new + data[at + draw(st.integers(0, 3)) :]
    return data


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Requests behind each other, cut anywhere; an empty chunk is a pause."""
    data = b"".join(draw(st.lists(st.one_of(whole, whole, mutated()), min_size=1, max_size=4)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    chunks = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    pauses = draw(st.lists(st.booleans(), min_size=len(chunks), max_size=len(chunks)))
    return [part for chunk, pause in zip(chunks, pauses, strict=True) for part in ((chunk, b"") if pause else (chunk,))]


@settings(max_examples=examples(100), deadline=None)
@given(chunks=conversations(), patience_s=st.sampled_from([0.0, 60.0]))
@example(chunks=[PLAIN["receipt"] * 5], patience_s=60.0)
@example(chunks=[b"", b"\r\n", PLAIN["receipt"]], patience_s=60.0)
def test_both_ways_answer_store_and_count_the_same(
    runner: asyncio.Runner, chunks: list[bytes], patience_s: float
) -> None:
    """Any requests, plain, hostile or broken, cut anywhere, with or without pauses between the pieces."""
    fast, ordinary = runner.run(both(chunks, patience_s))
    assert ordinary == fast


@settings(max_examples=examples(40), deadline=None)
@given(data=st.binary(max_size=120).map(lambda raw: re.sub(rb"^", b"POST /", raw, count=1)))
def test_any_bytes_are_answered_the_same(runner: asyncio.Runner, data: bytes) -> None:
    fast, ordinary = runner.run(both([data]))
    assert ordinary == fast


def test_remembered_heads_are_bounded() -> None:
    heads = PlainHeads(Endpoints(iter(ENDPOINTS)), 2000)
    for number in range(5000):
        assert heads.read(post(b"/callbacks/sms-dr?n=%d" % number, b"").rstrip()) is not None
    assert len(heads._read) <= 1024


def test_heads_of_signed_paths_are_not_remembered() -> None:
    """A signature makes each head another one: remembering them would push out those that come again."""
    paths = documented_paths()
    heads = PlainHeads(paths, 2000)
    for row in paths:
        assert heads.read(post(row.path.encode(), b"").rstrip()) is not None
        assert (row.credentials.signature is None) is bool(heads._read), row.path
        heads._read.clear()
