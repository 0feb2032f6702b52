"""Every sample of ``tests/samples`` becomes its expected events."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
import pytest

from gateway.callbacks import CALLBACKS, charset, form
from gateway.errors import CallbackRejected
from gateway.event import from_json
from tests.callbacks.samples import Sample, all_samples
from tests.rows import rows

SAMPLES = all_samples()
ACCEPTED = [sample for sample in SAMPLES if "events" in sample.expected]
REJECTED = [sample for sample in SAMPLES if "rejected" in sample.expected]


def decoded(sample: Sample) -> list[dict[str, Any]]:
    events = CALLBACKS[sample.callback].decode(sample.request, sample.context).events
    return [orjson.loads(event.to_json()) for event in events]


@rows("sample", ACCEPTED, ids=str)
def test_a_sample_becomes_its_events(sample: Sample) -> None:
    """Each request becomes exactly the events written beside it, with the drift written beside it."""
    actual = CALLBACKS[sample.callback].decode(sample.request, sample.context)
    events = decoded(sample)
    for event, expected in zip(events, sample.expected["events"], strict=True):
        if "raw" not in expected["data"]:
            del event["data"]["raw"]
    assert sample.expected["events"] == events
    assert sample.expected.get("drift", []) == list(actual.drift)
    topics = CALLBACKS[sample.callback].topics
    assert all(event.topic in topics for event in actual.events)


@rows("sample", REJECTED, ids=str)
def test_a_sample_is_rejected(sample: Sample) -> None:
    """Each of these requests is refused with the reason and the field written beside it."""
    with pytest.raises(CallbackRejected) as refusal:
        CALLBACKS[sample.callback].decode(sample.request, sample.context)
    assert sample.expected["rejected"] == {"reason": refusal.value.reason, "field": refusal.value.field}


@rows("sample", ACCEPTED, ids=str)
def test_raw_is_lossless(sample: Sample) -> None:
    """``data.raw`` of a single event is the body's own bytes, or all fields of query and body, as text."""
    events, drift = CALLBACKS[sample.callback].decode(sample.request, sample.context)
    raws = [event.data["raw"] for event in events]
    request = sample.request
    codecs = charset.declared(request.headers.get("content-type", ""))
    if len(raws) > 1 or "layout:json-in-a-string" in drift or "layout:json-in-a-field" in drift:
        assert all(orjson.loads(orjson.dumps(raw)) for raw in raws)
    elif isinstance(raws[0], orjson.Fragment):
        body = unquote_to_bytes(request.body) if request.body[:1] == b"%" else request.body
        body = charset.Decoding(codecs).body(body)
        body = (
            charset.Decoding(codecs).json(body) if body[:1] == b"{" and not charset.may_be_utf16(request.body) else body
        )
        if request.query and request.body[:1] != b"%":  # fields of the query are added to the object
            assert orjson.loads(body).keys() <= orjson.loads(orjson.dumps(raws[0])).keys()
            return
        body = body.removeprefix(b"\xef\xbb\xbf").strip().replace(b"\r", b" ").replace(b"\n", b" ")
        # Half a surrogate pair is kept as text, which adds a backslash.
        assert body.replace(b"\\", b"") == orjson.dumps(raws[0]).replace(b"\\", b"")
    elif b"=" in request.query + request.body.replace(b"name=", b"").replace(b"charset=", b""):
        decoding = charset.Decoding(codecs)
        body = decoding.body(request.body).removeprefix(charset.UTF_8_MARK).strip(b"\r\n")
        fields = form.pairs(request.query) + form.pairs(body.replace(b"&amp;", b"&"), decoding)
        names = sample.context.credential_fields
        sent = [pair for pair in fields if pair[0] not in names]
        kept = [
            (name, one) for name, value in raws[0].items() for one in (value if isinstance(value, list) else [value])
        ]
        assert sorted(sent) == sorted(kept)
    else:
        for name, value in raws[0].items():
            assert name.encode() in request.body
            assert value.encode() in request.body or value.encode("gbk") in request.body


@rows("sample", ACCEPTED, ids=str)
def test_an_event_survives_its_bytes(sample: Sample) -> None:
    """An event read back from its bytes has the same bytes, in one line."""
    for event in CALLBACKS[sample.callback].decode(sample.request, sample.context).events:
        wire = event.to_json()
        assert b"\n" not in wire
        again = from_json(wire, event.topic)
        assert orjson.loads(wire) == orjson.loads(again.to_json())


def test_every_callback_has_samples() -> None:
    """No built-in callback is without a sample, and no sample without its callback."""
    assert set(CALLBACKS) == {sample.callback for sample in SAMPLES}
