"""What the vendor is told."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from gateway.callbacks import CALLBACKS, CallbackRequest
from gateway.callbacks.answers import MISSING
from gateway.callbacks.signature import SignaturePolicy, callbot_signature
from tests.rows import rows

NOW = datetime(2024, 12, 24, 0, 31, 40, 500_000, tzinfo=UTC)
PLAIN = CallbackRequest("POST", "/", b"", {}, b"{}", NOW)
TEXT = {"sms-dr", "did-sms", "voice-dr", "ota", "email-dr"}
CALLBOT = {"callbot-call", "callbot-order", "callbot-task"}


@rows("name", CALLBACKS)
def test_success_is_exactly_200_in_the_vendors_words(name: str) -> None:
    """Text ``success``, ``retCode`` 0, or code 0; always status 200, the only one that any page names."""
    answer = CALLBACKS[name].answers.success(PLAIN, None, NOW)
    assert 200 == answer.status
    if name in TEXT:
        assert (b"success", "text/plain; charset=utf-8") == (answer.body, answer.content_type)
    elif name in CALLBOT:
        assert (0, "success") == (orjson.loads(answer.body)["retCode"], orjson.loads(answer.body)["retMsg"])
    else:
        assert (b'{"code":0,"message":"success"}', "application/json") == (answer.body, answer.content_type)


@rows("name", CALLBACKS)
@rows("status", [400, 401, 403, 404, 405, 413, 500, 503])
def test_failure_in_the_vendors_words(name: str, status: int) -> None:
    """A refusal keeps its status and says so in the vendor's form; the reason is told where there is room."""
    answer = CALLBACKS[name].answers.failure(status, "a reason", PLAIN, None, NOW)
    assert status == answer.status
    if name in TEXT:
        assert (b"failure" if name == "email-dr" else b"error") == answer.body
    elif name in CALLBOT:
        body = orjson.loads(answer.body)
        assert "a reason" == body["retMsg"]
        assert 0 != body["retCode"]
    else:
        assert {"code": status, "message": "a reason"} == orjson.loads(answer.body)


@rows("name", sorted(set(CALLBACKS) - CALLBOT))
def test_success_is_made_once(name: str) -> None:
    """The constant answers are constants: the hot path makes nothing."""
    answers = CALLBACKS[name].answers
    assert answers.success(PLAIN, None, NOW) is answers.success(PLAIN, None, NOW)


@pytest.mark.parametrize("algorithm", [None, "MD5", "SHA256"])
def test_callbot_answers_are_signed(algorithm: str | None) -> None:
    """The answer echoes requestID and uuid, is dated in seconds, and its signature over its own body is right."""
    headers = {"requestid": "r-1", "uuid": "u-1", "createts": "1735000300", "sign": "0" * 32}
    if algorithm:
        headers["algorithm"] = algorithm
    policy = SignaturePolicy("callbot", ("new", "old"))
    answer = CALLBACKS["callbot-task"].answers.success(
        CallbackRequest("POST", "/", b"", headers, b"{}", NOW), policy, NOW
    )
    sent = dict(answer.headers)
    assert ("r-1", "u-1", "1735000300") == (sent["requestID"], sent["uuid"], sent["createTs"])
    assert algorithm == sent.get("algorithm")
    expected = callbot_signature(
        "new",
        request_id="r-1",
        uuid="u-1",
        create_ts="1735000300",
        body=answer.body,
        algorithm="sha256" if algorithm == "SHA256" else "md5",
    )
    assert expected == sent["sign"]


def test_a_repeat_gets_the_same_answer() -> None:
    """``responseID`` depends on the request alone; another request gets another."""
    answers = CALLBACKS["callbot-task"].answers
    first = CallbackRequest("POST", "/", b"", {"requestid": "r-1"}, b"{}", NOW)
    other = CallbackRequest("POST", "/", b"", {"requestid": "r-2"}, b"{}", NOW)
    assert answers.success(first, None, NOW) == answers.success(first, None, NOW)
    assert answers.success(first, None, NOW).body != answers.success(other, None, NOW).body
    assert 32 == len(orjson.loads(answers.success(first, None, NOW).body)["responseID"])


@rows(
    ("status", "reason", "code"),
    [(400, MISSING, 2), (400, f"taskID: {MISSING}; it looks like x", 2), (400, "not JSON", 3), (401, "x", 6001),
     (403, "x", 6003),
     (503, "x", 7), (404, "x", 1)],
)  # fmt: skip
def test_callbot_codes(status: int, reason: str, code: int) -> None:
    """A refusal carries the code that Callbot's own API has for it."""
    assert (
        code
        == orjson.loads(CALLBACKS["callbot-call"].answers.failure(status, reason, PLAIN, None, NOW).body)["retCode"]
    )


def test_hostile_headers_cannot_break_the_answer() -> None:
    """Line ends, endless values and unknown hashes in the request's headers do not get into the answer."""
    headers = {"requestid": "a\r\nset-cookie: x", "uuid": "u" * 10_000, "algorithm": "md4\n", "sign": "\udcff"}
    request = CallbackRequest("POST", "/", b"", headers, b"{}", NOW)
    answer = CALLBACKS["callbot-task"].answers.failure(
        401, "bad\nreason \udcff", request, SignaturePolicy("callbot", ("s",)), NOW
    )
    for name, value in answer.headers:
        assert (name + value).isprintable()
        assert len(value) <= 200
    orjson.loads(answer.body)
