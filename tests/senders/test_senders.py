"""Webhooks of other senders need no code: the documented configuration takes what they send."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.ingest.wire import Outcome, talk
from tests.rows import rows
from tests.senders.samples import Sample, all_samples, documented, documented_paths

PATHS = documented_paths()
SAMPLES = all_samples()
ways = pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "ordinary"])


def stored(outcome: Outcome) -> list[dict[str, Any]]:
    return [orjson.loads(entry[3]) for entry in outcome.stored]


def status(outcome: Outcome) -> int:
    return int(outcome.answered.split(b" ", 2)[1])


@ways
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
async def test_what_a_sender_sends_becomes_the_expected_events(sample: Sample, is_fast: bool) -> None:
    """By configuration alone: signature, key, type, time, and the sender's own bytes in ``raw``."""
    outcome = await talk(PATHS, [sample.wire], is_fast=is_fast)
    assert status(outcome) == 200
    topics = [entry[0] for entry in outcome.stored]
    events = stored(outcome)
    expected = [dict(one) for one in sample.expected["events"]]
    assert [one.pop("topic") for one in expected] == topics
    assert expected == [{name: event[name] for name in one} for event, one in zip(events, expected, strict=True)]
    for raw in sample.expected.get("raw_bytes", []):
        assert any(raw.encode() in entry[3] for entry in outcome.stored)
    if "raw_bytes" not in sample.expected:
        raws = sample.expected["raw"] if "raw" in sample.expected else [orjson.loads(sample.body)]
        assert raws is None or raws == [event["data"]["raw"] for event in events]
    kind, body = sample.expected.get("answer", ["application/json", '{"code":0,"message":"success"}'])
    assert outcome.answered.endswith(b"\r\n\r\n" + body.encode())
    assert f"Content-Type: {kind}".encode() in outcome.answered


def test_each_documented_sender_has_a_sample() -> None:
    """No snippet of the documentation is untried."""
    assert sorted({sample.name.partition("/")[0] for sample in SAMPLES}) == sorted(documented().callbacks)


@rows("sample", [one for one in SAMPLES if "cloud-events" not in one.name], ids=str)
@rows("change", ["body", "signature", "no signature"])
async def test_a_changed_request_is_refused(sample: Sample, change: str) -> None:
    """A byte of the body, a byte of the signature, or no signature: 401, and nothing is stored."""
    lines = sample.head.strip().split(b"\n")
    at = max(index for index, line in enumerate(lines) if line.lower().split(b":")[0].endswith((b"signature", b"256")))
    body = sample.body
    if change == "body":
        body = body[:-2] + bytes([body[-2] ^ 1]) + body[-1:]
    elif change == "no signature":
        del lines[at]
    else:
        name, value = lines[at].split(b": ")
        middle = value.index(b"v1=", value.index(b"v1=") + 1) + 9 if b"v1=" in value else len(value) - 9
        lines[at] = name + b": " + value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
    outcome = await talk(PATHS, [b"\r\n".join(lines) + b"\r\n\r\n" + body], is_fast=True)
    assert (401, []) == (status(outcome), outcome.stored)


@ways
@pytest.mark.parametrize(
    ("query", "expected", "body"),
    [
        ("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock", 200, b"1158201444"),
        ("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=wrong", 403, b"error"),
        ("hub.mode=subscribe&hub.challenge=1158201444", 403, b"error"),
        ("hub.mode=unsubscribe&hub.challenge=1158201444&hub.verify_token=meatyhamhock", 403, b"error"),
        ("hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=meatyhamhock", 403, b"error"),
        ("hub.mode=subscribe&hub.verify_token=meatyhamhock", 403, b"error"),
        ("", 405, b"error"),
    ],
)
async def test_the_verification_of_meta(query: str, expected: int, body: bytes, is_fast: bool) -> None:
    """The challenge comes back for the right token, as plain text; nothing is stored."""
    outcome = await talk(PATHS, [f"GET /callbacks/meta?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()], is_fast=is_fast)
    assert (expected, [], True) == (status(outcome), outcome.stored, outcome.answered.endswith(b"\r\n\r\n" + body))


@ways
@pytest.mark.parametrize(
    ("headers", "expected", "present"),
    [
        (
            "WebHook-Request-Origin: eventgrid.azure.net\r\nWebHook-Request-Rate: 120\r\n",
            200,
            b"WebHook-Allowed-Rate: *",
        ),
        ("WebHook-Request-Origin: EventGrid.azure.net\r\n", 200, b"WebHook-Allowed-Origin: EventGrid.azure.net"),
        ("WebHook-Request-Origin: other.example.com\r\n", 403, b"Allow: POST"),
        ("", 405, b"Allow: OPTIONS, POST"),
    ],
)
async def test_the_question_of_cloud_events(headers: str, expected: int, present: bytes, is_fast: bool) -> None:
    """An allowed origin gets its name back, and a rate where it asked for one; others get no permission."""
    request = f"OPTIONS /callbacks/cloud-events HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()
    outcome = await talk(PATHS, [request], is_fast=is_fast)
    assert (expected, []) == (status(outcome), outcome.stored)
    assert present in outcome.answered
    assert (b"WebHook-Allowed-Origin" in outcome.answered) is (expected == 200)
    assert (b"WebHook-Allowed-Rate" in outcome.answered) is ("Rate" in headers)


@rows("row", [row for row in PATHS if not row.handshake.methods], ids=lambda row: str(row.path))
async def test_other_paths_answer_no_questions(row: Any) -> None:
    """A path that is not configured for it answers 405 to OPTIONS, and gives no challenge."""
    options = f"OPTIONS {row.path} HTTP/1.1\r\nHost: x\r\nWebHook-Request-Origin: a.example.com\r\n\r\n"
    assert 405 == status(await talk(PATHS, [options.encode()], is_fast=True))
    asked = f"GET {row.path}?hub.mode=subscribe&hub.challenge=77&hub.verify_token= HTTP/1.1\r\nHost: x\r\n\r\n"
    outcome = await talk(PATHS, [asked.encode()], is_fast=True)
    assert status(outcome) in (400, 401, 405)
    assert not outcome.answered.endswith(b"77")
