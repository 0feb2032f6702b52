"""Layouts that no page describes and that are readable after all; which of two values counts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext, Decoded
from gateway.callbacks.generic import GenericCallback, JsonPath
from gateway.errors import CallbackRejected
from tests.callbacks.samples import Sample, all_samples
from tests.rows import rows

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"
ACCEPTED = [sample for sample in all_samples() if "events" in sample.expected and not sample.request.query]
OBJECTS = [
    one for one in ACCEPTED if one.request.body[:1] == b"{" and "gbk" not in one.case and "emoji" not in one.case
]
FORMS = [
    one
    for one in ACCEPTED
    if one.callback == "sms-dr"
    and one.request.body[:2] == b"re"
    and "separators" not in one.case
    and b"%26" not in one.request.body
]


def decode(callback: str, body: bytes, query: bytes = b"", content_type: str = "") -> Decoded:
    request = CallbackRequest("POST", "/", query, {"content-type": content_type}, body, NOW)
    return CALLBACKS[callback].decode(request, DecodeContext())


def without_raw(decoded: Decoded) -> list[object]:
    """All that is in the events but ``raw``, the id included."""
    documents = [orjson.loads(event.to_json()) for event in decoded.events]
    for document in documents:
        del document["data"]["raw"], document["recordedtime"]
        document.pop("account", None)
        document["time"] = ""
    return documents


def packed(sample: Sample, body: bytes, word: str) -> None:
    """A callback that is packed once more gives the same events with the same ids, and one label more."""
    plain = CALLBACKS[sample.callback].decode(sample.request._replace(headers={}), DecodeContext())
    found = decode(sample.callback, body)
    assert without_raw(plain) == without_raw(found)
    assert f"layout:{word}" in found.drift
    assert set(plain.drift) <= {*found.drift}


@rows("sample", OBJECTS, ids=str)
def test_json_in_a_string(sample: Sample) -> None:
    """A callback that was written as JSON twice, or three times."""
    once = json.dumps(sample.request.body.decode("utf-8-sig"), ensure_ascii=False)
    packed(sample, once.encode(), "json-in-a-string")
    packed(sample, b"\xef\xbb\xbf " + json.dumps(once).encode(), "json-in-a-string")


@rows("sample", OBJECTS, ids=str)
def test_json_in_a_field(sample: Sample) -> None:
    """A callback in the one field of a form or of another object, as an object or as its text."""
    text = sample.request.body.decode("utf-8-sig").strip()
    for name in ("data", "payload", "anything"):
        packed(sample, urlencode({name: text}).encode(), "json-in-a-field")
        packed(sample, f"{name}={quote(json.dumps(text))}".encode(), "json-in-a-field")
        packed(sample, json.dumps({name: text}).encode(), "json-in-a-field")
        if sample.callback not in ("viber", "number-check"):
            packed(sample, b'{"' + name.encode() + b'":' + text.encode() + b"}", "json-in-a-field")


@rows("sample", FORMS, ids=str)
def test_a_form_that_went_through_html(sample: Sample) -> None:
    """``&amp;`` between fields; in the query, too."""
    escaped = sample.request.body.replace(b"&", b"&amp;")
    packed(sample, escaped, "escaped-form")
    assert "layout:escaped-form" in decode("sms-dr", b"", escaped).drift


def test_a_text_with_an_entity_stays() -> None:
    """``&amp;`` in a text, escaped as a form's rules say, is the text's."""
    body = urlencode({"messageid": "m", "ext": "a &amp; b", "remark": "x&amp;y=1"}).encode()
    (event,), drift = decode("sms-dr", body)
    assert ("a &amp; b", "x&amp;y=1") == (event.data["ext"], event.data["raw"]["remark"])
    assert ("field:remark",) == drift
    multipart = "".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("messageid", "m"), ("ext", "a&amp;status=3"))
    )
    (event,), drift = decode("sms-dr", f"{multipart}--B--\r\n".encode())
    assert ("a&amp;status=3", ()) == (event.data["ext"], drift)


def test_fields_beside_the_enclosed_callback() -> None:
    """They are kept in ``raw``; where both have a name, the inner one counts."""
    inner = {"messageid": "m", "status": 2, "price": 0.10}
    body = urlencode({"data": json.dumps(inner), "status": "3", "sign": "s"}).encode()
    (event,), drift = decode("sms-dr", body)
    assert ("m", "delivered") == (event.data["message_id"], event.data["status"])
    assert {**inner, "sign": "s"} == orjson.loads(orjson.dumps(event.data["raw"]))
    assert {"layout:json-in-a-field", "field:sign"} == set(drift)


def test_a_field_of_a_callback_is_not_taken_for_one() -> None:
    """What makes an event by itself is not looked into, whatever JSON it holds."""
    inner = json.dumps({"messageid": "inner", "status": "3"})
    (event,), _ = decode("sms-dr", urlencode({"messageid": "m", "status": "2", "ext": inner, "data": inner}).encode())
    assert ("m", "delivered", inner) == (event.data["message_id"], event.data["status"], event.data["ext"])
    with pytest.raises(CallbackRejected, match="messageid: the identifying field"):
        decode("sms-dr", urlencode({"status": "2", "ext": inner}).encode())


NAMES = st.sampled_from(["messageid", "status", "phone", "ext", "size", "remark"])
VALUES = st.sampled_from(["", "1", "2", "3", "é", "62811"])


@given(st.dictionaries(NAMES, VALUES, min_size=1), st.dictionaries(NAMES, VALUES, min_size=1))
def test_the_body_wins(body: dict[str, str], query: dict[str, str]) -> None:
    """A value of the body counts, in a form and in JSON, and the query's where the body says nothing. Both is drift."""
    body["messageid"] = "m"
    both = {**query, **{name: value for name, value in body.items() if value}}
    expected = decode("sms-dr", urlencode(both).encode()).events[0]
    differing = {f"query:{name}" for name, value in query.items() if value and body.get(name) not in (None, "", value)}
    for sent in (urlencode(body).encode(), json.dumps(body).encode()):
        (event,), drift = decode("sms-dr", sent, urlencode(query).encode())
        known = {name: value for name, value in event.data.items() if name != "raw"}
        assert {name: value for name, value in expected.data.items() if name != "raw"} == known
        assert differing == {label for label in drift if label.startswith("query:")}


@given(st.dictionaries(NAMES, VALUES, min_size=1), st.dictionaries(NAMES, VALUES, min_size=1))
def test_where_a_field_stands_does_not_change_the_id(one: dict[str, str], other: dict[str, str]) -> None:
    """Fields that are in one place only may be in query or body: the id is the same."""
    fields = {**one, "messageid": "m"}
    rest = {name: value for name, value in other.items() if name not in fields}
    whole = decode("sms-dr", urlencode({**fields, **rest}).encode()).events[0]
    assert whole.id == decode("sms-dr", urlencode(fields).encode(), urlencode(rest).encode()).events[0].id


def test_a_line_delivered_again() -> None:
    """An event that the channel delivers again has its first id, alone or among others; another one has another id."""

    def body(*events: tuple[str, bool]) -> bytes:
        return json.dumps({"destination": "D", "events": [
            {"type": "message", "webhookEventId": name, "timestamp": 1735000000123, "source": {"userId": "U"},
             "message": {"type": "text", "id": name, "text": "x"}, "deliveryContext": {"isRedelivery": again}}
            for name, again in events
        ]}).encode()  # fmt: skip

    first = decode("line", body(("a", False), ("b", False))).events
    again = decode("line", body(("c", False), ("b", True))).events
    assert first[1].id == again[1].id == decode("line", body(("b", True))).events[0].id
    assert 3 == len({event.id for event in (*first, *again)})
    assert [False, True] == [event.data["redelivered"] for event in again]


DEEP = "[" * 400 + "]" * 400
STATUS = '{"id":"1","status":"sent","x":%s}' % DEEP  # noqa: UP031 - braces
TWO = f'[{STATUS},{{"id":"2","status":"sent"}}]'


@rows(
    ("callback", "body"),
    [
        ("line", {"events": f'[{{"type":"message","source":{{"userId":"u"}},"message":{{"id":"1","x":{DEEP}}}}}]'}),
        ("whatsapp", {"statuses": TWO}),
        ("whatsapp", {"entry": f'[{{"changes":[{{"field":"messages","value":{{"statuses":{TWO}}}}}]}}]'}),
        ("whatsapp", {"entry": [{"changes": [{"field": "messages", "value": f'{{"statuses":{TWO}}}'}]}]}),
        ("whatsapp", {"field": "x", "value": f'{{"statuses":{TWO}}}'}),
        ("whatsapp", {"field": "x", "value": f'[{{"statuses":{TWO}}},{{"statuses":[]}}]'}),
        ("sms-dr", {"data": f'{{"messageid":"1","x":{DEEP}}}'}),
        ("sms-dr", {"data": f'{{"messageid":"1","x":{DEEP}}}', "a": 1}),
    ],
)
def test_a_text_of_json_that_is_nested_too_deeply(callback: str, body: dict[str, object]) -> None:
    """JSON in a string has a nesting of its own: what no event can hold is rejected, as it is outside of strings."""
    with pytest.raises(CallbackRejected):
        decode(callback, json.dumps(body).encode())


def test_other_senders_are_decoded_by_the_same_rules() -> None:
    """A webhook of another sender: its character set is honoured, and what was not declared is drift."""
    for decoder, body in (("json", '{"id":"7","text":"你好，世界"}'), ("form", "id=7&text=你好，世界")):
        callback = GenericCallback("shop", decoder, "shop.order", JsonPath("$.id"))
        for content_type, drift in (("text/plain; charset=gbk", ()), ("", ("charset:gb18030",))):
            request = CallbackRequest("POST", "/", b"", {"content-type": content_type}, body.encode("gbk"), NOW)
            (event,), found = callback.decode(request, DecodeContext())
            assert "你好，世界" == orjson.loads(orjson.dumps(event.data["raw"]))["text"]
            assert drift == found
