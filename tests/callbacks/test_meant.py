"""What a rejected callback was probably meant to be."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.meant import explained
from gateway.errors import CallbackRejected
from tests.callbacks.samples import Sample, all_samples
from tests.rows import rows

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SAMPLES = all_samples()
ACCEPTED = [sample for sample in SAMPLES if "events" in sample.expected]
#: A callback in the middle of each product's samples: the one a person would enter the address of.
USUAL = {
    "sms-dr": "delivered", "did-sms": "incoming", "voice-dr": "broadcast-body", "whatsapp": "text", "line": "text",
    "viber": "reply-text", "number-check": "live", "pns": "newer-call", "callbot-call": "answered",
    "nxlink-call": "answered", "predictive-dial": "answered", "webcall-cdr": "answered", "super-message": "expired",
    "ai-agent-task": "completed", "ota": "success",
}  # fmt: skip


def reason(callback: str, body: bytes, query: bytes = b"") -> str:
    request = CallbackRequest("POST", "/", query, {}, body, NOW)
    with pytest.raises(CallbackRejected) as refusal:
        CALLBACKS[callback].decode(request, DecodeContext())
    return explained(refusal.value, CALLBACKS[callback], request, DecodeContext()).reason


@rows("sample", [one for one in ACCEPTED if USUAL.get(one.callback) == one.case], ids=str)
def test_the_right_callback_is_named(sample: Sample) -> None:
    """A callback at the address of another one is named, wherever it is rejected."""
    rejected = 0
    for other in CALLBACKS.values():
        try:
            other.decode(sample.request, sample.context)
        except CallbackRejected as error:
            rejected += 1
            said = explained(error, other, sample.request, sample.context).reason
            assert f" {sample.callback}" in said, (other.name, said)
            assert "is this address entered for the wrong callback?" in said
    assert rejected > 10


@rows("sample", [one for one in SAMPLES if "rejected" in one.expected], ids=str)
def test_a_callback_that_lacks_something_is_no_other_one(sample: Sample) -> None:
    """At its own address a callback without its id keeps its reason as it is."""
    with pytest.raises(CallbackRejected) as refusal:
        CALLBACKS[sample.callback].decode(sample.request, sample.context)
    error = explained(refusal.value, CALLBACKS[sample.callback], sample.request, sample.context)
    assert sample.expected["rejected"] == {"reason": error.reason, "field": error.field}


def test_a_form_where_json_is_expected() -> None:
    """A form that is no callback at all names what the callback takes."""
    assert "the body looks like a form, but this callback takes JSON with statuses" in reason("whatsapp", b"a=1&b=2")
    assert "takes JSON with taskID" in reason("callbot-task", b"a=1&b=2")
    for body in (b"5", b"null", b"<xml><requestId>x</requestId></xml>", b"eyJhIjogMX0", b"\xc2\xa0{}"):
        assert "looks like a form" not in reason("viber", body)
    assert "the request holds no fields" in reason("sms-dr", b"")


@given(st.binary(max_size=60), st.sampled_from(sorted(CALLBACKS)))
def test_any_bytes_are_explained(body: bytes, name: str) -> None:
    """Whatever was rejected, the reason begins as the decoder said it, and the field stays."""
    request = CallbackRequest("POST", "/", b"", {}, body, NOW)
    error = CallbackRejected("why", "where")
    said = explained(error, CALLBACKS[name], request, DecodeContext())
    assert ("where", "why") == (said.field, said.reason[:3])
    assert said.reason.isprintable()


def test_a_large_body_is_not_tried_as_other_callbacks() -> None:
    """The work for a sentence is bounded."""
    body = b'{"phone":"15550100200","message":{"text":"' + b"x" * 20_000 + b'"},"sendTime":"2024-01-02 03:05:00"}'
    request = CallbackRequest("POST", "/", b"", {}, body, NOW)
    error = CallbackRejected("why")
    assert explained(error, CALLBACKS["pns"], request, DecodeContext()) is error
    assert explained(error, object(), request._replace(body=b"a=1"), DecodeContext()) is error
