"""The rules of the model over all callbacks: words for nothing, padded codes, outcomes, and what is not a fact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext, form
from gateway.callbacks.hangups import CAUSES
from gateway.config.loading import loads
from gateway.errors import CallbackRejected
from gateway.ingest.endpoints import endpoints
from tests.callbacks.samples import Sample, all_samples
from tests.rows import rows

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SINGLE = [sample for sample in all_samples() if len(sample.expected.get("events", ())) == 1]
FORMS = [sample for sample in SINGLE if CALLBACKS[sample.callback].layout == "form" and b"=" in sample.request.body]
OBJECTS = [
    sample
    for sample in SINGLE
    if sample.request.body[:2] == b'{"' and "\ufffd" not in sample.request.body.decode(errors="replace")
]


def decode(callback: str, body: Any, context: DecodeContext | None = None) -> dict[str, Any]:
    """The one event of a JSON body, or of a form where it is text."""
    data = body.encode() if isinstance(body, str) else orjson.dumps(body)
    request = CallbackRequest("POST", f"/callbacks/{callback}", b"", {}, data, NOW)
    (event,) = CALLBACKS[callback].decode(request, context or DecodeContext()).events
    return orjson.loads(event.to_json())


@rows("sample", [*OBJECTS, *FORMS], ids=str)
def test_an_object_or_a_list_in_place_of_any_field(sample: Sample) -> None:
    """The callback becomes an event without that value or is rejected; no other error escapes, as it would be a 500."""
    fields = form.pairs(sample.request.query) + form.pairs(sample.request.body)
    body = json.loads(sample.request.body) if sample in OBJECTS else dict(fields)
    for name in body:
        for planted in ([], {}, ["+6281122334455"], {"a": "b"}, [[1]], [{"a": [None]}], True, 1.5, -1):
            changed = sample.request._replace(query=b"", body=json.dumps({**body, name: planted}).encode())
            try:
                events = CALLBACKS[sample.callback].decode(changed, sample.context).events
            except CallbackRejected:
                continue
            assert events


#: Names of what a person may have written. (A form's answers are the object that was sent.)
WRITTEN = {"text", "caption", "title", "description", "value", "response"}


@rows("sample", [*OBJECTS, *FORMS], ids=str)
def test_a_word_for_nothing_is_nothing(sample: Sample) -> None:
    """With a word for nothing in place of any scalar, at any depth, nothing in the event is it but a person's text."""
    assert set() == {name for word in ("null", "Undefined") for name in taken_for_a_value(sample, word)}


def taken_for_a_value(sample: Sample, word: str) -> Iterator[str]:
    """What is this word in the events of a sample that has it in one place, and must not be."""
    if sample in OBJECTS:
        bodies = [json.dumps(one) for one in with_one(json.loads(sample.request.body.decode("utf-8", "replace")), word)]
    else:
        fields = dict(form.pairs(sample.request.query) + form.pairs(sample.request.body))
        bodies = [urlencode(one) for one in with_one(fields, word)]
    for body in bodies:
        request = sample.request._replace(query=b"", body=body.encode())
        with suppress(CallbackRejected):
            for event in CALLBACKS[sample.callback].decode(request, sample.context).events:
                yield from (name for name in ("subject", "partitionkey") if getattr(event, name) == word)
                yield from names_of(word, {name: value for name, value in event.data.items() if name != "raw"})


def with_one(value: Any, word: str) -> Iterator[Any]:
    """The value with the word in place of one scalar, for each of them."""
    if isinstance(value, dict):
        yield from ({**value, name: one} for name in value for one in with_one(value[name], word))
    elif isinstance(value, list):
        yield from (
            [*value[:at], one, *value[at + 1 :]] for at in range(len(value)) for one in with_one(value[at], word)
        )
    else:
        yield word


def names_of(word: str, value: Any, name: str = "") -> Iterator[str]:
    """The names at which the word is."""
    if isinstance(value, dict):
        for inner in value.keys() - WRITTEN:
            yield from names_of(word, value[inner], inner)
    elif isinstance(value, list):
        for one in value:
            yield from names_of(word, one, name)
    elif value == word:
        yield name


@rows(
    ("callback", "fields", "name"),
    [
        ("sms-dr", {"messageid": "m"}, "status"),
        ("did-sms", {"messageId": "m", "smsStatus": "DELIVRD"}, "type"),
        ("voice-dr", {"messageid": "v"}, "voice_type"),
        ("webcall-cdr", {"sessionid": "s"}, "direction"),
        ("nxlink-call", {"callId": "c"}, "hangupBy"),
        ("callbot-task", {"taskID": "t"}, "taskStatus"),
        ("super-message", {"requestId": "r"}, "code"),
        ("number-check", {"messageId": "m"}, "code"),
    ],
)
def test_zeros_before_a_code_say_nothing(callback: str, fields: dict[str, Any], name: str) -> None:
    """A code with zeros in front, or as a number with a fraction of zero, is the code, in every table."""
    for code in ("0", "1", "2", "14004"):
        events = [decode(callback, {**fields, name: text}) for text in (code, f"0{code}", f"{code}.0")]
        assert without_codes(events[0]) == without_codes(events[1]) == without_codes(events[2])


def without_codes(value: Any) -> Any:
    """What an event says in our words, in data and in objects in it."""
    if not isinstance(value, dict):
        return value
    return {
        name: without_codes(inner)
        for name, inner in value.items()
        if name not in ("id", "raw") and not name.endswith("code")
    }


@rows(
    ("reason", "answered", "outcome", "cause"),
    [
        ("Normal", True, "answered", None),
        ("Busy Here", False, "busy", "USER_BUSY"),
        ("Busy Everywhere", False, "busy", "USER_BUSY"),
        ("Decline", False, "rejected", "CALL_REJECTED"),
        ("Request Terminated", False, "cancelled", "ORIGINATOR_CANCEL"),
        ("Request Timeout", False, "no_answer", None),
        ("Not Found", False, "failed", "UNALLOCATED_NUMBER"),
        ("Moon eclipse", None, "unknown", None),
    ],
)
def test_how_a_whatsapp_call_ended(reason: str, answered: bool | None, outcome: str, cause: str | None) -> None:
    """A call that rang for some seconds is not answered by that: its reason says how it ended."""
    call = {"call_id": "c", "from": "628110000001", "to": "85230000001", "call_duration": 5, "end_reason": reason}
    data = decode("whatsapp", {"business_phone": "85230000001", "calls": [call]})["data"]
    assert (answered, outcome, "inbound") == (data.get("answered"), data["outcome"], data["direction"])
    assert (cause, reason) == (data["hangup"].get("cause"), data["hangup"]["reason"])


@rows("cause", CAUSES)
def test_every_cause_has_its_code_and_outcome(cause: str) -> None:
    """Each cause of the list is kept by its name, with its Q.850 code, and names the outcome of an unanswered call."""
    fields = {
        "sessionid": "s",
        "answer_time": "",
        "end_time": "1735000014",
        "duration": 0,
        "hangup_cause": cause.lower(),
    }
    data = decode("webcall-cdr", fields)["data"]
    code, outcome = CAUSES[cause]
    assert cause == data["hangup"]["cause"]
    assert code == data["hangup"].get("q850", int(data["hangup"].get("vendor_code", -1)))
    assert (False, outcome or "unknown") == (data["answered"], data["outcome"])


@rows(
    ("callback", "fields", "outcome"),
    [
        ("nxlink-call", {"callId": "c", "answered": False, "callStatus": "Missed call"}, "no_answer"),
        ("nxlink-call", {"callId": "c", "answered": False, "leaveMsgUrl": "https://x.example/1"}, "voicemail"),
        ("nxlink-call", {"callId": "c", "answered": True}, "answered"),
        ("nxlink-call", {"callId": "c", "callDuration": 7}, "unknown"),
        ("voice-dr", {"messageid": "v", "result": "未接通", "hangup_disposition": "recv_refuse"}, "rejected"),
        ("voice-dr", {"messageid": "v", "result": "未接通", "hangup_disposition": "send_cancel"}, "no_answer"),
        ("voice-dr", {"messageid": "v", "result": "未接通"}, "unknown"),
        ("callbot-call", {"callInfoDetail": {"callID": "c", "callEndTs": 1735000021, "termSipCode": "486"}}, "busy"),
        ("pns", {"callId": "c", "hangupAt": 1735000021, "hangupCode": 19}, "no_answer"),
        ("ai-agent-call", {"callId": "c", "callEnd": 1735000021}, "unknown"),
        ("predictive-dial", {"uuid": "c", "state": 4, "type": 2}, "unknown"),
        ("pns", {"requestId": "r", "code": 10013}, "failed"),
    ],
)
def test_outcomes_of_all_products(callback: str, fields: dict[str, Any], outcome: str) -> None:
    """Each product says in its own way how a call ended; what it does not say is unknown, never a guess."""
    assert outcome == decode(callback, fields)["data"]["outcome"]


def test_legs_that_disagree_give_the_call_no_hangup() -> None:
    """Which of two legs ended the call is not said, so the call has no cause of one of them; each leg has its own."""
    legs = [
        {"callAnswerAt": 1735000001, "callFinishAt": 1735000054, "hangupCause": "NORMAL_CLEARING", "hangupCode": 16},
        {"callAnswerAt": 1735000009, "callFinishAt": 1735000054, "hangupCause": "MEDIA_TIMEOUT", "hangupCode": 604},
    ]
    data = decode("pns", {"callId": "c", "legList": legs})["data"]
    assert "hangup" not in data
    assert ["NORMAL_CLEARING", "MEDIA_TIMEOUT"] == [leg["hangup"]["cause"] for leg in data["legs"]]
    legs[1] |= {"callAnswerAt": 0, "hangupCause": "USER_BUSY", "hangupCode": 17}
    data = decode("pns", {"callId": "c", "legList": legs})["data"]
    assert ("USER_BUSY", "busy", False) == (data["hangup"]["cause"], data["outcome"], data["answered"])


@rows(
    ("sent", "entered", "left", "expected"),
    [
        (5, 1690442492861, 1690442498000, 5),
        (5139, 1690442492861, 1690442498000, 5.139),
        (5139, None, None, None),
        (7, None, None, 7),
        (77, 1690442492861, 1690442498000, None),
    ],
)
def test_seconds_of_a_queue(sent: int, entered: int | None, left: int | None, expected: float | None) -> None:
    """Milliseconds in a field of seconds are recognised by the times of the queue, or left out."""
    data = decode("nxlink-call", {"callId": "c", "queueDuration": sent, "inQueueTime": entered, "outQueueTime": left})
    assert expected == data["data"].get("queue_duration_s")


@rows(
    ("status", "verified", "final"),
    [("SUCCESS", True, True), ("PENDING", None, False), ("MISMATCH", False, True), ("FAILURE", False, True),
     ("UNKNOWN", None, None), ("MELTED", None, None)],
)  # fmt: skip
def test_a_verification_that_is_not_over(status: str, verified: bool | None, final: bool | None) -> None:
    """What is pending or unknown is not "not verified"."""
    data = decode("ota", f"requestId=r&status={status}")["data"]
    assert (verified, final) == (data.get("verified"), data.get("final"))


def test_a_user_without_a_number() -> None:
    """An anonymous WhatsApp user is named by the channel's id, in statuses and in messages."""
    contacts = [{"profile": {"name": "Ann"}, "wa_id": "", "user_id": "US.13491208655302741918"}]
    status = {"id": "w", "status": "read", "timestamp": "1660019986"}
    data = decode("whatsapp", {"statuses": [status], "contacts": contacts})["data"]
    assert ("US.13491208655302741918", "US.13491208655302741918") == (data["to"], data["to_user_id"])
    message = {"id": "w", "type": "text", "text": {"body": "x"}, "timestamp": "1660019986"}
    event = decode("whatsapp", {"messages": [message], "contacts": contacts})
    assert ("US.13491208655302741918", "US.13491208655302741918") == (event["data"]["from"], event["partitionkey"])


def test_a_contact_belongs_to_its_own_items() -> None:
    """The name of one person is not given to the message or status of another in the same callback."""
    contact = {"profile": {"name": "Ann"}, "wa_id": "15550100200"}
    for party, items, name in (("from", "messages", "sender_name"), ("recipient_id", "statuses", "to_name")):
        sent = [{"id": number, party: number} for number in ("15550100200", "15550100300", "15550100200")]
        body = orjson.dumps({items: sent, "contacts": [contact]})
        request = CallbackRequest("POST", "/callbacks/whatsapp", b"", {}, body, NOW)
        events = CALLBACKS["whatsapp"].decode(request, DecodeContext()).events
        assert ["Ann", None, "Ann"] == [event.data.get(name) for event in events]
        assert "Ann" == decode("whatsapp", {items: sent[1:2], "contacts": [contact]})["data"][name]


def test_costs_in_two_currencies() -> None:
    """A price in CNY is never shown under the customer's currency, in statuses, sums and incoming messages."""
    costs = [{"currency": "USD", "price": 0.1, "foreign_price": 0.01}, {"currency": "USD", "price": 0.2}]
    data = decode("whatsapp", {"statuses": [{"id": "w", "status": "sent", "costs": costs}]})["data"]
    assert {"amount": "0.01", "currency": "USD", "amount_cny": "0.1"} == data["costs"][0]
    assert {"amount_cny": "0.2"} == data["costs"][1]
    assert {"amount_cny": "0.3"} == data["price"]
    message = {"id": "w", "from": "628110000001", "type": "text", "cost": {"currency": "USD", "price": 0.2}}
    assert {"amount_cny": "0.2"} == decode("whatsapp", {"messages": [message]})["data"]["price"]


def test_a_call_with_several_costs() -> None:
    """The price of a call is the sum of its costs, and none where they have two currencies."""
    call = {"call_id": "c", "costs": [{"direction": 1, "currency": "EUR", "price": 0.12}] * 2}
    data = decode("whatsapp", {"calls": [call]})["data"]
    assert ({"total": "0.24", "currency": "EUR"}, "outbound") == (data["price"], data["direction"])
    call["costs"] = [{"currency": "EUR", "price": 0.12}, {"currency": "USD", "price": 0.12}]
    assert "price" not in decode("whatsapp", {"calls": [call]})["data"]


def test_an_id_made_of_the_content() -> None:
    """A reply without an id has one: the same reply the same, another text or time another."""
    reply = {"phone": "628110000001", "message": {"text": "hi"}, "sendTime": "2023-07-17 14:40:50"}
    others = [{**reply, "message": {"text": "ho"}}, {**reply, "sendTime": "2023-07-17 14:40:51"}]
    ids = [decode("viber", body)["data"]["message_id"] for body in (reply, dict(reversed(reply.items())), *others)]
    assert ids[0] == ids[1]
    assert 3 == len(set(ids))


def test_unit_and_total() -> None:
    """A unit price is multiplied where the count is known, exactly; a call that was not connected has no total."""
    price = decode("sms-dr", "messageid=m&price=0.0451&size=3&currency=USD")["data"]["price"]
    assert {"unit": "0.0451", "total": "0.1353", "currency": "USD"} == price
    assert {"unit": "0.0451"} == decode("sms-dr", "messageid=m&price=0.0451&currency=null")["data"]["price"]
    missed = "messageid=v&customer_price=0.036&size=2&result=未接通"
    assert {"unit": "0.036"} == decode("voice-dr", missed)["data"]["price"]


def test_what_a_path_adds() -> None:
    """A path's country makes numbers whole that carry none, and events name the schemas' address."""
    settings = loads(
        "ingest: {callbacks: {nxlink-call: {default_country: '62'}}}\n"
        "topics: {schema_base_url: 'https://schemas.example.com/x/'}\n",
        {},
    )
    path = endpoints(settings.ingest, settings.topics.schema_base_url).find("/callbacks/nxlink-call")
    assert path is not None
    event = decode("nxlink-call", {"callId": "c", "callee": "08110000001", "caller": "1001"}, path.context)
    data = event["data"]
    assert ("+628110000001", "1001", True) == (data["to"], data["from"], data["from_national"])
    assert "to_national" not in data
    assert "https://schemas.example.com/x/v1/call.event.json" == event["dataschema"]
