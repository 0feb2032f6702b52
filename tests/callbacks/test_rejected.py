"""What was not understood is kept whole, and the reason says what it probably was."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.callbacks import CALLBACKS, CallbackRequest, DecodeContext
from gateway.callbacks.credentials import Credentials, redacted
from gateway.callbacks.rejected import SCHEMA, TOPIC, TYPE, explained, rejected_event, request_from
from gateway.callbacks.signature import SignaturePolicy
from gateway.errors import CallbackRejected
from gateway.event import Event, NotAnEvent, from_json
from tests.callbacks.samples import Sample, all_samples
from tests.pace import best
from tests.rows import rows

NOW = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ERROR = CallbackRejected("the identifying field is missing or empty", "messageid")


def request(body: bytes = b"", query: bytes = b"", path: str = "/callbacks/sms-dr", **headers: str) -> CallbackRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CallbackRequest("POST", path, query, named, body, NOW, "203.0.113.7")


def again(event: Event) -> CallbackRequest:
    """The request as it comes back from the event's bytes."""
    return request_from(from_json(event.to_json(), TOPIC))


@given(
    st.binary(max_size=100),
    st.binary(max_size=50),
    st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
)
def test_any_request_comes_back(body: bytes, query: bytes, headers: dict[str, str]) -> None:
    """Whatever its bytes, the request that comes back has the same method, path, query, body and arrival."""
    sent = CallbackRequest("POST", "/callbacks/sms-dr", query, headers, body, NOW, "203.0.113.7")
    back = again(rejected_event("sms-dr", None, sent, ERROR))
    assert (sent.method, sent.path, sent.query, sent.body, sent.received_at, sent.peer) == (
        back.method,
        back.path,
        back.query,
        back.body,
        back.received_at,
        back.peer,
    )


def test_the_event_tells_why() -> None:
    """Topic, type, reason, field path and account are there, and every member is in the schema."""
    event = rejected_event("sms-dr", "main", request(b"status=2"), ERROR)
    assert (TOPIC, TYPE, "sms-dr", "main") == (event.topic, event.type, event.subject, event.account)
    assert (ERROR.reason, "messageid", "status=2") == (event.data["reason"], event.data["field"], event.data["body"])
    assert set(event.data) <= set(SCHEMA["properties"])
    assert set(SCHEMA["required"]) <= set(event.data)


def test_the_same_request_has_the_same_id() -> None:
    """A repeat is a repeat here too, and never has the id of the event that it becomes after a fix."""
    body = request(b"messageid=m-1")
    first = rejected_event("sms-dr", None, body, ERROR)
    assert first.id == rejected_event("sms-dr", None, body, CallbackRejected("another")).id
    assert first.id != CALLBACKS["sms-dr"].decode(body, DecodeContext()).events[0].id
    assert first.id != rejected_event("sms-dr", None, request(b"messageid=m-2"), ERROR).id
    assert first.id != rejected_event("sms-dr", None, request(b"", b"messageid=m-1"), ERROR).id


def test_after_a_fix_it_decodes() -> None:
    """What comes back decodes as the request itself would."""
    sent = request(b'{"callId":"c"}', content_type="application/json")
    back = again(rejected_event("nxlink-call", None, sent, ERROR))
    decode = CALLBACKS["nxlink-call"].decode
    assert decode(sent, DecodeContext()).events[0].to_json() == decode(back, DecodeContext()).events[0].to_json()


def test_no_credential_is_stored() -> None:
    """Tokens of headers, path, query and form body are cut out, and the header with the signature."""
    secret = "s3cret"
    sent = request(
        b"a=1&token=s3cret&b=2",
        b"token=s3cret&c=3",
        "/callbacks/sms-dr/s3cre%74",
        token=secret,
        x_gateway_token=secret,
        x_api_token=secret,
        authorization=f"Bearer {secret}",
        cookie=secret,
        sign="abc",
        ts="1735787045000",
        content_type="text/plain",
    )
    event = rejected_event("sms-dr", None, sent, ERROR, Credentials(tokens=(secret,)))
    assert secret.encode() not in event.to_json()
    assert ("a=1&b=2", "c=3", "/callbacks/sms-dr/") == (event.data["body"], event.data["query"], event.data["path"])
    assert {"ts": "1735787045000", "content-type": "text/plain"} == event.data["headers"]


SECRET = "TOP/S3CRET wörd"
ENCODED = ("TOP/S3CRET wörd", "TOP%2FS3CRET+w%C3%B6rd", "TOP%2fS3CRET%20w%c3%b6rd", "%54OP/S3CR%45T wörd")


@rows("form_of_it", ENCODED)
@rows("name", ["referer", "x-original-uri", "x-forwarded-uri", "x-original-url", "x-anything"])
def test_no_credential_is_stored_by_a_side_door(name: str, form_of_it: str) -> None:
    """A token that a proxy repeats in a header, or that stands anywhere in path, query or body, becomes a mark."""
    address = f"/callbacks/sms-dr?token={form_of_it}&a=1"
    multipart = f'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n{form_of_it}\r\n--b--\r\n'
    for body in (multipart, f'{{"callback":"{address}"}}', f"seen={form_of_it}&b=2"):
        sent = request(body.encode(), f"from={form_of_it}".encode(), f"/callbacks/x{form_of_it}y", **{name: address})
        event = rejected_event("sms-dr", None, sent, ERROR, Credentials(tokens=(SECRET, "another")))
        assert "/callbacks/sms-dr?token=***&a=1" == event.data["headers"][name]
        assert ("/callbacks/x***y", "from=***") == (event.data["path"], event.data["query"])
        assert body.replace(form_of_it, "***") == event.data["body"]


def spellings(secret: str) -> Iterator[bytes]:
    """Other ways to write a secret."""
    data = secret.encode()
    yield from (data, secret.upper().encode(), secret.lower().encode(), secret.swapcase().encode())
    yield from (quote(secret, safe="").encode(), quote(quote(secret, safe=""), safe="").encode())
    yield b"".join(b"%%%02X" % byte for byte in data)
    yield "".join(f"\\u{ord(letter):04x}" for letter in secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    yield from (data.hex().encode(), data.hex().upper().encode())
    for before in (b"", b"u", b"us", b"user:"):
        for behind in (b"", b":", b":p", b":pw"):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(before + data + behind)
                yield encode(before + data + behind).rstrip(b"=")
                yield quote(encode(before + data + behind), safe="").encode()


@rows("secret", ["s3cret", SECRET, "tok+en/ab==", "ÄÖÜ-tökén", "a" * 40, "a.b*c[d]"])
def test_a_token_is_cut_out_however_it_is_written(secret: str) -> None:
    """In any letter case, percent-encoded once or twice, as JSON escapes, in hex, and in base64 at any offset."""
    for text in spellings(secret):
        for around in (b"%b", b"http://x/?q=%b&a=1", b"Basic %b", b"[%b]"):
            left = redacted(around % text, ("another-token", secret))
            assert b"***" in left, text
            assert redacted(left, (secret,)) == left
            assert not any(part in left for part in (text, secret.encode()))
            # Of base64 the neighbours of the secret are left.
            assert len(left) <= len(around % b"***") + 20


@given(st.text(min_size=6, max_size=12), st.binary(max_size=60), st.booleans())
def test_cutting_out_leaves_no_secret_and_no_more_than_once(secret: str, data: bytes, is_text: bool) -> None:
    """Of any secret in any bytes, also twice in a row."""
    token = secret.encode("utf-8", "replace")
    left = redacted(data + b" " + token + b" " + token, (token.decode(),), is_text=is_text)
    assert left.endswith(b" *** ***")
    assert redacted(data, ()) == data


def test_a_kept_request_cannot_be_sent_again() -> None:
    """No header with a signature is kept, the platform's or another sender's, configured or not; nor a copy of it."""
    digest = base64.b64encode(bytes(range(200, 232))).decode()
    names = ["sign", "webhook-signature", "svix-signature", "x-hub-signature", "x-hub-signature-256", "x-sign-256",
             "x-twilio-signature", "stripe-signature", "x-slack-signature", "x-shopify-hmac-sha256", "signature",
             "x-signature", "paypal-transmission-sig", "x-line-signature", "x_sign", "x-hmac",
             "xsign"]  # fmt: skip
    for name in names:
        for value in (digest, "sha256=" + "5f" * 32, f"t=1,v1={digest}", "7550759DA06333F20D0640BE09355E34"):
            copies = {"referer": f"https://p/?sign={quote(value, safe='')}", "x-copy": f"{name}: {value.lower()}"}
            kept = {"ts": "1", "accesskey": "k", "action": "mo", "webhook-id": "7", "x-design": "d", "x-signal": "s"}
            sent = request(b"a=1", f"q={quote(value)}".encode(), f"/callbacks/{value}")
            event = rejected_event("sms-dr", None, sent._replace(headers={name: value, **copies, **kept}), ERROR)
            assert kept == {key: text for key, text in event.data["headers"].items() if key not in copies}
            secret = max(re.findall(r"[0-9A-Za-z+/]{16,}", value), key=len)
            for text in (*event.data["headers"].values(), event.data["query"], event.data["path"]):
                assert secret.lower() not in unquote(text).lower()


def test_the_configured_header_is_not_kept_whatever_its_name() -> None:
    """Of another sender, whose signature may be called anything."""
    policy = SignaturePolicy("hmac", ("s",), header="X-Check")
    sent = request(b"a=1", x_check="0" * 64, x_other="kept")
    event = rejected_event("shop", None, sent, ERROR, Credentials(signature=policy))
    assert ({"x-other": "kept"}, []) == (event.data["headers"], event.data["signed_headers"])


def test_hostile_signature_headers_cost_little() -> None:
    """A signature of 16 kB that is repeated everywhere is kept in a moment."""
    value = ",".join(f"{number:016d}" for number in range(900))
    sent = request(b"", value.encode(), "/" + value, **{f"x_sign_{n}": value for n in range(30)}, referer=value)
    assert best(lambda: rejected_event("sms-dr", None, sent, ERROR), 0.5) < 0.5


def test_two_that_a_decoder_may_tell_apart_are_two() -> None:
    """What differs in a header, the method, the query or the body is kept; what only a proxy adds is no difference."""
    base = request(b"a=1", b"b=2", action="dr", x_event="one", ts="1")
    others = [
        base._replace(headers={**base.headers, "action": "mo"}),
        base._replace(headers={**base.headers, "x-event": "two"}),
        base._replace(headers={**base.headers, "x-more": ""}),
        base._replace(headers={"action": "dr", "ts": "1"}),
        base._replace(method="GET"),
        base._replace(query=b""),
        base._replace(body=b"a=1b=2", query=b""),
        base._replace(body=b"a=2"),
    ]
    ids = [rejected_event("did-sms", None, one, ERROR).id for one in (base, *others)]
    assert len(set(ids)) == len(ids)
    secret = Credentials(tokens=("s3cret-token",))
    for same in (
        base,
        base._replace(headers={**base.headers, "traceparent": "00-1", "sign": "a", "token": "s3cret-token"}),
        base._replace(query=b"b=2&token=s3cret-token"),
        base._replace(headers=dict(reversed(base.headers.items()))),
    ):
        assert ids[0] == rejected_event("did-sms", None, same, ERROR, secret).id


def test_under_a_signature_only_what_is_signed_tells_two_apart() -> None:
    """One captured request with many queries takes the disk of one; two signed ones are two."""
    credentials = Credentials(signature=SignaturePolicy("general", ("s",)))
    base = request(b"a=1", accesskey="k", action="dr", biztype="4", ts="1", sign="0" * 32)
    first = rejected_event("did-sms", None, base, ERROR, credentials)
    noise = base._replace(method="GET", path="/x", query=b"c=3", headers={**base.headers, "x-more": "1"}, peer="")
    assert first.id == rejected_event("did-sms", None, noise, ERROR, credentials).id
    for name in ("accesskey", "action", "biztype", "ts"):
        other = base._replace(headers={**base.headers, name: "2"})
        assert first.id != rejected_event("did-sms", None, other, ERROR, credentials).id


def test_a_token_is_no_part_of_a_number_or_a_word_in_json() -> None:
    """There it may stand by chance: the same request must be decoded again from what is kept."""
    body = '{"callbackType":1,"callee":"+8613123456789","url":"https://x/123456","at":"callback"}'
    event = rejected_event("sms-dr", None, request(body.encode()), ERROR, Credentials(tokens=("123456", "callback")))
    kept = '{"callbackType":1,"callee":"+8613123456789","url":"https://x/***","at":"***"}'
    assert kept == event.data["body"]


def test_a_short_token_mangles_no_payload() -> None:
    """A token that may stand anywhere by chance is cut out where tokens stand, and nowhere else."""
    sent = request(b"token=1234&phone=6281234567", b"token=1234", "/callbacks/sms-dr/1234")
    event = rejected_event("sms-dr", None, sent, ERROR, Credentials(tokens=("1234",)))
    assert ("phone=6281234567", "", "/callbacks/sms-dr/") == (
        event.data["body"],
        event.data["query"],
        event.data["path"],
    )


@rows("name", ["x-api-key", "api-key", "apikey", "x-auth", "x-auth-token", "x-secret", "set-cookie"])
def test_headers_whose_name_says_secret_are_not_stored(name: str) -> None:
    """Whatever they hold, and whoever's it is."""
    sent = request(**{name: "theirs", "x-author": "kept", "x-request-id": "kept"})
    event = rejected_event("sms-dr", None, sent, ERROR)
    assert {"x-author": "kept", "x-request-id": "kept"} == event.data["headers"]


def test_other_senders_keep_their_source() -> None:
    """A webhook of another sender has the source here that its events have."""
    assert "/callbacks/shop-orders" == rejected_event("shop-orders", None, request(), ERROR).source
    assert "/nxcloud/sms-dr" == rejected_event("sms-dr", None, request(), ERROR).source


def test_a_field_named_token_that_is_not_ours_stays() -> None:
    """Without a token of our own the sender's field of that name is payload."""
    event = rejected_event("sms-dr", None, request(b"token=theirs"), ERROR, Credentials())
    assert "token=theirs" == event.data["body"]


def test_bytes_that_are_not_text_are_kept() -> None:
    """A body that is not UTF-8 is kept in base64, headers with stray bytes as text."""
    event = rejected_event("sms-dr", None, request(b"\xff\x00", b"\xfe", x_name="\udcff"), ERROR)
    assert "body" not in event.data
    assert "query" not in event.data
    assert "\\xff" == orjson.loads(event.to_json())["data"]["headers"]["x-name"]


@pytest.mark.parametrize("data", [{}, {"method": "POST"}, {"method": 1, "path": "", "query": 5, "headers": None}])
def test_another_event_is_no_request(data: dict[str, object]) -> None:
    """An event of another kind is told by its type, not by a crash."""
    event = Event("i", "s", "t", "t", "s", "p", "t", "r", data)
    with pytest.raises(NotAnEvent):
        request_from(event)


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
