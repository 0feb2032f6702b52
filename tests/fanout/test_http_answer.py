"""Answers as bytes: the status line decides, whatever is behind it, and however the bytes are split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fanout.attempt import HEAD_BYTES
from gateway.fanout.http_answer import MAX_HEAD_BYTES, MAX_INTERIM, MAX_RESPONSE_BYTES, HttpAnswer, NotHttp
from tests.effort import examples
from tests.rows import rows

#: What may follow a status line and is wrong; ``b"\r\n"`` ends the head.
FLAWS: dict[str, bytes] = {
    "two equal lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of equal lengths": b"Content-Length: 2, 2\r\n\r\nok",
    "two different lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a length that is no number": b"Content-Length: two\r\n\r\nok",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "an enormous length": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "bytes past the length": b"Content-Length: 2\r\n\r\nokay, and more",
    "length and chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "an unknown transfer coding": b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a chunk that is none": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n",
    "a chunk of another length": b"Transfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
    "a long chunk line": b"Transfer-Encoding: chunked\r\n\r\n2;" + b"x" * 5000,
    "bytes past the chunks": b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
    "a header of 8.5 kB": b"X-Long: " + b"x" * 8500 + b"\r\nContent-Length: 0\r\n\r\n",
    "200 headers": b"".join(b"X-%d: x\r\n" % n for n in range(200)) + b"Content-Length: 0\r\n\r\n",
    "a header that is not ASCII": b"X-Name: \xe9\xff\r\nContent-Length: 0\r\n\r\n",
    "a header without a colon": b"what is this\r\nContent-Length: 0\r\n\r\n",
    "a header with NUL": b"X-Nul: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a coding that is not so": b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
    "a body without a length": b"\r\nok",
    "line ends of LF": b"Content-Length: 2\n\nok",
    "a duplicate Date": b"Date: x\r\nDate: y\r\nContent-Type: a\r\nContent-Type: b\r\nContent-Length: 0\r\n\r\n",
    "a head that is cut": b"Content-Le",
    "a body that is cut": b"Content-Length: 9\r\n\r\nok",
    "nothing": b"",
}


def read(data: bytes, *cuts: int) -> HttpAnswer:
    """Feed the bytes in pieces, then close."""
    answer = HttpAnswer()
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, end in pairwise(edges):
        if not answer.is_complete and end > start:
            answer.feed(data[start:end])
    if not answer.is_complete:
        answer.conclude()
    return answer


@rows("flaw", FLAWS.values(), ids=FLAWS)
@rows("line", [b"200 OK", b"201 ", b"202", b"204 No Content", b"299 \xff\xfe", b"503 Busy", b"410 Gone"])
@settings(max_examples=examples(10))
@given(cuts=st.lists(st.integers(0, 9000), max_size=4))
def test_a_flaw_leaves_the_status(line: bytes, flaw: bytes, cuts: list[int]) -> None:
    """Whatever follows the status line, and wherever the bytes are split, the status is the answer."""
    answer = read(b"HTTP/1.1 " + line + b"\r\n" + flaw, *cuts)
    assert int(line[:3]) == answer.status


@rows(
    "line",
    [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200\n", b"http/1.1 200 ok\r\n", b"\r\nHTTP/1.1  200 OK\r\n", b"HTTP/2 200\r\n"],
)
def test_status_lines_that_are_not_quite_right_count(line: bytes) -> None:
    """Version, case, reason phrase and line ends do not matter."""
    assert 200 == read(line + b"\r\n").status


@rows(
    "data",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 OK 200\r\n",
        b"HTTP/1.1 20\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"\0" * 9,
        b"HTTP/1.1 099 x\r\n",
    ],
)
@settings(max_examples=examples(10))
@given(cuts=st.lists(st.integers(0, 20), max_size=3))
def test_what_has_no_status_is_not_http(data: bytes, cuts: list[int]) -> None:
    """It is refused at once, and not waited for until the time is up."""
    with pytest.raises(NotHttp):
        read(data, *cuts)


@rows("wait", [b"Retry-After: 7\r\n", b"retry-after:7\r\n"])
@rows("flaw", ["200 headers", "a header of 8.5 kB", "a header that is not ASCII", "line ends of LF"])
def test_retry_after_is_read_around_a_flaw(flaw: str, wait: bytes) -> None:
    """Before it, and behind it."""
    data = FLAWS[flaw].removesuffix(b"\r\n").removesuffix(b"ok")
    for fields in (wait + data + b"\r\n", data.removesuffix(b"\n\n") + b"\r\n" + wait + b"\r\n"):
        assert "7" == read(b"HTTP/1.1 429 Slow\r\n" + fields.replace(b"\r\n\r\n", b"\r\n") + b"\r\n").retry_after


def test_a_header_that_is_cut_says_nothing() -> None:
    """``Retry-After: 1`` may have been going to be 120."""
    assert read(b"HTTP/1.1 503 Busy\r\nRetry-After: 1").retry_after is None


@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_a_connection_is_used_again_after_a_flawless_answer_only(cuts: list[int]) -> None:
    """Lengths, chunks, no body: all read to their end, and kept."""
    good = {
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok": b"ok",
        b"HTTP/1.1 204 No Content\r\n\r\n": b"",
        b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n1\r\nk\r\n0\r\nX: y\r\n\r\n": b"ok",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n": b"",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok": b"ok",
    }
    for data, body in good.items():
        answer = read(data, *cuts)
        assert (True, body) == (answer.is_reusable, answer.body)
    for name, flaw in FLAWS.items():
        if name not in {"200 headers", "a header of 8.5 kB", "line ends of LF"} and not name.startswith(
            ("a header", "a duplicate", "a coding")
        ):
            assert not read(b"HTTP/1.1 200 OK\r\n" + flaw).is_reusable, name
    for last in (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 101 Switching\r\n"):
        assert not read(last + b"Content-Length: 0\r\n\r\n").is_reusable


@rows("step", [11, 1000, 65536])
@rows(
    ("start", "endless"),
    [
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"HTTP/1.1 102 Processing\r\n", b"X-Header: x\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", b"x"),
        (b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n", b"0;"),
        (b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b"x"),
        (b"", b"\r\n"),
        (b"HTTP/1.1 200 ", b"x"),
    ],
    ids=repr,
)
def test_every_endless_answer_ends(start: bytes, endless: bytes, step: int) -> None:
    """Within the bounds of head and body, and one piece more."""
    answer, fed = HttpAnswer(), 0
    data = start + endless * (300_000 // len(endless))
    try:
        while not answer.is_complete:
            assert fed < MAX_HEAD_BYTES + MAX_RESPONSE_BYTES + 2 * step
            answer.feed(data[fed : fed + step])
            fed += step
    except NotHttp:
        assert not answer.status
    assert len(answer.body) <= HEAD_BYTES


def test_interim_answers_are_counted() -> None:
    """A few are read over; one more than the bound is refused."""
    interim, final = b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"
    assert 200 == read(interim * MAX_INTERIM + final).status
    with pytest.raises(NotHttp, match="interim"):
        read(interim * (MAX_INTERIM + 1) + final)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_are_an_answer_or_not_http(data: bytes, cuts: list[int]) -> None:
    """Never another error, and split anywhere they say the same."""

    def said(*at: int) -> object:
        try:
            answer = read(b"HTTP/1.1 2" + data, *at)
        except NotHttp:
            return None
        return answer.status, answer.retry_after, answer.body

    assert said() == said(*cuts)
