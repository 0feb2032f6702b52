"""Promises that every decoder keeps, whatever is sent to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, Callback, CallbackRequest, DecodeContext, Decoded, charset, form
from gateway.callbacks.plan import Field
from gateway.callbacks.shape import Shape
from gateway.errors import CallbackRejected
from gateway.event import from_json
from tests.callbacks.samples import ARRIVAL, Sample, all_samples
from tests.effort import examples

CONTEXT = DecodeContext()
SAMPLES = [sample for sample in all_samples() if "events" in sample.expected]
#: Samples whose names are the documented ones, so that a test can take one of them away.
JSON_SAMPLES = [
    sample
    for sample in SAMPLES
    if sample.request.body[:1] == b"{" and sample.case not in ("status-bare", "names-spelt-otherwise")
]
FORM_SAMPLES = [
    sample
    for sample in SAMPLES
    if CALLBACKS[sample.callback].layout == "form"
    and b"=" in (sample.request.query or sample.request.body.replace(b"name=", b""))
    and (sample.request.body or sample.request.query)[:1].isalpha()
    and b"\0" not in sample.request.body
    and b"&amp;" not in sample.request.body
]
EVERY = pytest.mark.parametrize("callback", CALLBACKS.values(), ids=lambda callback: callback.name)


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
        {part for shape in callback.shapes for line in shape.fields for s in line.sources for part in s.split(".")}
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
@settings(max_examples=examples(15))
def test_any_bytes(callback: Callback, body: bytes, query: bytes) -> None:
    """Any bytes become events or a typed refusal and nothing else."""
    attempt(callback, request(body, query))


@EVERY
@given(data=st.data())
@settings(max_examples=examples(15), deadline=None)
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


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
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


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all scalars."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


def changed(value: Any, path: tuple[str | int, ...], to: str) -> None:
    """Make one scalar absent, null or empty, in place. An element of a list is emptied, not taken out."""
    *above, last = path
    for step in above:
        value = value[step]
    if to == "absent" and isinstance(last, str):
        del value[last]
    else:
        value[last] = None if to == "null" else ""


def needed(shape: Shape) -> set[str]:
    """The vendor's names of what identifies an item, or tells which kind it is."""
    ours = (shape.required,) if isinstance(shape.required, str) else shape.required
    return {source for line in shape.fields if line.name in ours for source in line.sources}


TELLTALE = {"taskStatus", "field", "type", "smsStatus", "toPhone", "fromPhone", "contactId", "taskName"}


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=str)
@given(data=st.data())
@settings(max_examples=examples(5), deadline=None)
def test_absent_null_and_empty_are_the_same(sample: Sample, data: st.DataObject) -> None:
    """Any subset of optional fields absent, null or empty: accepted, the same each way, and left out of ``data``."""
    callback = CALLBACKS[sample.callback]
    body = orjson.loads(callback.decode(sample.request, sample.context).events[0].to_json())["data"]["raw"]
    keep = set().union(*(needed(shape) for shape in callback.shapes)) | TELLTALE
    kept = tuple(f".{name}" for name in keep)
    optional = [
        path
        for path in leaves(body)
        if not f".{'.'.join(step for step in path if isinstance(step, str))}".endswith(kept)
    ]
    chosen = data.draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []
    results = []
    for way in ("absent", "null", "empty"):
        copy = orjson.loads(orjson.dumps(body))
        for path in chosen:
            changed(copy, path, way)
        decoded = callback.decode(sample.request._replace(body=orjson.dumps(copy)), sample.context)
        results.append(normalised(decoded))
    assert results[0] == results[1] == results[2]
    assert "null" not in orjson.dumps([one["data"] for one in results[0]]).decode().replace('"null"', "")


#: Fields by which callbacks of two shapes are told apart, with the values that say nothing.
EMPTY = {
    **dict.fromkeys(("callId", "contactId", "taskStatus", "taskName", "requestId", "callStatus", "sender"), (None, "")),
    **dict.fromkeys(("callInfoDetail", "taskStat"), (None, "", {})),
    "legList": (None, "", []),
}


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=str)
def test_an_empty_field_of_the_other_shape_decides_nothing(sample: Sample) -> None:
    """A sender that writes out one object for both kinds, with nulls where a field is not its own."""
    callback = CALLBACKS[sample.callback]

    def told(body: bytes) -> list[tuple[str, Any]]:
        events = callback.decode(sample.request._replace(body=body), sample.context).events
        return [(event.type, {**orjson.loads(event.to_json())["data"], "raw": None}) for event in events]

    body = sample.request.body.lstrip()
    assert body.startswith(b"{")
    before = told(body)
    absent = [name for name in EMPTY if b'"%s"' % name.encode() not in body]
    planted = [orjson.dumps({name: value})[1:-1] for name in absent for value in EMPTY[name]]
    assert [] == [field for field in planted if told(b"{" + field + b"," + body[1:]) != before]


@pytest.mark.parametrize(
    ("name", "body", "type_"),
    [
        ("callbot-task", {"taskID": "t", "taskStatus": 3, "callInfoDetail": {}}, "nxcloud.callbot.task"),
        ("ai-agent-call", {"taskId": "t", "taskStatus": 3, "contactId": "c-9"}, "nxcloud.ai-agent.task"),
        ("ai-agent-task", {"callId": "c", "taskId": "t", "taskName": "n"}, "nxcloud.ai-agent.call"),
        ("pns", {"id": 5, "requestId": "r", "callStatus": 1}, "nxcloud.pns.call"),
        ("pns", {"requestId": "r", "code": 10013, "callId": ""}, "nxcloud.pns.error"),
    ],
)
def test_what_names_both_shapes_is_the_one_it_tells_of(name: str, body: dict[str, Any], type_: str) -> None:
    """Fields of both kinds with values: the kind whose own fields are there."""
    (sample,) = [one for one in JSON_SAMPLES if one.callback == name][:1]
    decoded = CALLBACKS[name].decode(sample.request._replace(body=orjson.dumps(body)), sample.context)
    assert decoded.events[0].type == type_


@pytest.mark.parametrize("sample", FORM_SAMPLES, ids=str)
@given(data=st.data())
@settings(max_examples=examples(5), deadline=None)
def test_an_absent_form_field_is_an_empty_one(sample: Sample, data: st.DataObject) -> None:
    """Any subset of optional form fields absent or empty: accepted, and the same both ways."""
    callback = CALLBACKS[sample.callback]
    sent = form.pairs(sample.request.query) + form.pairs(sample.request.body)
    keep = set().union(*(needed(shape) for shape in callback.shapes)) | TELLTALE
    chosen = data.draw(st.sets(st.sampled_from([name for name, _ in sent if name not in keep] or ["none"])))
    results = []
    for fields in (
        [pair for pair in sent if pair[0] not in chosen],
        [(name, "" if name in chosen else value) for name, value in sent],
    ):
        again = sample.request._replace(query=b"", body=urlencode(fields).encode())
        results.append(normalised(callback.decode(again, sample.context)))
    assert results[0] == results[1]


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


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=str)
def test_numbers_as_strings_and_strings_as_numbers(sample: Sample) -> None:
    """The declared type and the wire type differ in the vendor's own pages: both give the same fields."""
    callback = CALLBACKS[sample.callback]
    decoding = charset.Decoding(charset.declared(sample.request.headers.get("content-type", "")))
    body = json.loads(decoding.json(sample.request.body.removeprefix(charset.UTF_8_MARK)))
    headers = {name: value for name, value in sample.request.headers.items() if name != "content-type"}
    again = sample.request._replace(body=json.dumps(swapped(body)).encode(), headers=headers)
    expected = callback.decode(sample.request, sample.context)
    assert normalised(expected) == normalised(callback.decode(again, sample.context))


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_the_same_bytes_give_the_same_ids(sample: Sample) -> None:
    """A repeat of a request, at another time, gives the same ids; each event of one request has its own."""
    callback = CALLBACKS[sample.callback]
    first = [event.id for event in callback.decode(sample.request, sample.context).events]
    later = sample.request._replace(received_at=ARRIVAL.replace(year=2026), peer="198.51.100.1")
    assert first == [event.id for event in callback.decode(later, sample.context).events]
    assert len(first) == len(set(first))


def test_other_payloads_give_other_ids() -> None:
    """No two samples of one callback share an id, unless their payload is the same written differently, or the callback
    says itself what makes an id.
    """
    seen: dict[tuple[str, str], object] = {}
    for sample in SAMPLES:
        if CALLBACKS[sample.callback].identity is not None:
            continue
        decoded = CALLBACKS[sample.callback].decode(sample.request, sample.context)
        for event in decoded.events:
            said = (event.account, orjson.loads(event.to_json())["data"]["raw"])
            assert said == seen.setdefault((sample.callback, event.id), said)


@given(
    a=st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
    b=st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
)
def test_other_forms_give_other_ids(a: dict[str, str], b: dict[str, str]) -> None:
    """Two forms have one id exactly when they hold the same fields."""
    one, other = (
        CALLBACKS["sms-dr"].decode(request(urlencode({**fields, "messageid": "m"}).encode()), CONTEXT).events[0]
        for fields in (a, b)
    )
    assert ({**a, "messageid": "m"} == {**b, "messageid": "m"}) == (one.id == other.id)


@given(st.text(max_size=30), st.text(max_size=30))
def test_other_texts_give_other_ids(one: str, other: str) -> None:
    """Two messages that differ in their text alone have different ids."""
    ids = {
        CALLBACKS["messenger"]
        .decode(request(orjson.dumps({"sender": {"id": "u"}, "message": {"text": text}})), CONTEXT)
        .events[0]
        .id
        for text in (one, other)
    }
    assert len({one, other}) == len(ids)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"callId":"c","x":0.1}', b'{"callId":"c","x":0.10000000000000001}'),
        (b'{"callId":"c","x":18446744073709551616}', b'{"callId":"c","x":18446744073709551617}'),
        (b'{"callId":"c","x":"\\ud83d"}', b'{"callId":"c","x":"\\\\ud83d"}'),
        (b'{"callId":"c","x":1}', b'{"callId":"c","x":"1"}'),
        (b'{"callId":"c","x":1}', b'{"callId":"c","x":1.0}'),
        (b'{"callId":"c","x":null}', b'{"callId":"c"}'),
        (b'{"callId":"c","x":""}', b'{"callId":"c"}'),
    ],
)
def test_payloads_that_nearly_agree_have_different_ids(one: bytes, other: bytes) -> None:
    """What a float would confuse, and what the fields take for the same, is not the same payload."""
    callback = CALLBACKS["nxlink-call"]
    ids = {callback.decode(request(body), CONTEXT).events[0].id for body in (one, other)}
    assert 2 == len(ids)


def test_order_of_keys_and_blanks_do_not_matter() -> None:
    """A sender that writes the same object in another order repeats itself."""
    callback = CALLBACKS["nxlink-call"]
    bodies = (b'{"callId":"c","direction":1}', b' {"direction" : 1,\n"callId":"\\u0063"}\n')
    assert 1 == len({callback.decode(request(body), CONTEXT).events[0].id for body in bodies})


def test_query_and_body_give_the_same_event() -> None:
    """The same fields in the query, in the body, or in both parts give the same id."""
    head, tail = b"messageid=m-1&status=2", b"phone=15550100200&price=0.0310"
    callback = CALLBACKS["sms-dr"]
    ids = {
        callback.decode(sent, CONTEXT).events[0].id
        for sent in (
            request(head + b"&" + tail),
            request(b"", head + b"&" + tail),
            request(tail, head),
            request(head, tail),
        )
    }
    assert 1 == len(ids)


@pytest.mark.parametrize("text", ["50% off a=b&c", "a=b", "x&y", "=", "&=&", "a, b=c"])
def test_a_listing_whatever_its_text_holds(text: str) -> None:
    """What would be a form's border is text in a listing, with a token in the query or without."""
    body = f"messageId:m-1,type:0,toPhone:+15550100001,fromPhone:+15550100002,content:{text},size:1".encode()
    for query in (b"", b"token=s3cret"):
        context = DecodeContext(credential_fields=frozenset({"token"}))
        decoded = CALLBACKS["did-sms"].decode(request(body, query), context)
        data = decoded.events[0].data
        assert ("m-1", text, "+15550100001", 1) == (data["message_id"], data["text"], data["to"], data["segments"])
        assert () == decoded.drift


def test_the_account_is_in_the_event_and_in_its_id() -> None:
    """Two accounts that push equal bodies give two events."""
    body = request(b"messageid=m-1")
    events = [
        CALLBACKS["sms-dr"].decode(body, DecodeContext(account=account)).events[0]
        for account in (None, "main", "second")
    ]
    assert [None, "main", "second"] == [event.account for event in events]
    assert 3 == len({event.id for event in events})


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


def test_each_item_has_its_part_of_the_body() -> None:
    """Of several items each event's raw holds the envelope and that item alone, digit by digit."""
    body = b'{"app_id":1.10,"statuses":[{"id":"a","costs":[{"price":0.0360}]},{"id":"b","costs":[{"price":1E2}]}]}'
    events = CALLBACKS["whatsapp"].decode(request(body), CONTEXT).events
    expected = [
        b'{"app_id":1.10,"statuses":[{"id":"a","costs":[{"price":0.0360}]}]}',
        b'{"app_id":1.10,"statuses":[{"id":"b","costs":[{"price":1E2}]}]}',
    ]
    assert expected == [orjson.dumps(event.data["raw"]) for event in events]


@pytest.mark.parametrize("envelope", [10, 1_000])
def test_many_items_stay_linear(envelope: int) -> None:
    """The events of a callback with a thousand items are together not much larger than it, whatever its envelope."""
    body = orjson.dumps(
        {"wabaId": "x" * envelope, "statuses": [{"id": f"w-{n}", "status": "read"} for n in range(1000)]}
    )
    events = CALLBACKS["whatsapp"].decode(request(body), CONTEXT).events
    assert 1000 == len({event.id for event in events})
    assert sum(len(orjson.dumps(event.data["raw"])) for event in events) < 3 * len(body) + 1_048_576


@pytest.mark.parametrize("envelope", [10, 60_000])
def test_many_values_stay_linear(envelope: int) -> None:
    """So are the events of one that holds a thousand values, each with its own part of the body, digit by digit."""
    values = b",".join(b'{"wabaId":"w-%d","time":1735000000.10}' % n for n in range(1000))
    body = b'{"field":"history","more":"%s","value":[%s]}' % (b"x" * envelope, values)
    decoded = CALLBACKS["whatsapp"].decode(request(body), CONTEXT)
    assert 1000 == len({event.id for event in decoded.events})
    assert [f"w-{n}" for n in range(1000)] == [event.subject for event in decoded.events]
    raws = [orjson.dumps(event.data["raw"]) for event in decoded.events]
    assert all(b'"value":[{"wabaId":"w-%d","time":1735000000.10}]' % n in raw for n, raw in enumerate(raws))
    assert sum(map(len, raws)) < 3 * len(body) + 1_048_576
    assert ("field:more",) == decoded.drift


def test_an_item_that_cannot_be_identified_refuses_them_all() -> None:
    """Items are stored as one unit: one without an id refuses the request, and the reason names it."""
    body = b'{"statuses":[{"id":"a","status":"read"},{"status":"read"}]}'
    with pytest.raises(CallbackRejected) as refusal:
        CALLBACKS["whatsapp"].decode(request(body), CONTEXT)
    assert "statuses[1].id" == refusal.value.field


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
    """A shape is a table: names, converters, and it decodes."""
    from gateway.callbacks.answers import TEXT_ANSWERS
    from gateway.callbacks.callback import only
    from gateway.callbacks.fields import identifier, local_time, money, words
    from gateway.callbacks.plan import coded, phone_number
    from gateway.callbacks.vocabulary import MESSAGE_STATUS

    fax = Shape(
        "nxcloud.fax.dr",
        "fax.dr",
        "Fax receipt",
        page="Fax Receipt Callback",
        section="0",
        certainty="inferred",
        required="fax_id",
        key=("fax_id",),
        time=("done_at",),
        fields=(
            Field("fax_id", "faxId", identifier),
            *phone_number("to", ("phone", "number")),
            *coded("status", "status_code", "status", words({"1": "delivered"}, MESSAGE_STATUS)),
            Field("price.unit", "price", money),
            Field("done_at", "detail.finishTime", local_time),
        ),
    )
    callback = Callback("fax-dr", "Fax receipt", "json", TEXT_ANSWERS, None, (fax,), only(fax))
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


@pytest.mark.parametrize("sample", JSON_SAMPLES, ids=str)
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
