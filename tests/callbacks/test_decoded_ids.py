"""Ids of events: the same for the same bytes, another for other ones."""

from __future__ import annotations

from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, DecodeContext
from gateway.errors import CallbackRejected
from tests.callbacks.samples import ARRIVAL, Sample
from tests.callbacks.test_decoders import CONTEXT, SAMPLES, request
from tests.rows import rows


@rows("sample", SAMPLES, ids=str)
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


@rows(
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


@rows("text", ["50% off a=b&c", "a=b", "x&y", "=", "&=&", "a, b=c"])
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
