"""Each failure as a sentence with advice."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.fanout.attempt import AttemptResult, ErrorKind, sentence_of
from tests.rows import rows

CASES = [
    (AttemptResult(error="connect", detail="connection refused by 127.0.0.1:9000"),
     "connection refused by 127.0.0.1:9000: is it running?"),
    (AttemptResult(error="refused_address", detail="10.1.2.3 is refused: private"),
     "private address 10.1.2.3: set allow_private"),
    (AttemptResult(error="refused_address", detail="224.0.0.1 is refused: multicast"),
     "multicast address 224.0.0.1: no webhook is sent there"),
    (AttemptResult(error="tls", detail="TLS with a:443 failed: wrong version number"),
     "TLS with a:443 failed: wrong version number: does it speak TLS on this port?"),
    (AttemptResult(405), "answered 405 Method Not Allowed: the address in url must accept POST"),
    (AttemptResult(307), "answered 307 Temporary Redirect: redirects are not followed: set url to the new address"),
    (AttemptResult(599, detail="answered 599 secret words"), "answered 599: it failed: see its log"),
    (AttemptResult(204), ""),
]  # fmt: skip


@pytest.mark.parametrize(("result", "expected"), CASES, ids=lambda value: getattr(value, "summary", ""))
def test_what_is_said_of_an_attempt(result: AttemptResult, expected: str) -> None:
    assert result.sentence == expected


@pytest.mark.parametrize("kind", get_args(ErrorKind))
def test_every_kind_has_words_and_advice(kind: ErrorKind) -> None:
    """Also where only the word was kept."""
    said = sentence_of(kind)
    words, _, advice = said.partition(": ")
    assert kind not in words or "_" not in kind
    assert advice


@rows("status", range(100, 600))
def test_every_status_has_advice(status: int) -> None:
    said = sentence_of(str(status))
    assert (said == "") == (200 <= status < 300)
    assert said.count(": ") >= (not 200 <= status < 300)
