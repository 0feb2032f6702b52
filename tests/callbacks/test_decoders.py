"""Promises that every decoder keeps, whatever is sent to it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, Callback, CallbackRequest, DecodeContext, Decoded, charset
from gateway.callbacks.callback import EventSchema, VendorPage
from gateway.callbacks.field_mapping import Field
from gateway.errors import CallbackRejected
from gateway.event import from_json
from tests.callbacks.samples import ARRIVAL, Sample, all_samples
from tests.effort import examples
from tests.rows import rows

CONTEXT = DecodeContext()
SAMPLES = [sample for sample in all_samples() if "events" in sample.expected]
#: Samples whose names are the documented ones, so that a test can take one of them away.
JSON_SAMPLES = [
    sample
    for sample in SAMPLES
    if sample.request.body[:1] == b"{" and sample.case not in ("status-bare", "names-spelt-otherwise")
]
EVERY = rows("callback", CALLBACKS.values(), ids=lambda callback: callback.name)


def request(body: bytes = b"", query: bytes = b"", **headers: str) -> CallbackRequest:
    return CallbackRequest("POST", "/callbacks/x", query, headers, body, ARRIVAL)


def attempt(callback: Callback, sent: CallbackRequest) -> Decoded | CallbackRejected:
    """Events that can be stored and read back, or a typed refusal; anything else fails the test."""
    try:
        decoded = callback.decode(sent, CONTEXT)
    except CallbackRejected as exc:
        str(exc).encode()
        return exc
    assert decoded.events
    for event in decoded.events:
        wire = event.to_json()
        assert b"\n" not in wire
        assert event.subject
        assert orjson.loads(wire) == orjson.loads(from_json(wire).to_json())
    return decoded


def normalised(decoded: Decoded) -> list[dict[str, Any]]:
    """What the events say, without raw and id."""
    found = []
    for event in decoded.events:
        data = orjson.loads(event.to_json())["data"]
        del data["raw"]
        found.append({"type": event.type, "subject": event.subject, "time": event.time, "data": data})
    return found


def names(callback: Callback) -> list[str]:
    """The vendor's field names, so that generated objects reach the converters."""
    return sorted(
        {part for schema in callback.schemas for line in schema.fields for s in line.sources for part in s.split(".")}
    )


def jsonish(callback: Callback) -> st.SearchStrategy[Any]:
    known = st.sampled_from([*names(callback), "odd", "", "type", "value", "field"])
    leaf = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=12)
        | st.sampled_from(["0", "1", "1735000000", "2024-01-02 03:04:05", "{}", "[1]", '{"a":{}}', "c-1"])
    )
    return st.recursive(
        leaf,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known, inner, max_size=8),
        max_leaves=25,
    )


@EVERY
@given(body=st.binary(max_size=200), query=st.binary(max_size=60))
@settings(max_examples=examples(10))
def test_any_bytes(callback: Callback, body: bytes, query: bytes) -> None:
    """Any bytes become events or a typed refusal and nothing else."""
    attempt(callback, request(body, query))


@EVERY
@given(data=st.data())
@settings(max_examples=examples(8), deadline=None)
def test_any_json(callback: Callback, data: st.DataObject) -> None:
    """Any JSON object made of the vendor's own names becomes events or a typed refusal and nothing else."""
    body = data.draw(st.dictionaries(st.sampled_from([*names(callback), "odd"]), jsonish(callback), max_size=12))
    attempt(callback, request(json.dumps(body).encode()))


@EVERY
@given(data=st.data())
@settings(max_examples=examples(10), deadline=None)
def test_any_form(callback: Callback, data: st.DataObject) -> None:
    """Any form made of the vendor's own names becomes events or a typed refusal and nothing else."""
    fields = data.draw(st.lists(st.tuples(st.sampled_from(names(callback)), st.text(max_size=12)), max_size=12))
    attempt(callback, request(urlencode(fields).encode()))


@rows("sample", SAMPLES, ids=str)
def test_a_cut_request(sample: Sample) -> None:
    """Every sample cut at any place becomes events or a typed refusal and nothing else."""
    callback = CALLBACKS[sample.callback]
    for end in range(len(sample.request.body)):
        attempt(callback, sample.request._replace(body=sample.request.body[:end]))
    for end in range(len(sample.request.query)):
        attempt(callback, sample.request._replace(query=sample.request.query[:end]))


HOSTILE = {
    "deep list": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"a":' * 500 + b"1" + b"}" * 500,
    "just too deep": b'{"a":' * 251 + b"1" + b"}" * 251,
    "deep but fine": b'{"a":' * 249 + b"1" + b"}" * 249,
    "huge number": b'{"a":1e400}',
    "long number": b'{"a":' + b"9" * 5000 + b"}",
    "long fraction": b'{"a":0.' + b"1" * 5000 + b"}",
    "long exponent": b'{"a":1e-' + b"9" * 50 + b"}",
    "half a pair": b'{"a":"\\ud83d","\\udc00":"\\ud83d\\ud83d\\ude00"}',
    "nul": b'{"a":"\\u0000","\\u0000":1}',
    "duplicate keys": b'{"a":1,"a":{"b":2},"a":[3]}',
    "not a number": b'{"a":NaN}',
    "not utf-8": b'{"a":"\xff"}',
    "escaped json": b"%7B%22a%22%3A1%7D",
    "broken escape": b"{%22a",
    "only a bom": b"\xef\xbb\xbf",
    "list": b"[]",
    "blank": b"  \n",
    "many fields": b"&".join(b"f%d=1" % n for n in range(20_000)),
    "many unknown": b"{" + b",".join(b'"f%d":1' % n for n in range(20_000)) + b"}",
}


@EVERY
def test_hostile_bodies(callback: Callback) -> None:
    """Nesting, numbers, surrogates, NUL and masses of fields give events or a typed refusal, with the id or without."""
    ids = urlencode({"messageid": "m", "messageId": "m", "requestId": "r"}).encode()
    for body in HOSTILE.values():
        attempt(callback, request(body))
        if body[:1] == b"{":
            identified = minimal(callback)
            identified[:1] = b"{"
            attempt(callback, request(bytes(identified[:-1]) + b"," + body[1:]))
        else:
            attempt(callback, request(body, ids))


def minimal(callback: Callback) -> bytearray:
    """The first JSON sample of a callback, else an id."""
    body = next(
        (sample.request.body for sample in JSON_SAMPLES if sample.callback == callback.name), b'{"requestId":"r"}'
    )
    return bytearray(body.strip())


def swapped(value: Any) -> Any:
    """Numbers as strings and strings as numbers, everywhere."""
    if isinstance(value, dict):
        return {name: swapped(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [swapped(inner) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and str(int(value)) == value and len(value) < 16:
        return int(value)
    return value


@rows("sample", JSON_SAMPLES, ids=str)
def test_numbers_as_strings_and_strings_as_numbers(sample: Sample) -> None:
    """The declared type and the wire type differ in the vendor's own pages: both give the same fields."""
    callback = CALLBACKS[sample.callback]
    decoding = charset.Decoding(charset.declared(sample.request.headers.get("content-type", "")))
    body = json.loads(decoding.json(sample.request.body.removeprefix(charset.UTF_8_MARK)))
    headers = {name: value for name, value in sample.request.headers.items() if name != "content-type"}
    again = sample.request._replace(body=json.dumps(swapped(body)).encode(), headers=headers)
    expected = callback.decode(sample.request, sample.context)
    assert normalised(expected) == normalised(callback.decode(again, sample.context))


def test_our_token_is_nowhere_in_the_event() -> None:
    """A credential field is no part of raw, of the id, or of drift, in query and body alike."""
    context = DecodeContext(credential_fields=frozenset({"token"}))
    without = CALLBACKS["sms-dr"].decode(request(b"messageid=m-1"), context)
    for sent in (request(b"messageid=m-1", b"token=s3cret"), request(b"messageid=m-1&token=s3cret&token=2")):
        decoded = CALLBACKS["sms-dr"].decode(sent, context)
        assert without.events[0].to_json() == decoded.events[0].to_json()
        assert () == decoded.drift


def test_long_numbers_keep_every_digit() -> None:
    """Digits that a double would lose survive in ids, in money and in raw."""
    body = b'{"callId":12345678901234567890123,"totalCustomerPrice":0.123456789012345678901,"callDuration":7}'
    event = CALLBACKS["nxlink-call"].decode(request(body), CONTEXT).events[0]
    assert "12345678901234567890123" == event.data["call_id"]
    assert "0.123456789012345678901" == event.data["price"]["total"]
    assert 7 == event.data["duration_s"]
    assert body in event.to_json()


@EVERY
def test_nothing_is_not_understood(callback: Callback) -> None:
    """A request without any field is refused, with a reason."""
    for body in (b"", b"{}", b"a=b"):
        with pytest.raises(CallbackRejected) as refusal:
            callback.decode(request(body), CONTEXT)
        assert refusal.value.reason


@EVERY
@pytest.mark.parametrize("body", [b"[]", b'\n[{"messageid":"m","messageId":"m","url":"https://x.example/?a=b"}]'])
def test_a_json_array_is_called_one(callback: Callback, body: bytes) -> None:
    """Whoever looks for why it was rejected is not sent the wrong way, whatever the array holds."""
    with pytest.raises(CallbackRejected) as refusal:
        callback.decode(request(body), CONTEXT)
    assert "a JSON array, where an object is expected" == refusal.value.reason


def test_an_array_beside_the_fields_is_not_looked_at() -> None:
    """Where a form callback has everything in the query, its body says nothing."""
    (event,) = CALLBACKS["sms-dr"].decode(request(b"[]", b"messageid=m-1&status=2"), CONTEXT).events
    assert "m-1" == event.subject


def test_a_stranger_adds_a_shape() -> None:
    """A schema is a table: names, converters, and it decodes."""
    from gateway.callbacks.answers import TEXT_ANSWERS
    from gateway.callbacks.field_mapping import coded, phone_number
    from gateway.callbacks.fields import identifier, local_time, money, words
    from gateway.callbacks.vocabulary import MESSAGE_STATUS

    fax = EventSchema(
        "nxcloud.fax.dr",
        "fax.dr",
        "Fax receipt",
        page=VendorPage("Fax Receipt Callback", "0", "inferred"),
        required="fax_id",
        time=("done_at",),
        fields=(
            Field("fax_id", "faxId", identifier),
            *phone_number("to", ("phone", "number")),
            *coded("status", "status_code", "status", words({"1": "delivered"}, MESSAGE_STATUS)),
            Field("price.unit", "price", money),
            Field("done_at", "detail.finishTime", local_time),
        ),
    )
    callback = Callback("fax-dr", "Fax receipt", "json", TEXT_ANSWERS, (fax,))
    decoded = callback.decode(
        request(
            b'{"faxId":7,"number":"15550100200","status":"1","detail":{"finishTime":"2024-01-02 03:04:05"},"Price":"1"}'
        ),
        CONTEXT,
    )
    event = decoded.events[0]
    assert ("nxcloud.fax.dr", "7", "2024-01-01T19:04:05.000000Z") == (event.type, event.subject, event.time)
    assert {"unit": "1"} == event.data["price"]
    assert ("field:Price",) == decoded.drift


@rows("sample", JSON_SAMPLES, ids=str)
def test_a_name_that_is_there_twice_is_drift(sample: Sample) -> None:
    """Of every callback: the event is that of the last value, and the name is counted."""
    callback, rest = CALLBACKS[sample.callback], sample.request.body.lstrip()[1:]
    once, twice = (
        callback.decode(sample.request._replace(body=b"{" + first + b'"ext0":"b",' + rest), sample.context)
        for first in (b"", b'"ext0":"a",')
    )
    assert normalised(once) == normalised(twice)
    assert "duplicate:ext0" in twice.drift
    assert "duplicate:ext0" not in once.drift
